# SPDX-License-Identifier: GPL-3.0-or-later
"""Running gpuidx as a user does: a server on a socket, the program as a process, the stream read back."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from gpuidx.cell import parse_cell
from gpuidx.geometry import parse_geometry
from gpuidx.lattice import primitive_axes, same_lattice
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.frames import SimulatedFrame, Simulator
from gpuidx.simulation.messages import encode
from gpuidx.simulation.settings import FrameSettings
from gpuidx.simulation.truth import FrameTruth
from gpuidx.stream.reader import read_stream
from gpuidx.stream.records import StreamChunk

SIZE = 768
PATIENCE = 120
"""Seconds after which a test gives up waiting."""

PEAKS = ("--peaks=peakfinder8", "--threshold=10", "--min-snr=5", "--min-peaks=10")


@dataclass(frozen=True)
class Beamtime:
    """Simulated frames, their messages and their truth; about two thirds are hits."""

    frames: list[SimulatedFrame]
    messages: list[bytes]

    @property
    def truths(self) -> list[FrameTruth]:
        """What is in each frame."""
        return [frame.truth for frame in self.frames]


@cache
def beamtime(n_frame: int = 24, **settings: Any) -> Beamtime:
    """The same frames at each call."""
    geometry = parse_geometry(default_geometry(SIZE), "test.geom")
    chosen = FrameSettings(**({"seed": 5, "hit_fraction": 0.65} | settings))
    simulator = Simulator(geometry, parse_cell(LYSOZYME, "test.cell"), chosen)
    frames = [simulator.numbered(number) for number in range(n_frame)]
    messages = [bytes(encode(frame, geometry, with_image=True, least_photons=60).data) for frame in frames]
    return Beamtime(frames, messages)


class Server:
    """Sends given messages on a socket of its own thread, then stays silent.

    Parameters
    ----------
    kind
        ``"rep"``, ``"router"``, ``"pub"`` or ``"push"``.
    messages
        In this order; a message may be a list of parts.
    hold_after
        Messages after which it waits for `go`.
    """

    def __init__(
        self, kind: str, messages: Iterable[bytes | list[bytes]], hold_after: int | None = None
    ) -> None:
        self.kind, self.messages, self.hold_after = kind, list(messages), hold_after
        self.sent = 0
        self.held, self._go, self._over = threading.Event(), threading.Event(), threading.Event()
        self._context = zmq.Context()
        kinds = {"rep": zmq.REP, "router": zmq.ROUTER, "pub": zmq.XPUB, "push": zmq.PUSH}
        self._socket = self._context.socket(kinds[kind])
        self._socket.linger, self._socket.sndhwm = 0, 0
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._serve)

    @property
    def request(self) -> list[str]:
        """Options of a run that asks for each frame."""
        return [f"--zmq-input={self.address}", "--zmq-request=next"]

    def go(self) -> None:
        """Send the rest."""
        self._go.set()

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._go.set()
        self._thread.join()
        self._socket.close()
        self._context.term()

    def _wait_for_request(self) -> list[bytes] | None:
        while not self._over.is_set():
            if self._socket.poll(50):
                return self._socket.recv_multipart()
        return None

    def _wait_for_reader(self) -> list[bytes] | None:
        while not self._over.is_set():
            if self._socket.poll(50, zmq.POLLOUT):
                return []
        return None

    def _serve(self) -> None:
        if self.kind == "pub" and self._wait_for_request() is None:
            return
        for number, message in enumerate(self.messages):
            if number == self.hold_after:
                self.held.set()
                self._go.wait()
            request = self._wait_for_reader() if self.kind in ("pub", "push") else self._wait_for_request()
            if request is None:
                return
            parts = message if isinstance(message, list) else [message]
            self._socket.send_multipart((request[:-1] if self.kind == "router" else []) + parts)
            self.sent += 1
        self.held.set()
        self._over.wait()


@dataclass
class Done:
    """A run that has ended."""

    code: int
    log: str
    out: str
    chunks: list[StreamChunk] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)

    def count(self, what: str) -> int:
        """A line of the final table; 0 if it is not there."""
        for line in self.log.splitlines():
            number, _, name = line.strip().partition(" ")
            if name.strip() == what and number.isdigit():
                return int(number)
        return 0


def write_inputs(folder: Path, geometry: str | None = None, cell: str = LYSOZYME) -> None:
    """The geometry and cell files of a run."""
    (folder / "test.geom").write_text(geometry or default_geometry(SIZE))
    (folder / "test.cell").write_text(cell)


def start(
    folder: Path,
    *words: str,
    program: Sequence[str] = ("-m", "gpuidx"),
    environment: Mapping[str, str] | None = None,
    has_cell: bool = True,
) -> "subprocess.Popen[str]":
    """The program with the files of `write_inputs`; its log goes to a file.

    *environment* are variables on top of those of this process; *has_cell*: whether the cell is given.
    """
    given = ["-g", "test.geom", *(["-p", "test.cell"] if has_cell else []), "-o", "test.stream", *words]
    return launch(folder, given, program, environment)


def launch(
    folder: Path,
    words: Sequence[str],
    program: Sequence[str] = ("-m", "gpuidx"),
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """The program with just these words; its log goes to a file."""
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | dict(environment or {}),
        )


def finish(process: "subprocess.Popen[str]", folder: Path, stream: str = "test.stream") -> Done:
    """Wait for the end, and read what there is."""
    try:
        out, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    done = Done(process.returncode, (folder / "log").read_text(), out)
    path = folder / stream
    if path.exists():
        with read_stream(path) as stream:
            done.chunks = list(stream.chunks)
            done.audit = stream.audit
            assert stream.truncated is None
    return done


def wait_for_word(process: "subprocess.Popen[str]", folder: Path, text: str) -> None:
    """Wait until the log of a run says so."""
    while text not in (folder / "log").read_text():
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        assert process.poll() is None, (folder / "log").read_text()


def workers(pid: int) -> list[int]:
    """Process numbers of the workers of a run, by that of its main process; needs ``/proc``."""

    def children(of: int) -> list[int]:
        return [int(word) for word in Path(f"/proc/{of}/task/{of}/children").read_text().split()]

    return [worker for child in children(pid) for worker in children(child)]


def is_running(pid: int) -> bool:
    """Whether a process is there, and not dead and unwaited for; needs ``/proc``."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(folder: Path, *words: str) -> Done:
    """The program from start to end."""
    return finish(start(folder, *words), folder)


