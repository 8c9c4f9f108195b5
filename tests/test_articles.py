# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines of CrystFEL's articles, manual, scripts and graphical interface, for gpuidx."""

import shlex
import signal
from pathlib import Path

import pytest
from live import PATIENCE, SIZE, Server, beamtime, finish, launch, wait_for_word
from simulation.asapo.client import need_library

from gpuidx import cli
from gpuidx.arguments import parse
from gpuidx.options import OWN, Options, notices
from gpuidx.simulation.asapo.server import StandIn
from gpuidx.simulation.detector import default_geometry

REQUEST = "--zmq-input=tcp://127.0.0.1:5002 --zmq-request=next -o output.stream -g Eiger.geom"
ASAPO = (
    "--asapo-endpoint=my-endpoint.facility.de:8400 --asapo-token=abc --asapo-beamtime=mybeamtime1234 "
    "--asapo-source=eiger --asapo-group=online --asapo-stream=run1 -g a.geom -o a.stream"
)

LINES = {
    "online, REQ": REQUEST,
    "online, SUB": "--zmq-input=tcp://127.0.0.1:5002 --zmq-subscribe=ondaframedata -o output.stream "
    "-g Eiger.geom",
    "manual": "-i mypatterns.lst -g mygeometry.geom --indexing=xgandalf --peaks=hdf5 -p mycell.pdb "
    "-o test.stream",
    "electrons": "-g sample.geom -i input-files.lst -o sample.stream --indexing=pinkindexer "
    "--pinkIndexer-reflection-radius=0.003 --peaks=zaef --threshold=300 --min-squared-gradient=50000",
    "batch script": "-i split-events-run1.lst00 -o streams/run1-00.stream --serial-start=1 -j 8 -g my.geom "
    "--peaks=zaef",
    "speed": "-i a.lst -g a.geom -o a.stream -j 8 --peaks=peakfinder8 --peakfinder8-fast --indexing=asdf "
    "--asdf-fast --no-retry --push-res=1.0 --integration=none --cell-parameters-only",
    "graphical interface": "-i files.lst -g expt.geom -o crystfel.stream -j 4 --peaks peakfinder8 "
    "--threshold=800.000000 --min-snr=5.000000 --min-pix-count=2 --max-pix-count=200 --local-bg-radius=3 "
    "--min-res=0 --max-res=1200 --peak-radius=4.0,5.0,7.0 --min-peaks=15 --indexing xgandalf,asdf -p my.cell "
    "--tolerance=5.000000,5.000000,5.000000,1.500000,1.500000,1.500000 --multi --no-check-peaks "
    "--integration rings-nocen-nosat-nograd --push-res=1.500000 --int-radius=4.0,5.0,7.0 "
    "--fix-profile-radius=0.010000 --fix-divergence=-1.000000 --no-non-hits-in-stream --copy-header=/a/b "
    "--copy-header=/c --serial-start=1",
    "graphical interface, pinkIndexer": "-i files.lst -g expt.geom -o crystfel.stream -j 4 --peaks cxi "
    "--no-half-pixel-shift --no-revalidate --peak-radius=4.0,5.0,7.0 --indexing pinkIndexer "
    "--wavelength-estimate=2.508000e-12 --camera-length-estimate=1.200000 "
    "--pinkIndexer-considered-peaks-count=4 --pinkIndexer-max-resolution-for-indexing=0.500000 "
    "--pinkIndexer-angle-resolution=2 --pinkIndexer-refinement-type=1 --pinkIndexer-tolerance=0.060000 "
    "--pinkIndexer-reflection-radius=0.003000 --pinkIndexer-max-refinement-disbalance=0.400000 "
    "--integration rings-cen --int-radius=4.0,5.0,7.0 --fix-divergence=0.000000 --no-refls-in-stream",
    "online, ASAP::O": ASAPO,
    "electrons, once more": "-g sample.geom -i input-files.lst -o output.stream --indexing=file "
    "--fromfile-input-file=sample.sol --no-refine --no-check-peaks --no-retry --int-radius=10,12,14",
    "graphical interface, Millepede": "-i files.lst -g expt.geom -o crystfel.stream --mille "
    "--mille-dir=mille --max-mille-level=99 --harvest-file=parameters.json",
}  # fmt: skip
"""Of CrystFEL's doc/articles: online.rst, without the dots at the ends and with the stream, which indexamajig
asks for; electrons.rst, and the options of speed.rst in a line; doc/man/indexamajig.1.md;
scripts/turbo-index-slurm; and what src/gui_index.c makes of set-ups as in doc/articles/tutorial.rst."""


def parsed(line: str) -> Options:
    return parse(Options, shlex.split(line), "gpuidx", "", version=cli.VERSION, own=OWN)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_command_lines_of_crystfel_are_taken_as_they_are(line: str) -> None:
    names = {word.split("=")[0] for word in shlex.split(line)}
    o = parsed(line)
    assert set(o.without_effect) == {n for n in names if n.startswith(("--pinkIndexer-", "--asdf-"))}
    assert len(notices(o)) == bool(o.without_effect)


def test_a_command_line_for_live_data_runs_unchanged_until_it_is_stopped(tmp_path: Path) -> None:
    """The other one, with SUB, differs in the socket alone, which tests/test_run.py has."""
    (tmp_path / "Eiger.geom").write_text(default_geometry(SIZE))
    with Server("rep", beamtime(6).messages) as server:
        words = shlex.split(REQUEST.replace("tcp://127.0.0.1:5002", server.address))
        process = launch(tmp_path, words)
        assert server.held.wait(PATIENCE)
        wait_for_word(process, tmp_path, "6 images processed")
        process.send_signal(signal.SIGUSR1)
        done = finish(process, tmp_path, "output.stream")
    assert done.code == 0, done.log
    assert len(done.chunks) == done.count("received") == 6
    assert all(chunk.hit for chunk in done.chunks)  # --min-peaks is 0


def test_a_command_line_for_asapo_runs_unchanged_until_the_stream_is_finished(tmp_path: Path) -> None:
    need_library()
    (tmp_path / "a.geom").write_text(default_geometry(SIZE))
    messages = beamtime(4).messages
    with StandIn(token="abc", beamtime="mybeamtime1234", source="eiger") as server:
        for message in messages:
            server.put("run1", message)
        server.finish("run1")
        words = shlex.split(ASAPO.replace("my-endpoint.facility.de:8400", server.endpoint))
        done = finish(launch(tmp_path, words), tmp_path, "a.stream")
    assert done.code == 0, done.log
    assert sorted(chunk.serial or 0 for chunk in done.chunks) == [1, 2, 3, 4]
    assert done.count("received") == 4
