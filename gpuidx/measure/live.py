# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole program that reads simulated frames over ZeroMQ: its rate to the file, and where CPU time goes."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuidx.errors import GpuidxError, SourceError
from gpuidx.measure.processes import cpu_seconds, descendants, thread_seconds
from gpuidx.serving import Outgoing, ServeSettings, serve

POLL = 0.02
"""Seconds between two looks at the stream."""

PATIENCE = 300.0
"""Seconds that a program may write nothing for: at first it may have to be compiled."""

LEAST_FRAMES = 3
"""That a measurement goes on for, however slow the program is."""


class Sender:
    """Messages from a thread of this process; a context that ends it.

    Parameters
    ----------
    messages
        What is sent, as fast as it is taken.
    kind, address
        Of the socket: ``"push"`` or ``"rep"``.

    Attributes
    ----------
    address
        To connect to.
    """

    def __init__(self, messages: Iterable[Outgoing], kind: str, address: str) -> None:
        self._messages = messages
        self._settings = ServeSettings(serve=kind, bind=address, queue=2)
        self._stop, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._error: GpuidxError | None = None
        self.address = address

    def _serve(self) -> None:
        try:
            serve(self._messages, self._settings, self._is_ready, self._stop)
        except GpuidxError as error:
            self._error = error
            self._ready.set()

    def _is_ready(self, address: str) -> None:
        self.address = address
        self._ready.set()

    def __enter__(self) -> "Sender":
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class StreamCount:
    """Counts what a growing stream holds."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._rest = path, 0, b""
        self.chunks = self.hits = self.crystals = 0

    def look(self) -> int:
        """Read what has come since the last time; gives the number of whole chunks."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
            self._at += len(new)
            whole, _, self._rest = (self._rest + new).rpartition(b"\n")
            self.chunks += whole.count(b"----- End chunk")
            self.hits += whole.count(b"hit = 1")
            self.crystals += whole.count(b"--- Begin crystal")
        return self.chunks


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """What a program did while it was watched.

    Attributes
    ----------
    n_frame, seconds
        Frames that came into the file, and how long that took.
    hits, indexed
        Share of all frames with enough peaks, and crystals a frame, of the whole stream.
    main, network
        CPU seconds a frame of the main process' first thread, and of its others.
    workers
        Of all other processes.
    source
        Of this process, which sends.
    """

    n_frame: int
    seconds: float
    hits: float
    indexed: float
    main: float
    network: float
    workers: float
    source: float

    @property
    def rate(self) -> float:
        """Frames per second to the file."""
        return self.n_frame / self.seconds

    @property
    def everything(self) -> float:
        """CPU seconds a frame of all processes but the source."""
        return self.main + self.network + self.workers

    @property
    def cores(self) -> float:
        """Cores that the program and the source had to themselves, on average."""
        return self.rate * (self.everything + self.source)


def watch(command: Sequence[str], stream: Path, seconds: float, log: Path, warm: int = 8) -> LiveRun:
    """Run a program that writes a stream, look at it for so many seconds, and stop it.

    Parameters
    ----------
    command, stream
        The program and what it writes; an older file is removed.
    seconds
        To look at it for, from the first *warm* frames on.
    log
        Takes what the program says.

    Raises
    ------
    SourceError
        If the program ends by itself, or writes nothing.
    """
    stream.unlink(missing_ok=True)
    count = StreamCount(stream)
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            _wait(lambda: count.look() >= warm, process, log)
            begun, first, before = time.monotonic(), count.look(), _spent(process.pid)
            end = begun + seconds
            _wait(
                lambda: time.monotonic() > end and count.look() >= first + LEAST_FRAMES,
                process, log, seconds + PATIENCE,
            )  # fmt: skip
            last, now, after = count.look(), time.monotonic(), _spent(process.pid)
        finally:
            _stop(process)
    n = last - first
    main, network, workers, source = (sum(one) / n for one in _differences(before, after))
    return LiveRun(
        n_frame=n, seconds=now - begun, hits=count.hits / count.chunks,
        indexed=count.crystals / count.chunks, main=main, network=network, workers=workers, source=source,
    )  # fmt: skip


def _wait(
    is_over: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path, longest: float = PATIENCE
) -> None:
    end = time.monotonic() + longest
    while not is_over():
        if process.poll() is not None or time.monotonic() > end:
            raise SourceError(f"{process.args!r} gives no frames: {log.read_text()[-1000:]}")
        time.sleep(POLL)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """As gpuidx and indexamajig both understand it."""
    if process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


Spent = tuple[dict[Any, float], dict[Any, float], dict[Any, float], dict[Any, float]]
"""CPU seconds of the main thread, the main process' other threads, other processes, the source."""


def _spent(pid: int) -> Spent:
    first, *others = thread_seconds(pid) or [0.0]
    below = {child: cpu_seconds(child) for child in descendants(pid)[1:]}
    return {0: first}, dict(enumerate(others)), below, {0: time.process_time()}


def _differences(before: Spent, after: Spent) -> list[list[float]]:
    return [
        [seconds - one.get(name, 0.0) for name, seconds in other.items()]
        for one, other in zip(before, after, strict=True)
    ]