def numbers(chunks: Sequence[StreamChunk]) -> list[int]:
    """Truth numbers of the chunks, in the order of the numbers."""
    return sorted(int(chunk.headers["truth_id"]) for chunk in chunks)


def is_right(chunk: StreamChunk, truth: FrameTruth, centering: str = "P") -> bool:
    """Whether the first crystal of a chunk is the true lattice."""
    recip = chunk.crystals[0].recip
    assert recip is not None
    found, true = (primitive_axes(np.linalg.inv(r).T, centering) for r in (recip, truth.crystals[0].recip))
    return same_lattice(found, true)[0]


def same_content(ours: list[StreamChunk], theirs: list[StreamChunk], header: str = "truth_id") -> None:
    """Check that two runs over the same frames say the same of each."""
    by_truth = {chunk.headers[header]: chunk for chunk in theirs}
    assert len(ours) == len(theirs)
    for mine in ours:
        other = by_truth[mine.headers[header]]
        np.testing.assert_array_equal(mine.peaks, other.peaks)
        assert len(mine.crystals) == len(other.crystals)
        for crystal, same in zip(mine.crystals, other.crystals, strict=True):
            np.testing.assert_array_equal(crystal.recip, same.recip)
            np.testing.assert_array_equal(crystal.reflections, same.reflections)
