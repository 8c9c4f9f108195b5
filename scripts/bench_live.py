# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole over ZeroMQ at -j1: CPU time per frame, beside indexamajig; the start, and restarts."""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import which

import msgpack
import zmq
from bench_common import PEAK_OPTIONS, header, load, make_frames, row

from gpuidx.geometry import parse_geometry
from gpuidx.measure.live import Sender, StreamCount, watch
from gpuidx.measure.processes import cpu_seconds, descendants
from gpuidx.serving import in_turn
from gpuidx.simulation.messages import encode

PROGRAM = [sys.executable, "-m", "gpuidx"]


class Replies:
    """A REP server of given messages; counts what it has sent, and can hold back."""

    def __init__(self, messages: Sequence[bytes], endpoint: str) -> None:
        self.messages, self.endpoint = messages, endpoint
        self.sent, self.limit = 0, 1 << 60
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Replies":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _serve(self) -> None:
        with zmq.Context() as context, context.socket(zmq.REP) as socket:
            socket.linger = 0
            socket.bind(self.endpoint)
            while not self._over.is_set():
                if self.sent < self.limit and socket.poll(20):
                    socket.recv()
                    socket.send(self.messages[self.sent % len(self.messages)], copy=False)
                    self.sent += 1
                elif self.sent >= self.limit:
                    self._over.wait(0.01)


def wait_for(count: StreamCount, n_chunk: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a stream has so many chunks."""
    while count.look() < n_chunk:
        if process.poll() is not None:
            raise SystemExit(f"the program ended early with {process.returncode}")
        time.sleep(0.02)


def hits(folder: Path, seconds: float) -> None:
    """A whole hit of 4 megapixels, -j1; `bench_race` compares rates."""
    made = make_frames(folder, 20)
    geometry = parse_geometry((folder / "message.geom").read_text(), "message.geom")
    messages = [encode(_renamed(frame), geometry, with_image=True, least_photons=60) for frame in made.frames]
    endpoint, stream = f"ipc://{folder}/bench.sock", folder / "bench.stream"
    words = [
        f"--zmq-input={endpoint}", "--zmq-request=next", "--data-format=msgpack", "-o", str(stream),
        "-g", str(folder / "message.geom"), "-p", str(folder / "bench.cell"), "-j", "1", *PEAK_OPTIONS,
    ]  # fmt: skip
    with Sender(in_turn(messages, 0), "rep", endpoint):
        ours = watch([*PROGRAM, *words], stream, seconds, folder / "log")
        print(f"\nA whole 4M hit over ZeroMQ, -j1, CPU time; {ours.indexed:.0%} indexed; {load()}")
        header()
        for name, more, goals in (
            ("asdf", ["--indexing=asdf"], ("20 times", "15 times")),
            (
                "xgandalf, fast execution",
                ["--indexing=xgandalf", "--xgandalf-fast-execution"],
                ("40 times", "30 times"),
            ),
        ):
            program = which("indexamajig")
            command = [program or "", *words, *more, f"--temp-dir={folder}"]
            theirs = watch(command, stream, seconds, folder / "log", warm=2) if program else None
            for what, of, goal in zip(
                ("worker", "all processes"), ("workers", "everything"), goals, strict=True
            ):
                times = [1e3 * getattr(run, of) for run in (ours, theirs) if run is not None]
                row(f"{what}, beside {name}", times[0], times[1] if theirs else None, goal)


def _renamed(frame):  # type: ignore[no-untyped-def]
    """The frame with the header names of the message geometry."""
    energy, clen = frame.headers["/entry/energy"], frame.headers["/entry/clen"]
    return replace(frame, headers={"beam_energy": energy, "detector_distance": clen})


def small(folder: Path) -> None:
    """Small messages: the main process, the start, and the time from a worker's death to an answer."""
    from stress import GEOMETRY, PIXELS, good

    assert PIXELS.size
    (folder / "small.geom").write_text(GEOMETRY)
    endpoint = f"ipc://{folder}/small.sock"
    stream = folder / "small.stream"
    command = [
        *PROGRAM, f"--zmq-input={endpoint}", "--zmq-request=next", "-g",
        str(folder / "small.geom"), "-o", str(stream), "-j", "1", "--indexing=none", "--peaks=peakfinder8",
    ]  # fmt: skip
    messages = [msgpack.packb(good(1))]
    starts = [_start(command, stream, messages, endpoint) for _ in range(3)]
    stream.unlink()
    with Replies(messages, endpoint) as server:
        server.limit = 500
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        count = StreamCount(stream)
        wait_for(count, 500, process)
        before = cpu_seconds(process.pid)
        server.limit += 20000
        wait_for(count, server.limit, process)
        main_ms = 1e3 * (cpu_seconds(process.pid) - before) / 20000
        deaths = [_death(process.pid, stream, server) for _ in range(7)]
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    print(f"\nSmall messages (17 kB), {load()}")
    print(f"start to first frame, warm cache    {statistics.median(starts):8.3f} s     goal: at most 3")
    print(f"main process, CPU                   {main_ms:8.3f} ms    goal: at most 0.1 a frame")
    print(f"worker's death to the next answer   {statistics.median(deaths):8.3f} s     goal: at most 0.2")


def _start(command: list[str], stream: Path, messages: list[bytes], endpoint: str) -> float:
    """Time from the command to the first chunk; with a server of its own, which knows no older requests."""
    stream.unlink(missing_ok=True)
    with Replies(messages, endpoint):
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        count = StreamCount(stream)
        while not count.look():
            time.sleep(0.002)
        seconds = time.monotonic() - begun
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    return seconds


def _death(pid: int, stream: Path, server: Replies) -> float:
    """Kill the idle worker, then send one message; the time until its chunk is there."""
    worker = descendants(pid)[-1]
    size = stream.stat().st_size
    os.kill(worker, signal.SIGKILL)
    begun = time.monotonic()
    server.limit = server.sent + 1
    while stream.stat().st_size == size:
        time.sleep(0.001)
    return time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="that each program is looked at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        hits(Path(name), options.seconds)
        small(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
