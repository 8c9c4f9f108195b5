# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx simulate`` as a user calls it."""

import http.client
import os
import re
import signal
import subprocess
import sys
from contextlib import closing

import h5py
import msgpack
import numpy as np
import pytest
import zmq

from gpuidx.cell import read_cell
from gpuidx.commands.simulate import main
from gpuidx.errors import GpuidxError, InputFileError, OptionError, StreamError
from gpuidx.geometry import read_geometry
from gpuidx.simulation.truth import read_truth


def test_writes_frames_list_truth_geometry_and_cell(tmp_path, capsys):
    names = {name: str(tmp_path / name) for name in ("sim", "truth.jsonl", "a.geom", "a.cell")}
    argv = [f"--output={names['sim']}", "-n", "4", "--size=128", f"--truth={names['truth.jsonl']}"]
    argv += [f"--write-geometry={names['a.geom']}", f"--write-cell={names['a.cell']}", "--hit-fraction=0.5"]
    assert main(argv) == 0
    assert capsys.readouterr().out == f"4 frames in {names['sim']}.h5\n"
    assert read_geometry(names["a.geom"]).slab_shape == (128, 128)
    assert read_cell(names["a.cell"]).parameters[0] == 79.1
    truths = list(read_truth(names["truth.jsonl"]))
    assert [truth.number for truth in truths] == [0, 1, 2, 3]
    with h5py.File(names["sim"] + ".h5") as file:
        assert file["/entry/data"].shape == (4, 128, 128)


def test_written_geometry_and_cell_make_the_same_frames(tmp_path):
    first = [f"--output={tmp_path / 'one'}", "-n", "2", "--size=128", "--seed=5"]
    main([*first, f"--write-geometry={tmp_path / 'x.geom'}", f"--write-cell={tmp_path / 'x.cell'}"])
    main(
        [
            f"--output={tmp_path / 'two'}",
            "-n",
            "2",
            "--seed=5",
            "-g",
            str(tmp_path / "x.geom"),
            "-p",
            str(tmp_path / "x.cell"),
        ]
    )
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "two.h5") as two:
        np.testing.assert_array_equal(one["/entry/data"][:], two["/entry/data"][:])


def test_given_orientations_come_from_a_file(tmp_path):
    known = np.array([np.diag([1 / 79.1, 1 / 79.1, 1 / 37.9]), np.diag([1 / 79.1, -1 / 79.1, -1 / 37.9])])
    np.savetxt(tmp_path / "orientations.txt", known.reshape(2, 9))
    main(
        [
            f"--output={tmp_path / 'x'}", "-n", "3", "--size=128", f"--truth={tmp_path / 't'}",
            f"--orientations={tmp_path / 'orientations.txt'}",
        ]
    )  # fmt: skip
    recips = [truth.crystals[0].recip for truth in read_truth(tmp_path / "t")]
    np.testing.assert_allclose(recips, known[[0, 1, 0]])


