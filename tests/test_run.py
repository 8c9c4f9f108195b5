# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes in over a real socket, stream out: the whole program as a user runs it."""

import os
import signal
import time
from pathlib import Path

import h5py
import msgpack
import numpy as np
import pytest
from live import (
    PATIENCE,
    PEAKS,
    SIZE,
    Server,
    beamtime,
    finish,
    is_right,
    is_running,
    numbers,
    run,
    start,
    workers,
    write_inputs,
)
from thorough import sample

from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import default_geometry
from gpuidx.simulation.files import write_frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def check_against_truth(chunks: list, n_frame: int) -> None:
    truths = beamtime(n_frame).truths
    assert numbers(chunks) == list(range(n_frame))
    for chunk in chunks:
        truth = truths[int(chunk.headers["truth_id"])]
        assert chunk.hit == truth.hit
        assert bool(chunk.crystals) == truth.hit
        assert not chunk.crystals or is_right(chunk, truth)


@pytest.mark.parametrize("kind", ["rep", "router"])
def test_each_frame_on_request_is_in_the_stream_once_with_its_true_lattice(folder: Path, kind: str) -> None:
    sent = beamtime()
    with Server(kind, sent.messages) as server:
        done = run(
            folder,
            *server.request,
            "-j",
            "2",
            *PEAKS,
            f"--max-frames={len(sent.messages)}",
            "--copy-header=truth_id",
        )
    assert done.code == 0, done.log
    check_against_truth(done.chunks, len(sent.messages))
    assert done.count("received") == len(sent.messages)
    assert f"Final: {len(sent.messages)} images processed" in done.log


def test_each_published_frame_is_in_the_stream_once_with_several_workers(folder: Path) -> None:
    sent = beamtime()
    with Server("pub", [[b"ondaframedata", message] for message in sent.messages]) as server:
        done = run(
            folder,
            f"--zmq-input={server.address}",
            "--zmq-subscribe=ondaframedata",
            "-j",
            "4",
            "--slots=30",
            *PEAKS,
            f"--max-frames={len(sent.messages)}",
            "--copy-header=truth_id",
        )
    assert done.code == 0, done.log
    check_against_truth(done.chunks, len(sent.messages))


