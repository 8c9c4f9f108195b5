# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers in processes of their own: every frame once, exact limits, stops, deaths, series."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from live import (
    PATIENCE,
    PEAKS,
    Server,
    beamtime,
    finish,
    numbers,
    start,
    wait_for_word,
    workers,
    write_inputs,
)
from test_run_pushed import HEADERS, geometry, v1_messages

N_FRAME = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def begin(folder: Path, server: Server, *words: str) -> "subprocess.Popen[str]":
    how = ["--zmq-pull"] if server.kind == "push" else ["--zmq-request=next"]
    more = ("--indexing=none", "--copy-header=truth_id", *PEAKS, *words)
    return start(folder, f"--zmq-input={server.address}", *how, *more)


@pytest.mark.parametrize(("kind", "limit"), [("router", 17), ("push", 17), ("push", N_FRAME)])
def test_each_frame_comes_once_through_two_receivers_and_the_limit_is_exact(
    folder: Path, kind: str, limit: int
) -> None:
    with Server(kind, beamtime(N_FRAME).messages) as server:
        done = finish(begin(folder, server, "--zmq-receivers=2", f"--max-frames={limit}"), folder)
        assert server.sent == limit or kind == "push"  # nobody was asked in vain
    assert done.code == 0, done.log
    assert done.count("received") == len(done.chunks) == len(set(numbers(done.chunks))) == limit


def test_a_signal_writes_what_receivers_have_and_asks_for_nothing_more(folder: Path) -> None:
    with Server("router", beamtime(N_FRAME).messages, hold_after=8) as server:
        process = begin(folder, server, "--zmq-receivers=2", "--zmq-requests=4")
        assert server.held.wait(PATIENCE)
        process.send_signal(signal.SIGTERM)
        wait_for_word(process, folder, "stopping")
        server.go()  # the answers to the requests under way come late
        done = finish(process, folder)
        assert server.sent <= 12
    assert done.code == 0, done.log
    assert numbers(done.chunks) == list(range(server.sent))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds receivers by /proc: run it on Linux")
def test_a_killed_receiver_is_replaced_and_counted(folder: Path) -> None:
    with Server("router", beamtime(N_FRAME).messages, hold_after=8) as server:
        process = begin(folder, server, "--zmq-receivers=2", "--zmq-requests=2", "--max-frames=16")
        assert server.held.wait(PATIENCE)
        for receiver in workers(process.pid)[1:]:  # the first is the one worker
            os.kill(receiver, signal.SIGKILL)
        wait_for_word(process, folder, "receiver 1 ended")
        wait_for_word(process, folder, "receiver 0 ended")
        server.go()
        done = finish(process, folder)
    assert done.code == 0, done.log
    assert done.count("receivers replaced") == 2
    assert done.count("received") == len(set(numbers(done.chunks))) == 16
    # Of the frames sent, those that are missing were answers to the two requests of the dead.
    counted = done.count("requests renewed") + done.count("messages lost with a receiver")
    assert max(numbers(done.chunks)) - 15 <= counted <= 4


def test_series_are_refused_by_two_receivers_and_taken_by_one(tmp_path: Path) -> None:
    distance = float(HEADERS["detector_distance"])
    write_inputs(tmp_path, geometry("photon_energy", f"{distance}", "/entry/data/data"))
    for receivers, code in ((2, 3), (1, 0)):
        with Server("push", v1_messages()) as server:
            words = (f"--zmq-receivers={receivers}", "--max-frames=12", "--copy-header=frame")
            done = finish(begin(tmp_path, server, *words), tmp_path)
        assert done.code == code, done.log
        assert ("give --zmq-receivers=1 instead of 2" in done.log) is (receivers == 2)
    ratio = {round(c.photon_energy / float(HEADERS["beam_energy"])) for c in done.chunks}
    assert ratio == {1, 2}
