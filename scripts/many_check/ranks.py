# SPDX-License-Identifier: GPL-3.0-or-later
"""Several gpuidx on one source, as a launcher starts them; one can be killed and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 180.0
CHUNK_END = b"\n----- End chunk -----\n"
STATUS = b"images/sec"
"""In each status line, and there is none before the run has begun."""

SLOTS, REQUESTS = 8, 4
"""Messages that a gpuidx holds, and asks for at the same time."""

MOST_STARTS = 5

MOST_LOST = SLOTS + REQUESTS
"""Frames that can be lost with one that is killed, where the source keeps none."""


class Rank:
    """One of them; *words* say what the source is, and what is done with the frames."""

    def __init__(self, folder: Path, number: int, words: Sequence[str]) -> None:
        self.number = number
        self._starts = 0
        self.part, self._log = folder / f"out.{number}.stream", folder / f"log.{number}"
        self._command = [
            sys.executable, "-m", "gpuidx", *words, "-o", str(folder / "out.%r.stream"),
            f"--rank={number}", "--resume", "-j1", f"--slots={SLOTS}", f"--zmq-requests={REQUESTS}",
            "--copy-header=frame_number", "--status-interval=0.5",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        self._starts += 1
        with self._log.open("ab") as log:
            self._begin = log.tell()
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def log(self) -> bytes:
        """What it has said since it was last started."""
        return self._log.read_bytes()[self._begin :]

    def is_running(self) -> bool:
        """Whether it is past its start; one that did not come up is started again, as scripts/slurm does."""
        if self.process.poll() is not None:
            assert self._starts < MOST_STARTS, self.log().decode()
            self.start()
        return STATUS in self.log()

    def n_chunk(self) -> int:
        """Whole chunks in its stream."""
        return self.part.read_bytes().count(CHUNK_END) if self.part.exists() else 0

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def finish(self, with_signal: bool) -> int:
        """Wait for its end, perhaps after asking for it; gives the exit code."""
        if with_signal:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()


def until(what: str, is_so: Callable[[], bool]) -> None:
    """Wait for something that must come.

    Raises
    ------
    RuntimeError
        If it does not.
    """
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain: {what}")
        time.sleep(0.1)


def merge(folder: Path, ranks: Sequence[Rank], *words: str) -> str:
    """Join the parts with the program itself; gives what it said."""
    (folder / "merged.stream").unlink(missing_ok=True)
    command = [sys.executable, "-m", "gpuidx", "merge", str(folder / "merged.stream"), *words]
    said = subprocess.run(
        [*command, *(str(rank.part) for rank in ranks)], capture_output=True, text=True, env=os.environ
    )
    if said.returncode:
        raise RuntimeError(said.stderr)
    return said.stderr