def test_files_and_messages_give_the_same_stream(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sent = beamtime(6)
    with Server("rep", sent.messages) as server:
        live = run(
            folder,
            *server.request,
            *PEAKS,
            "--max-frames=6",
            "--copy-header=truth_id",
        )
    other = tmp_path_factory.mktemp("files")
    text = default_geometry(SIZE, "hdf5")
    write_inputs(other, text)
    geometry = parse_geometry(text, "test.geom")
    names = dict(
        zip(
            ("beam_energy", "detector_distance"),
            ("/entry/beam_energy", "/entry/detector_distance"),
            strict=True,
        )
    )
    frames = []
    for frame in sent.frames:
        headers = {names[name]: value for name, value in frame.headers.items() if name in names}
        frames.append(type(frame)(frame.image, headers, frame.truth, frame.detector))
    write_frames(iter(frames), 6, other / "frames", geometry)
    done = run(other, "-i", "frames.lst", *PEAKS)
    assert (live.code, done.code) == (0, 0), live.log + done.log
    assert len(done.chunks) == len(live.chunks) == 6
    by_event = {chunk.event: chunk for chunk in done.chunks}
    for ours in live.chunks:
        theirs = by_event[f"//{ours.headers['truth_id']}"]
        np.testing.assert_array_equal(ours.peaks, theirs.peaks)
        assert len(ours.crystals) == len(theirs.crystals)
        for mine, other_crystal in zip(ours.crystals, theirs.crystals, strict=True):
            np.testing.assert_array_equal(mine.recip, other_crystal.recip)
            np.testing.assert_array_equal(mine.reflections, other_crystal.reflections)


def test_a_bad_message_costs_one_line_and_nothing_else(folder: Path) -> None:
    good = beamtime(6).messages
    wrong = msgpack.unpackb(good[0], strict_map_key=False)
    without_energy = {key: value for key, value in wrong.items() if key != "beam_energy"}
    short = wrong | {"detector_data": wrong["detector_data"] | {"data": b"12345678"}}
    bad = [
        b"",
        b"x" * 40,
        good[1][:-1],
        msgpack.packb(without_energy),
        msgpack.packb(short),
        b"\x80\x04\x95" + b"p" * 40,
    ]
    messages = [good[0], *bad[:3], good[1], *bad[3:], *good[2:]]
    with Server("rep", messages) as server:
        done = run(
            folder,
            *server.request,
            *PEAKS,
            f"--max-frames={len(messages)}",
            "--copy-header=truth_id",
        )
    assert done.code == 0, done.log
    check_against_truth(done.chunks, 6)
    assert (done.count("received"), done.count("rejected")) == (len(messages), len(bad))
    assert "'beam_energy' is not in the message" in done.log
    assert "'detector_data/data' has 8 bytes" in done.log
    assert "pickle" in done.log
    assert "Traceback" not in done.log


def test_message_larger_than_a_slot_is_rejected_with_the_remedy(folder: Path) -> None:
    good = beamtime(6).messages
    with Server("rep", [b"\x81" + b"z" * 9_000_000, good[0]]) as server:
        done = run(
            folder,
            *server.request,
            *PEAKS,
            "--max-frames=2",
        )
    assert (done.code, len(done.chunks)) == (0, 1), done.log
    assert "--slot-size" in done.log


@pytest.mark.parametrize("number", sample([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], 3))
def test_a_signal_stops_cleanly_with_everything_received_written(folder: Path, number: int) -> None:
    messages = beamtime(6).messages
    with Server("rep", messages) as server:
        process = start(folder, *server.request, *PEAKS)
        assert server.held.wait(PATIENCE)
        process.send_signal(number)
        done = finish(process, folder)
    assert done.code == 0, done.log
    assert done.count("received") == len(done.chunks) == 6


def test_portable_ways_give_the_same_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUIDX_PORTABLE", "1")
    sent = beamtime(6)
    with Server("rep", sent.messages) as server:
        done = run(
            folder,
            *server.request,
            "-j",
            "2",
            *PEAKS,
            "--max-frames=6",
            "--copy-header=truth_id",
        )
    assert done.code == 0, done.log
    check_against_truth(done.chunks, 6)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker by /proc: run it on Linux")
def test_a_killed_worker_costs_at_most_the_frame_it_had(folder: Path) -> None:
    sent = beamtime(12)
    with Server("rep", sent.messages, hold_after=6) as server:
        process = start(
            folder,
            *server.request,
            *PEAKS,
            "--max-frames=12",
            "--copy-header=truth_id",
        )
        assert server.held.wait(PATIENCE)
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGKILL)
        server.go()
        done = finish(process, folder)
    assert done.code == 0, done.log
    assert done.count("lost with a worker") == 12 - len(done.chunks) <= 1
    assert len(set(numbers(done.chunks))) == len(done.chunks)


def test_peaks_of_messages_are_indexed_without_images(folder: Path) -> None:
    sent = beamtime(12)
    with Server("rep", sent.messages) as server:
        done = run(
            folder,
            *server.request,
            "--peaks=msgpack",
            "--no-image-data",
            "--no-revalidate",
            "--min-peaks=10",
            "--max-frames=12",
            "--copy-header=truth_id",
        )
    assert done.code == 0, done.log
    check_against_truth(done.chunks, 12)
    assert all(crystal.reflections is None for chunk in done.chunks for crystal in chunk.crystals)


def test_no_data_ends_the_run_with_3_after_the_timeout(folder: Path) -> None:
    begun = time.monotonic()
    done = run(folder, "--zmq-input=tcp://127.0.0.1:9", "--zmq-request=next", *PEAKS, "--no-data-timeout=0.5")
    assert done.code == 3
    assert "no data came" in done.log
    assert time.monotonic() - begun < PATIENCE


def test_wrong_geometry_ends_with_1_file_and_line(folder: Path) -> None:
    (folder / "test.geom").write_text(default_geometry(SIZE) + "q/fs = 1e3x\n")
    done = run(folder, "-i", "list", *PEAKS)
    assert done.code == 1
    line = len(default_geometry(SIZE).splitlines()) + 1
    assert f"test.geom:{line}:" in done.log
    assert not (folder / "test.stream").exists()


def test_wrong_cell_ends_with_1_and_opens_nothing(folder: Path) -> None:
    (folder / "test.cell").write_text("CrystFEL unit cell file version 1.0\n\nlattice_type = round\n")
    done = run(folder, "-i", "list", *PEAKS)
    assert done.code == 1
    assert "test.cell:3:" in done.log
    assert not (folder / "test.stream").exists()


