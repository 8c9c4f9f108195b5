# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper process that says which frames a file holds (`gpuidx.formats.events`).

It is a process of its own because only a library that may die on a damaged file can tell, and because a
file system may hang.  One question is one line in JSON, one answer one line.  A file at which the helper dies
counts as unreadable, and the helper is started again.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import zmq

from gpuidx.errors import SourceError

HELPER = ("-m", "gpuidx.formats.events")
"""Arguments for Python that start the helper."""

STARTS = 3
"""Times that a helper may die before it is ready."""


class Question(NamedTuple):
    """What is asked about a file: its event, None for all of its frames, and whether it may be awaited."""

    filename: str
    event: str | None
    waited: bool


class Answer(NamedTuple):
    """What the helper says of a file.

    Attributes
    ----------
    frames
        Paths, joined by slashes, and how many frames there are along each dimension; none for a question
        with an event.
    error
        Why it cannot be read.
    absent
        Whether it is not there; only said of files that may be awaited.
    """

    frames: list[tuple[str, list[int]]] = []  # noqa: RUF012  (never changed)
    error: str = ""
    absent: bool = False


class Expander:
    """Asks the helper about files; answers come in the order of the questions.

    Parameters
    ----------
    geometry
        Name of the geometry file.
    """

    def __init__(self, geometry: str) -> None:
        self.geometry = geometry
        self._asked: deque[Question] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._poller: zmq.Poller | None = None
        self._fd = -1
        self._ready = False
        self._failures = 0
        self._rest = b""

    def open(self, poller: zmq.Poller) -> None:
        """Start the helper; its signals are its own, a Ctrl-C reaches only the main process."""
        self._poller = poller
        self._process = process = subprocess.Popen(
            [sys.executable, *HELPER, self.geometry],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._ready, self._rest = False, b""
        poller.register(self._fd, zmq.POLLIN)

    def ask(self, question: Question) -> None:
        """Put a question; the caller keeps them few, so that the pipe never fills."""
        self._asked.append(question)
        self._send(question)

    def _send(self, question: Question) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(
            BrokenPipeError
        ):  # then the other pipe ends too, and the question is put again
            self._process.stdin.write(json.dumps(question).encode() + b"\n")

    def notice(self, events: Mapping[Any, int]) -> Iterator[Answer]:
        """Answers that have come.

        Raises
        ------
        SourceError
            If the helper cannot be started.
        """
        if self._fd not in events:
            return
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if answer == "ready":
                self._ready, self._failures = True, 0
            else:
                self._asked.popleft()
                yield Answer(**answer)
        if not data:
            yield from self._replace()

    def _replace(self) -> Iterator[Answer]:
        """Start the helper again after its death; the file it was at is to blame, if it had begun."""
        assert self._poller is not None
        blamed = self._ready and bool(self._asked)
        if not self._ready:
            self._failures += 1
        self._end()
        if self._failures >= STARTS:
            raise SourceError("the helper that counts the frames in files dies at its start")
        if blamed:
            yield Answer(error=f"{self._asked.popleft().filename}: the reader of the file died")
        self.open(self._poller)
        for question in self._asked:
            self._send(question)

    def _end(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._poller is not None
        self._poller.unregister(self._fd)
        self._fd = -1
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process = None

    def close(self) -> None:
        """End the helper at once."""
        self._end()
