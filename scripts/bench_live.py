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
from dataclasses import dataclass
from pathlib import Path

import zmq
from bench_common import PEAK_OPTIONS, header, load, make_frames, row

from gpuidx.geometry import parse_geometry
from gpuidx.simulation.messages import encode

TICK = os.sysconf("SC_CLK_TCK")
WARM = 10
"""Frames that are processed before the measurement begins."""


@dataclass
class Cost:
    """CPU time per frame, ms, of the worker and of all processes together; frames indexed."""

    worker: float
    everything: float
    indexed: int


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


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in children for found in descendants(int(child)))]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def chunks(path: Path) -> int:
    return path.read_bytes().count(b"----- End chunk -----") if path.exists() else 0


def wait_for(path: Path, n_chunk: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a stream has so many chunks."""
    while chunks(path) < n_chunk:
        if process.poll() is not None:
            raise SystemExit(f"the program ended early with {process.returncode}")
        time.sleep(0.02)


def measure(command: list[str], stream: Path, server: Replies, n_frame: int) -> Cost:
    """Run a program until it has written *n_frame* chunks; costs after the first `WARM`."""
    server.sent, server.limit = 0, WARM
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(stream, WARM, process)
    time.sleep(0.3)
    pids = descendants(process.pid)
    before = {pid: cpu_seconds(pid) for pid in pids}
    server.limit = n_frame
    wait_for(stream, n_frame, process)
    time.sleep(0.3)
    spent = {pid: cpu_seconds(pid) - before[pid] for pid in pids}
    text = stream.read_text()
    process.send_signal(signal.SIGUSR1)
    server.limit = 1 << 60
    process.wait(30)
    per_frame = 1e3 / (n_frame - WARM)
    below = [seconds for pid, seconds in spent.items() if pid != process.pid]
    return Cost(max(below) * per_frame, sum(spent.values()) * per_frame, text.count("--- Begin crystal"))


def hits(folder: Path, n_frame: int) -> None:
    """A whole hit of 4 megapixels, -j1."""
    made = make_frames(folder, 20)
    geometry = parse_geometry((folder / "message.geom").read_text(), "message.geom")
    messages = [
        bytes(encode(_renamed(frame), geometry, with_image=True, least_photons=60).data)
        for frame in made.frames
    ]
    endpoint = f"ipc://{folder}/bench.sock"
    common = [
        f"--zmq-input={endpoint}", "--zmq-request=next", "--data-format=msgpack",
        "-g", str(folder / "message.geom"), "-p", str(folder / "bench.cell"), "-j", "1", *PEAK_OPTIONS,
    ]  # fmt: skip
    with Replies(messages, endpoint) as server:
        ours = measure(_ours(common, folder), folder / "ours.stream", server, n_frame + WARM)
        print(
            f"\nA whole 4M hit over ZeroMQ, -j1, CPU time; {ours.indexed} of {n_frame + WARM} indexed; "
            f"{load()}"
        )
        header()
        for name, words, goals in (
            ("asdf", ["--indexing=asdf"], ("20 times", "15 times")),
            (
                "xgandalf, fast execution",
                ["--indexing=xgandalf", "--xgandalf-fast-execution"],
                ("40 times", "30 times"),
            ),
        ):
            theirs = _theirs(common, words, folder, server, max(10, n_frame // 5))
            row(f"worker, beside {name}", ours.worker, theirs and theirs.worker, goals[0])
            row(f"all processes, beside {name}", ours.everything, theirs and theirs.everything, goals[1])


def _renamed(frame):  # type: ignore[no-untyped-def]
    """The frame with the header names of the message geometry."""
    from dataclasses import replace

    energy, clen = frame.headers["/entry/energy"], frame.headers["/entry/clen"]
    return replace(frame, headers={"beam_energy": energy, "detector_distance": clen})


def _ours(common: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "gpuidx", *common, "-o", str(folder / "ours.stream")]


def _theirs(common: list[str], words: list[str], folder: Path, server: Replies, n_frame: int) -> Cost | None:
    from shutil import which

    program = which("indexamajig")
    if program is None:
        return None
    stream = folder / "theirs.stream"
    stream.unlink(missing_ok=True)
    command = [program, *common, "-o", str(stream), *words, f"--temp-dir={folder}"]
    return measure(command, stream, server, n_frame + WARM)


def small(folder: Path) -> None:
    """Small messages: the main process, the start, and the time from a worker's death to an answer."""
    import msgpack
    from stress import GEOMETRY, PIXELS, good

    assert PIXELS.size
    (folder / "small.geom").write_text(GEOMETRY)
    endpoint = f"ipc://{folder}/small.sock"
    stream = folder / "small.stream"
    command = [
        sys.executable, "-m", "gpuidx", f"--zmq-input={endpoint}", "--zmq-request=next", "-g",
        str(folder / "small.geom"), "-o", str(stream), "-j", "1", "--indexing=none", "--peaks=peakfinder8",
    ]  # fmt: skip
    messages = [msgpack.packb(good(1))]
    starts = [_start(command, stream, messages, endpoint) for _ in range(3)]
    stream.unlink()
    with Replies(messages, endpoint) as server:
        server.limit = 500
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(stream, 500, process)
        before, first = cpu_seconds(process.pid), 500
        server.limit += 20000
        wait_for(stream, first + 20000, process)
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
        while not chunks(stream):
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
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        hits(Path(name), options.frames)
        small(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