def test_output_that_cannot_be_written_ends_with_5(folder: Path) -> None:
    (folder / "list").write_text("none.h5\n")
    done = run(folder, "-i", "list", *PEAKS, "-o", "missing/test.stream")
    assert done.code == 5
    assert "missing/test.stream" in done.log


@pytest.mark.parametrize("words", [["-o", "test.geom"], ["-i", "gone"], ["--slots=999999999"]])
def test_failed_start_overwrites_nothing(folder: Path, words: list[str]) -> None:
    (folder / "list").write_text("none.h5\n")
    (folder / "test.stream").write_text("CrystFEL stream format 2.3\nof an earlier run\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    process = start(folder, "-i", "list", *PEAKS, *words)
    assert process.wait(PATIENCE) in (1, 3, 5)
    process.communicate()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log"} == before


@pytest.mark.parametrize("number", sample([signal.SIGINT, signal.SIGTERM], 2))
def test_signal_while_compiling_ends_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "cold"))
    process = start(folder, "--zmq-input=tcp://127.0.0.1:9", "--zmq-request=next", *PEAKS)
    while "compiling" not in (folder / "log").read_text():
        assert process.poll() is None
    children = workers(process.pid)
    begun = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert "gpuidx: interrupted" in (folder / "log").read_text()
    end = time.monotonic() + PATIENCE  # those of the forkserver are killed when it has ended
    while any(map(is_running, children)):
        assert time.monotonic() < end


def test_missing_image_file_is_counted_and_the_run_goes_on(folder: Path) -> None:
    text = default_geometry(SIZE, "hdf5")
    write_inputs(folder, text)
    frame = beamtime(6).frames[0]
    with h5py.File(folder / "one.h5", "w") as file:
        file["/entry/data"] = frame.image[None]
        file["/entry/beam_energy"] = [frame.truth.photon_energy]
        file["/entry/detector_distance"] = [1e3 * frame.truth.clen]
    (folder / "list").write_text("gone.h5 //0\none.h5 //0\n")
    done = run(folder, "-i", "list", *PEAKS)
    assert done.code == 0, done.log
    assert len(done.chunks) == 1
    assert done.count("rejected") == 1
    assert "gone.h5" in done.log


@pytest.mark.parametrize("interval", ["0.1", "100"])  # during the run, or at its end
def test_empty_stage_is_named_with_likely_causes(folder: Path, interval: str) -> None:
    messages = beamtime(12).messages
    with Server("rep", messages) as server:
        done = run(
            folder,
            *server.request,
            "--peaks=peakfinder8",
            "--threshold=1e6",
            "--max-frames=12",
            "--advise-after=5",
            f"--status-interval={interval}",
        )
    assert "no peaks in any frame so far" in done.log
    assert "--threshold" in done.log


def test_profile_says_where_the_time_went(folder: Path) -> None:
    with Server("rep", beamtime(6).messages) as server:
        done = run(
            folder,
            *server.request,
            *PEAKS,
            "--max-frames=6",
            "--profile",
        )
    for stage in ("decode", "search and trials", "integrate", "write", "main process"):
        assert stage in done.out


def test_other_engines_are_accepted_with_a_notice_and_the_stream_says_file(folder: Path) -> None:
    sent = beamtime(6)
    with Server("rep", sent.messages) as server:
        done = run(
            folder,
            *server.request,
            *PEAKS,
            "--max-frames=6",
            "--indexing=xgandalf,asdf",
        )
    assert "one engine of its own" in done.log
    assert {chunk.indexed_by for chunk in done.chunks} == {"file", "none"}
    assert any(line.startswith("Generated by gpuidx") for line in done.audit)


def test_second_signal_stops_at_once_and_counts_what_was_in_flight(folder: Path) -> None:
    messages = beamtime(6).messages
    with Server("rep", messages) as server:
        process = start(folder, *server.request, *PEAKS, "--slots=6", "--zmq-requests=6")
        assert server.held.wait(PATIENCE)
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        while "stopping" not in (folder / "log").read_text():
            assert process.poll() is None
        time.sleep(0.15)  # signals closer together than this count as one: `timeout` sends two
        process.send_signal(signal.SIGTERM)
        done = finish(process, folder)
    assert done.code == 0, done.log
    assert done.count("received") == len(done.chunks) + done.count("dropped")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
def test_full_disk_ends_with_5(folder: Path) -> None:
    (folder / "list").write_text("none.h5\n")
    done = run(folder, "-i", "list", *PEAKS, "-o", "/dev/full")
    assert done.code == 5, done.log
    assert "/dev/full: cannot be written" in done.log
