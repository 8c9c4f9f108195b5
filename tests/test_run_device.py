# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through workers and device processes, in the whole program; the CPU backend plays the device."""

import os
import signal
import time
from pathlib import Path

import pytest
from live import (
    PATIENCE,
    PEAKS,
    Server,
    beamtime,
    finish,
    is_right,
    numbers,
    run,
    same_content,
    start,
    write_inputs,
)

from gpuidx.device import NO_ROOM

PROGRAM = str(Path(__file__).with_name("device_program.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def begin(folder: Path, server: Server, body: str, *words: str, n_device: int = 1, n_frame: int = 12):
    return start(
        folder,
        *server.request,
        *PEAKS,
        f"--max-frames={n_frame}",
        "--copy-header=truth_id",
        *words,
        program=(PROGRAM, body, str(n_device)),
    )


def through(folder: Path, body: str, *words: str, n_device: int = 1, n_frame: int = 12):
    """A whole run over the frames of `beamtime`, each of which must end as it would on the CPU."""
    sent = beamtime(n_frame)
    with Server("rep", sent.messages) as server:
        done = finish(begin(folder, server, body, *words, n_device=n_device, n_frame=n_frame), folder)
    check(done, n_frame)
    return done


def check(done, n_frame: int) -> None:
    assert done.code == 0, done.log
    assert "Traceback" not in done.log
    assert numbers(done.chunks) == list(range(n_frame))
    assert done.count("received") == n_frame
    for chunk in done.chunks:
        truth = beamtime(n_frame).truths[int(chunk.headers["truth_id"])]
        assert chunk.hit == bool(chunk.crystals) == truth.hit
        assert not chunk.crystals or is_right(chunk, truth)


def on_cpu(done) -> int:
    """How many frames went to the CPU, by the final lines."""
    lines = [line.strip() for line in done.log.splitlines() if "frames done on the CPU" in line]
    return sum(int(line.split("  ")[0].split()[-1]) for line in lines)


@pytest.mark.parametrize("body", ["healthy", "with_trials"])
def test_a_device_gives_the_stream_that_the_cpu_gives(
    folder: Path, body: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = through(folder, body, "-j", "2", n_frame=24)
    assert on_cpu(done) == 0
    assert "device processes replaced" not in done.log
    other = tmp_path_factory.mktemp("cpu")
    write_inputs(other)
    with Server("rep", beamtime().messages) as server:
        cpu = run(
            other, *server.request, *PEAKS, "--max-frames=24", "--copy-header=truth_id", "--backend=cpu"
        )
    same_content(done.chunks, cpu.chunks)


def test_several_devices_share_the_frames(folder: Path) -> None:
    done = through(folder, "healthy", "-j", "2", n_device=2, n_frame=24)
    assert on_cpu(done) == 0
    assert len((folder / "devices").read_text().split()) == 2


def test_a_single_frame_does_not_wait_for_others(folder: Path) -> None:
    with Server("rep", beamtime(6).messages, hold_after=1) as server:
        process = begin(folder, server, "healthy", "--gpu-max-latency=5", n_frame=6)
        assert server.held.wait(PATIENCE)
        while b"End chunk" not in (folder / "test.stream").read_bytes():
            assert process.poll() is None
        server.go()
        check(finish(process, folder), 6)


def test_frames_of_a_killed_device_process_are_done_by_its_successor(folder: Path) -> None:
    done = through(folder, "mortal")
    assert (folder / "died").exists()
    assert on_cpu(done) == 0
    assert "1  device processes replaced" in done.log
    assert "device process 0 ended (SIGKILL)" in done.log


def test_frames_of_a_device_process_that_fails_are_done_by_its_successor(folder: Path) -> None:
    done = through(folder, "failing", n_frame=6)
    assert (folder / "failed").exists()
    assert on_cpu(done) == 0
    assert "BackendError: an illegal memory access was encountered" in done.log


def test_frames_of_a_device_process_that_hangs_are_done_by_its_successor(folder: Path) -> None:
    done = through(folder, "slow", "--task-limit=1.5")
    assert (folder / "hung").exists()
    assert on_cpu(done) == 0
    assert "device process 0 ended (time limit)" in done.log


def test_frames_may_wait_for_a_full_batch_longer_than_for_an_answer(folder: Path) -> None:
    done = through(folder, "healthy", "--gpu-max-latency=3000", "--task-limit=1.5", n_frame=6)
    assert "time limit" not in done.log
    assert on_cpu(done) == 0


def test_frames_that_two_device_processes_died_of_are_done_on_the_cpu(folder: Path) -> None:
    done = through(folder, "doomed")
    assert on_cpu(done) > 0
    assert "frames done on the CPU: the device process died twice" in done.log


def test_a_run_whose_device_cannot_start_goes_on_on_the_cpu_and_says_so(folder: Path) -> None:
    done = through(folder, "broken")
    warnings = [line for line in done.log.splitlines() if "going on on the CPU" in line]
    assert len(warnings) == 1
    assert "BackendError: no CUDA device (made up)" in warnings[0]


def test_a_run_with_one_broken_device_of_two_goes_on_with_the_other(folder: Path) -> None:
    done = through(folder, "half_broken", n_device=2)
    assert on_cpu(done) == 0


def test_frames_that_a_device_cannot_do_are_done_on_the_cpu(folder: Path) -> None:
    done = through(folder, "small")
    assert f"6  frames done on the CPU: {NO_ROOM}" in done.log


def test_peaks_that_were_sent_along_need_no_device(folder: Path) -> None:
    with Server("rep", beamtime().messages) as server:
        process = begin(folder, server, "broken", "--peaks=msgpack", "--no-revalidate", n_frame=24)
        done = finish(process, folder)
    assert (done.code, len(done.chunks)) == (0, 24), done.log
    assert "leaves nothing for the device to do" in done.log


def _workers(pid: int, folder: Path) -> list[int]:
    """Process numbers of the workers: the forkserver's children that are no device process."""

    def children(of: int) -> list[int]:
        return [int(word) for word in Path(f"/proc/{of}/task/{of}/children").read_text().split()]

    devices = {int(word) for word in (folder / "devices").read_text().split()}
    return [worker for child in children(pid) for worker in children(child) if worker not in devices]


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers by /proc: run it on Linux"
)


@needs_proc
def test_frames_that_a_dead_worker_held_are_decoded_by_another(folder: Path) -> None:
    gate = folder / "gate"
    os.mkfifo(gate)
    with Server("rep", beamtime(12).messages, hold_after=4) as server:
        process = begin(folder, server, "gated")
        assert server.held.wait(PATIENCE)
        with gate.open("wb"):  # as soon as the device has a batch
            for worker in _workers(process.pid, folder):
                os.kill(worker, signal.SIGKILL)
            while "worker 0 ended (SIGKILL)" not in (folder / "log").read_text():
                assert process.poll() is None
            gate.unlink()
        server.go()
        done = finish(process, folder)
    assert done.code == 0, done.log
    lost = done.count("lost with a worker")
    assert lost <= 1
    assert len(set(numbers(done.chunks))) == len(done.chunks) == 12 - lost


@needs_proc
@pytest.mark.parametrize("n_signal", [1, 2])
def test_a_stop_finishes_what_was_received_and_a_second_one_drops_it(folder: Path, n_signal: int) -> None:
    gate = folder / "gate"
    os.mkfifo(gate)
    with Server("rep", beamtime(6).messages) as server:
        process = begin(folder, server, "gated", n_frame=12)
        assert server.held.wait(PATIENCE)
        with gate.open("wb"):
            process.send_signal(signal.SIGTERM)
            while "stopping" not in (folder / "log").read_text():
                assert process.poll() is None
            gate.unlink()
            if n_signal == 2:
                time.sleep(0.15)  # signals closer together than this count as one: `timeout` sends two
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)
        done = finish(process, folder)
    assert done.code == 0, done.log
    assert done.count("received") == len(done.chunks) + done.count("dropped") == 6
    assert bool(done.count("dropped")) == (n_signal == 2)


def test_portable_ways_give_the_same_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUIDX_PORTABLE", "1")
    done = through(folder, "mortal", "-j", "2")
    assert on_cpu(done) == 0


def test_the_status_says_how_full_batches_are(folder: Path) -> None:
    done = through(folder, "healthy", "--status-interval=0.1", n_frame=24)
    assert "% full" in done.log
