# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole program with ``--backend=cuda``: CuPy, the kernels and all processes, on a pretended device.

The way through the processes alone is tested in test_run_device.py, the kernels in backends/test_cuda_*.py.
"""

import io
from pathlib import Path

import emulator
import h5py
import pytest
from emulator.program import environment
from live import PEAKS, SIZE, Done, Server, beamtime, finish, numbers, same_content, start, write_inputs
from simulation.asapo.client import need_library
from thorough import sample, thorough

from gpuidx.simulation.asapo.server import StandIn
from gpuidx.simulation.detector import default_geometry
from gpuidx.simulation.encode_hdf5 import encode

emulator.need("g++", "cupy")

N_FRAME = 10

LATER = 123
"""Kernels after which a device fails: 7 of the search and 53 of the trials in the warm-up and again in the
first batch, and some of the second."""


def through(
    folder: Path, *words: str, n_frame: int = N_FRAME, messages=None, geometry: str | None = None, **device
) -> Done:
    """A whole run over the first frames of `beamtime`; *device* are settings of the pretended device."""
    folder.mkdir()
    write_inputs(folder, geometry)
    log = folder / "device.log"
    with Server("rep", messages or beamtime().messages[:n_frame]) as server:
        process = start(
            folder, *server.request, *PEAKS, f"--max-frames={n_frame}", "--copy-header=truth_id", *words,
            environment=environment(log=log, **device) if device else {},
        )  # fmt: skip
        done = finish(process, folder)
    assert done.code == 0, done.log
    lost = done.count("rejected")
    assert lost or numbers(done.chunks) == list(range(n_frame))
    assert len(done.chunks) == n_frame - lost
    assert done.count("received") == n_frame
    messages = log.read_text().splitlines() if log.exists() else []
    assert all(line.endswith(("device lost", "kernel never ends")) for line in messages)
    return done


@pytest.fixture(scope="module")
def of_cpu(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """What the CPU finds in the same frames."""
    return through(tmp_path_factory.mktemp("runs") / "cpu", "--backend=cpu")


@pytest.mark.parametrize("order", sample(["lazy", "eager", 3, 4], 4))
def test_a_device_gives_the_stream_that_the_cpu_gives(tmp_path: Path, of_cpu: Done, order) -> None:
    done = through(tmp_path / "cuda", "--backend=cuda", "--gpu-batch=4", "-j2", order=order)
    assert "backend: cuda (device 0: Pretended device" in done.log
    assert "done on the CPU" not in done.log
    same_content(done.chunks, of_cpu.chunks)


def test_a_device_lost_in_mid_run_is_replaced(tmp_path: Path, of_cpu: Done) -> None:
    done = through(
        tmp_path / "lost", "--backend=cuda", "--gpu-batch=2", lose_after=LATER,
        lose_once=str(tmp_path / "once"), order="eager",
    )  # fmt: skip
    assert (tmp_path / "once").exists()
    assert "1  device processes replaced" in done.log
    assert "a kernel failed, or the device is lost" in done.log
    assert "Traceback" not in done.log
    same_content(done.chunks, of_cpu.chunks)


@thorough
def test_a_device_lost_again_and_again_leaves_the_frames_to_the_cpu(tmp_path: Path, of_cpu: Done) -> None:
    done = through(tmp_path / "lost", "--backend=auto", "--gpu-batch=2", lose_after=LATER, order="lazy")
    assert "frames done on the CPU" in done.log
    same_content(done.chunks, of_cpu.chunks)


@thorough
def test_a_device_that_hangs_is_replaced(tmp_path: Path, of_cpu: Done) -> None:
    done = through(
        tmp_path / "stuck", "--backend=cuda", "--gpu-batch=2", "--task-limit=4", hang_after=LATER,
        lose_once=str(tmp_path / "once"), order="eager",
    )  # fmt: skip
    assert "device processes replaced" in done.log
    same_content(done.chunks, of_cpu.chunks)


def test_a_device_without_enough_memory_leaves_everything_to_the_cpu(tmp_path: Path, of_cpu: Done) -> None:
    done = through(tmp_path / "small", "--backend=auto", "--gpu-memory=0.001", order="eager")
    assert "going on on the CPU" in done.log
    assert "GB may be used" in done.log
    same_content(done.chunks, of_cpu.chunks)


def test_a_device_that_is_demanded_and_cannot_start_is_an_error(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    with Server("rep", beamtime().messages[:1]) as server:
        words = (*PEAKS, "--max-frames=1", "--backend=cuda", "--gpu-memory=0.001")
        process = start(tmp_path, *server.request, *words, environment=environment(order="eager"))
        done = finish(process, tmp_path)
    assert done.code == 1, done.log
    assert "going on" not in done.log
    assert done.log.splitlines()[-1].startswith("gpuidx: --backend=cuda: device process 0 ended")
    assert "GB may be used" in done.log.splitlines()[-1]


@thorough
def test_two_devices_share_the_frames(tmp_path: Path, of_cpu: Done) -> None:
    done = through(
        tmp_path / "two", "--backend=cuda", "--gpu-devices=0,1", "--gpu-batch=2", "-j2", devices=2,
        order="lazy",
    )  # fmt: skip
    assert "device 1" in done.log
    same_content(done.chunks, of_cpu.chunks)


DATA = "/entry/data/data"
SPOILED = 4


def compressed_messages() -> tuple[list[bytes], str]:
    """The same frames as HDF5 with bitshuffle-LZ4, one with a damaged block; and the geometry for them."""
    frames = beamtime().frames[:N_FRAME]
    text = default_geometry(SIZE).replace("data = detector_data", f"data = {DATA}")
    for name in ("beam_energy", "detector_distance"):
        text = text.replace(f"= {name} ", f"= {frames[0].headers[name]!r} ")
    messages = [
        encode(frame.image, {"truth_id": number}, data=DATA, compression="bslz4")
        for number, frame in enumerate(frames)
    ]
    with h5py.File(io.BytesIO(messages[SPOILED])) as file:
        chunk = file[DATA].id.get_chunk_info(0)
    damaged = bytearray(messages[SPOILED])
    begin = chunk.byte_offset + 16  # of the first block, behind the head and its length
    damaged[begin : begin + 40] = b"\xff" * 40
    messages[SPOILED] = bytes(damaged)
    return messages, text


def test_compressed_frames_are_decoded_on_the_device_and_give_the_stream_of_the_cpu(tmp_path: Path) -> None:
    messages, geometry = compressed_messages()
    given = {"messages": messages, "geometry": geometry}
    ours = through(tmp_path / "cuda", "--backend=cuda", "--gpu-batch=4", "-j2", order="lazy", **given)
    assert "bitshuffle-LZ4 of whole frames, which the device decodes" in ours.log
    theirs = through(tmp_path / "cpu", "--backend=cpu", **given)
    for done in (ours, theirs):
        assert done.count("rejected") == 1
        assert "rejected: damaged image" in done.log
    assert "1  frames done on the CPU" in ours.log
    same_content(ours.chunks, theirs.chunks)


def test_frames_of_asapo_go_through_a_device_and_are_acknowledged(tmp_path: Path, of_cpu: Done) -> None:
    need_library()
    n_frame = 4
    write_inputs(tmp_path)
    with StandIn(streams={"run1": beamtime().messages[:n_frame]}) as server:
        server.finish("run1")
        process = start(
            tmp_path, f"--asapo-endpoint={server.endpoint}", f"--asapo-token={server.token}",
            f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}", "--asapo-group=g1",
            "--asapo-stream=run1", "--asapo-acks", *PEAKS, "--copy-header=truth_id", "--backend=cuda",
            "--gpu-batch=4", environment=environment(order="lazy"),
        )  # fmt: skip
        done = finish(process, tmp_path)
        assert done.code == 0, done.log
        assert server.group("run1", "g1").acknowledged == set(range(1, n_frame + 1))
    assert "backend: cuda (device 0: Pretended device" in done.log
    assert "done on the CPU" not in done.log
    same_content(done.chunks, [c for c in of_cpu.chunks if int(c.headers["truth_id"]) < n_frame])