def test_mask_of_bad_pixels_is_written_and_named(tmp_path):
    argv = ["--size=128", "-n", "2", "--bad-fraction=0.05", "--bad-value=-3", f"--output={tmp_path / 'x'}"]
    main([*argv, f"--mask={tmp_path / 'mask.h5'}", f"--write-geometry={tmp_path / 'x.geom'}"])
    with h5py.File(tmp_path / "mask.h5") as mask, h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(mask["/mask"][:] == 1, file["/entry/data"][0] == -3)
    panel = read_geometry(str(tmp_path / "x.geom")).panels[0]
    (source,) = panel.masks
    assert (source.data, source.bad_bits) == ("/mask", 1)
    assert source.file == str(tmp_path / "mask.h5")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give either --output"),
        (["--output=x", "--serve=rep"], "give either --output"),
        (["--output=x", "-n", "0"], "--frames is 0"),
        (["--output=x", "--asapo"], "give either --output"),
        (["--asapo", "--frames=0"], "needs a --rate"),
        (["--asapo", "--asapo-port=65536"], "--asapo-port is 65536"),
        (["--asapo", "--asapo-source="], "--asapo-source is empty"),
        (["--asapo", "--asapo-stream-frames=-1"], "--asapo-stream-frames is -1"),
        (["--asapo", "--format=dectris-v2"], "--format=dectris-v2 is for --serve"),
        (["--asapo", "--asapo-fault=nonsense"], "'nonsense' is not understood"),
        (["--serve=rep", "--size=65"], "--size is 65"),
        (["--serve=pull"], "invalid choice"),
        (["--output=x", "--format=cbf"], "--output writes HDF5 files"),
        (["--output=x", "--compression=no"], "--compression=no: HDF5 files have none, gzip"),
        (["--serve=rep", "--format=cbf", "--compression=lz4"], "--format=cbf has none, gzip"),
        (["--serve=rep", "--format=dectris-v1", "--dtype=f4"], "--format=dectris-v1 has u1, "),
        (["--serve=rep", "--format=dectris-v2", "--energy-spread=0.1"], "--energy-spread: --format=dect"),
        (["--serve=rep", "--format=hdf5", "--no-image"], "--no-image needs --format=msgpack"),
        (["--output=x", "--lattices=0"], "--lattices is 0"),
        (["--serve=rep", "--rate=-1"], "--rate is -1"),
        (["--serve=rep", "--memory=0"], "--memory is 0"),
        (["--output=x", "--frames=99999999999"], "it must be below"),
    ],
)
def test_wrong_options_are_refused(argv, message):
    with pytest.raises(OptionError, match=message):
        main(argv)


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(GpuidxError, match=r"no\.geom"):
        main(["--output=x", "-g", str(tmp_path / "no.geom")])
    with pytest.raises(InputFileError, match=r"no\.txt: nine numbers"):
        main(["--output=x", "--size=64", f"--orientations={tmp_path / 'no.txt'}"])
    for option in ("--write-geometry", "--write-cell", "--truth", "--mask"):
        with pytest.raises(StreamError, match="nowhere/x"):
            main([f"--output={tmp_path}/x", "--size=64", f"{option}={tmp_path}/nowhere/x"])
    with pytest.raises(GpuidxError, match="cannot be written"):
        main(["-n", "1", "--size=64", f"--output={tmp_path / 'no' / 'x'}"])


@pytest.fixture
def server():
    """Starts ``gpuidx simulate`` and gives the process and its address."""
    started = []

    def start(*argv):
        process = subprocess.Popen(
            [sys.executable, "-m", "gpuidx", "simulate", "--size=128", *argv],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        line = process.stdout.readline()
        address = re.search(r"tcp://\S+", line)
        return process, line, address and address[0]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def request_frames(address, n):
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = 20_000
        socket.connect(address)
        for _ in range(n):
            socket.send(b"next")
            yield msgpack.unpackb(socket.recv())


def test_serves_and_ends_behind_the_last_frame(server, tmp_path):
    process, line, address = server(
        "--serve=rep", "-n", "5", "--distinct=2", "--bin-keys", f"--truth={tmp_path / 't.jsonl'}"
    )
    assert line.startswith("serving 5 frames, 2 different, by rep at tcp://127.0.0.1:")
    frames = list(request_frames(address, 5))
    assert [frame["truth_id"] for frame in frames] == [0, 1, 0, 1, 0]
    assert frames[0]["detector_data"][b"shape"] == [128, 128]
    output, _ = process.communicate(timeout=20)
    assert output.startswith("5 frames sent")
    assert process.returncode == 0
    assert [truth.number for truth in read_truth(tmp_path / "t.jsonl")] == [0, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(server, number):
    process, _, address = server("--serve=router", "-n", "0", "--distinct=1", "--no-image")
    assert len(list(request_frames(address, 3))) == 3
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=20)
    assert output.startswith("3 frames sent")
    assert process.returncode == 0


def test_serves_over_asapo_until_it_is_stopped_and_keeps_the_token_to_itself(server, tmp_path):
    truth = tmp_path / "t.jsonl"
    process, line, _ = server(
        "--asapo",
        "--format=seedee",
        "-n",
        "3",
        "--distinct=1",
        "--asapo-token=secret",
        f"--truth={truth}",
    )
    assert line == "serving 3 frames, 1 different, over ASAP::O; to read them:\n"
    options = process.stdout.readline()
    endpoint = re.search(r"--asapo-endpoint=(\S+)", options)[1]
    with closing(http.client.HTTPConnection(endpoint, timeout=20)) as connection:
        connection.request("GET", "/asapo-discovery/v0.1/asapo-broker?token=secret&protocol=v0.7")
        assert connection.getresponse().read().startswith(b"127.0.0.1:")
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert re.fullmatch(r"[0-3] frames put\n", output)  # it may be told before they all are
    assert process.returncode == 0
    assert "secret" not in options + truth.read_text()


def test_memory_bounds_the_number_of_different_frames(server):
    _, line, _ = server("--serve=pub", "-n", "1000", "--memory=1")
    assert line.startswith("serving 1000 frames, 14 different")
