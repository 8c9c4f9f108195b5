# SPDX-License-Identifier: GPL-3.0-or-later
"""Crystals from a file, and records for alignment, in the whole program."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from live import PEAKS, Server, beamtime, finish, is_right, start, write_inputs
from millepede import read_records

from gpuidx import cli
from gpuidx.errors import Rejected, StreamError
from gpuidx.pipeline import write_records
from gpuidx.record import open_records

DEVICE = str(Path(__file__).with_name("device_program.py"))
N_FRAME = 4
FIRST = 5
"""Serial of the first frame."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def write_truth(folder: Path, left_out: int) -> None:
    """The true lattices of the frames but one, as frames on request are named."""
    lines = []
    for number, truth in enumerate(beamtime(N_FRAME).truths):
        for crystal in truth.crystals if number != left_out else ():
            axes = " ".join(f"{x:.7f}" for x in 10 * np.ravel(crystal.recip))
            lines.append(f"ZMQdata //{number + FIRST} {axes} 0 0 tPc\n")
    (folder / "true.sol").write_text("".join(lines))


@pytest.mark.parametrize("program", [("-m", "gpuidx"), (DEVICE, "with_trials", "1")], ids=["cpu", "device"])
def test_frames_get_the_crystals_of_the_file_and_each_crystal_a_record(folder: Path, program) -> None:
    sent = beamtime(N_FRAME)
    hits = [number for number, truth in enumerate(sent.truths) if truth.hit]
    write_truth(folder, left_out=hits[0])
    with Server("rep", sent.messages) as server:
        words = [*server.request, "--zmq-requests=1", *PEAKS, f"--max-frames={N_FRAME}"]
        words += ["--indexing=file", "--fromfile-input-file=true.sol", "--copy-header=truth_id"]
        words += [f"--serial-start={FIRST}", "--mille", "--mille-dir=made/here", "--mille-file=align.bin"]
        done = finish(start(folder, *words, program=program), folder)
    assert done.code == 0, done.log
    indexed = [chunk for chunk in done.chunks if chunk.crystals]
    assert sorted(int(chunk.headers["truth_id"]) for chunk in indexed) == hits[1:]
    assert {chunk.serial for chunk in done.chunks} == set(range(FIRST, FIRST + N_FRAME))
    for chunk in indexed:
        assert is_right(chunk, sent.truths[int(chunk.headers["truth_id"])])
        assert "gpuidx/score" not in chunk.crystals[0].notes
    assert f"frame {hits[0] + FIRST}: no crystal of this frame in true.sol" in done.log
    records = read_records(folder / "made/here/align.bin")
    for chunk, record in zip(indexed, records, strict=True):
        final = chunk.crystals[0].notes["predict_refine/final_residual"]
        assert sum(one.value**2 for one in record) == pytest.approx(float(final.split()[0]), rel=1e-4)


def test_records_that_do_not_fit_cost_the_frame() -> None:
    crystal = SimpleNamespace(alignment=b"12345")
    result = SimpleNamespace(crystals=(crystal, crystal))
    place = bytearray(11)
    assert write_records(result, memoryview(place)) == 10
    assert place == b"1234512345\0"
    with pytest.raises(Rejected, match="10 bytes, and room for 9; raise --slot-size"):
        write_records(result, memoryview(place)[:9])


def test_what_is_missing_or_wrong_in_the_file_is_said_before_anything_is_opened(folder: Path, capsys) -> None:
    source = ["--zmq-input=tcp://127.0.0.1:9", "--zmq-request=next", "-o", str(folder / "test.stream")]
    given = folder / "true.sol"
    words = [*source, "-g", str(folder / "test.geom"), "--indexing=file", f"--fromfile-input-file={given}"]
    assert cli.call(words) == 1
    assert "true.sol: cannot be read" in capsys.readouterr().err
    given.write_text("a b c\n")
    assert cli.call(words) == 1
    assert "true.sol:1: 3 words; expected 14" in capsys.readouterr().err
    given.write_text("")
    with (folder / "test.geom").open("a") as geometry:
        geometry.write("group_half = p0,p1\n")
    assert cli.call([*words, "--mille"]) == 1
    assert "test.geom: has no group 'all' of all panels" in capsys.readouterr().err
    assert not (folder / "test.stream").exists()


def test_a_file_of_another_kind_is_not_overwritten_with_records(folder: Path) -> None:
    with pytest.raises(StreamError, match="is not an output of an earlier run"):
        open_records(str(folder), "test.geom")
    (folder / "old.bin").write_bytes(np.array([6, 0, 7], np.int32).tobytes())
    open_records(str(folder), "old.bin").close()
    assert (folder / "old.bin").read_bytes() == b""
    record = np.array([6, 0, 7, 8, 0, 9, 10], np.int32).tobytes()
    (folder / "old.bin").write_bytes(record + record[:-1])
    going_on = open_records(str(folder), "old.bin", go_on=True)
    going_on.write(record)
    going_on.close()
    assert (folder / "old.bin").read_bytes() == record + record
    with pytest.raises(StreamError, match="cannot be made"):
        open_records(str(folder / "test.geom"), "new.bin")
