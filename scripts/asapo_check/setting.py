# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks share: numbered frames, made when they are asked for, runs, and what came of them."""

import os
import re
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import numpy as np

from gpuidx.simulation.asapo.server import StandIn
from gpuidx.stream.reader import read_stream

STREAM, GROUP = "run1", "g1"
NUMBER = 100000
"""Number in the frame of a message with the id 0: with it all have the same size."""

PATIENCE = 300.0
RESEND, TIMEOUT_MS, NO_DATA = 1.5, 200, 20
NO_ANALYSIS = ("--peaks=none", "--indexing=none")
GEOMETRY = """photon_energy = 9500 eV
clen = 0.1 m
adu_per_photon = 1
res = 13333
data = image
p/min_fs = 0
p/max_fs = {last}
p/min_ss = 0
p/max_ss = {last}
p/corner_x = -{half}
p/corner_y = -{half}
p/fs = x
p/ss = y
"""


class Numbered(ABC):
    """Messages made when they are asked for."""

    @abstractmethod
    def payload(self, number: int) -> bytes:
        """The message of a frame."""

    def put(self, server: StandIn, count: int, stream: str = STREAM) -> None:
        """Put further messages into a stream."""
        have = server.store.size(server.source, stream)
        for number in range(have + 1, have + count + 1):
            server.put(stream, lambda number=number: self.payload(number), size=len(self.payload(number)))


@dataclass(frozen=True)
class Frames(Numbered):
    """Frames of *side* squared pixels of 4 bytes, each with its number."""

    side: int

    def payload(self, number: int) -> bytes:
        """The frame of a message, MsgPack."""
        pixels = np.zeros((self.side, self.side), "<i4")
        image = {"type": "<i4", "shape": [self.side, self.side], "data": pixels.tobytes()}
        return bytes(msgpack.packb({"frame_number": NUMBER + number, "image": image}))


SMALL, LARGE = Frames(32), Frames(1024)
"""The second has 4 MB."""


@dataclass
class Outcome:
    """What a run said and wrote; *ids* counts the chunks of each message."""

    code: int
    log: str
    seconds: float
    ids: Counter[int] = field(default_factory=Counter)
    mixed: int = 0

    def wrong(self, expected: range | set[int]) -> list[str]:
        """What is wrong if just these messages should have come, each once."""
        return [
            *([f"exit code {self.code}: {self.log.splitlines()[-1:]}"] if self.code else []),
            *what_is_wrong(self.ids, expected),
            *([f"{self.mixed} chunks with another frame's data"] if self.mixed else []),
        ]


def what_is_wrong(ids: Counter[int], expected: range | set[int]) -> list[str]:
    """Whether messages are lost or doubled."""
    lost = sorted(set(expected) - set(ids))
    doubled = sorted(number for number, n in ids.items() if n > 1)
    strange = sorted(set(ids) - set(expected))
    found = {"lost": lost, "doubled": doubled, "not expected": strange}
    return [f"{len(numbers)} {what}: {numbers[:10]}" for what, numbers in found.items() if numbers]


class Run:
    """gpuidx on a server, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        server: StandIn,
        *words: str,
        frames: Frames = SMALL,
        group: str = GROUP,
        output: str = "out.stream",
        prefix: Sequence[str] = (),
    ) -> None:
        folder.mkdir(exist_ok=True)
        geometry = folder / "check.geom"
        geometry.write_text(GEOMETRY.format(last=frames.side - 1, half=frames.side / 2))
        self.output, self._log = folder / output, folder / "log"
        command = [
            *prefix, sys.executable, "-m", "gpuidx", f"--asapo-endpoint={server.endpoint}",
            f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}",
            f"--asapo-group={group}", f"--asapo-stream={STREAM}", f"--asapo-resend-after={RESEND}",
            f"--asapo-consumer-timeout={TIMEOUT_MS}", f"--no-data-timeout={NO_DATA}", "-g", str(geometry),
            "-o", str(self.output), "--copy-header=frame_number", *NO_ANALYSIS, *words,
        ]  # fmt: skip
        environment = os.environ | {"GPUIDX_ASAPO_TOKEN": server.token}
        self.begun = time.monotonic()
        with self._log.open("a") as log:
            self.begin_of_log = log.tell()
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def log(self) -> str:
        """What it has said."""
        return self._log.read_bytes()[self.begin_of_log :].decode(errors="replace")

    def wait(self, reads: bool = True) -> Outcome:
        """Wait for its end, and, if it is a file, read what it wrote with gpuidx's own reader."""
        try:
            code = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
        outcome = Outcome(code, self.log(), time.monotonic() - self.begun)
        if reads and self.output.is_file():
            outcome.ids, outcome.mixed = read_ids(self.output)
        return outcome


def read_ids(path: Path) -> tuple[Counter[int], int]:
    """The messages of a stream, and chunks in which id and data do not belong together."""
    ids: Counter[int] = Counter()
    mixed = 0
    with read_stream(path) as stream:
        for chunk in stream.chunks:
            ids[chunk.serial] += 1
            mixed += int(chunk.headers.get("frame_number", 0)) != NUMBER + chunk.serial
        if stream.truncated is not None:
            raise AssertionError(f"{path}: {stream.truncated}")
    return ids, mixed


def acknowledged(server: StandIn, group: str = GROUP) -> set[int]:
    return set(server.group(STREAM, group).acknowledged)


def wait_for_acknowledged(server: StandIn, count: int) -> bool:
    """Wait until so many messages of the first group are acknowledged."""
    return server.store.wait_until(lambda: len(server.group(STREAM, GROUP).acknowledged) >= count, PATIENCE)


def last_line(text: str) -> str:
    """The last line of a log, without numbers of frames."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*\d+ ", line)]
    return lines[-1] if lines else ""


def report(what: str, wrong: list[str], *columns: str) -> bool:
    """Print a row; whether all is right."""
    print(f"{what:<38}", *columns, "FAILED: " + "; ".join(wrong) if wrong else "ok", flush=True)
    return not wrong
