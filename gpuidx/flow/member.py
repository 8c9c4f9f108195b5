# SPDX-License-Identifier: GPL-3.0-or-later
"""One child as main sees it, how its tasks can end, and its place: when a successor starts."""

import os
import signal
import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from gpuidx.errors import WorkerError
from gpuidx.flow.channel import MainEnd, pack
from gpuidx.flow.child import Start, run_child
from gpuidx.flow.forkserver import start_child

Task = tuple[Any, ...]
"""Packed with MsgPack; the first item is the serial, an int unlike that of any other task in the pool."""

BACK_OFF = (0.1, 0.5, 2.0)
"""Waits in s before a child is started after one, two, more that died without having worked."""

MOST_FAILED_STARTS = 3
"""Deaths in a row before a child said that it is ready; then the run ends."""

MOST_KILLED_STARTS = 30
"""The same for those that somebody killed (the kernel for want of memory, a person): no fault of theirs.

A busy machine starts a child slowly, and so one that is killed often is often killed while it starts.
"""

_FORKSERVER_DIED = 255  # multiprocessing's exit code for a child that it knows nothing of any more


class Answer(NamedTuple):
    """A task that was answered.

    *values*: what came after the serial; *child*: who gave it, for a further task that it should have.
    """

    task: Task
    values: tuple[Any, ...]
    child: "Child"


class Crash(NamedTuple):
    """A task that was lost with the child that was at it.

    *reason*: ``"time limit"``, a signal (``"SIGSEGV"``), an exception (``"ValueError"``) or ``"exit 3"``;
    *detail*: the exception's text.
    """

    task: Task
    reason: str
    detail: str


Ended = Answer | Crash
"""How a task ended."""


class Child:
    """A process, main's end of its channel, and the tasks that it has not answered, oldest first.

    Attributes
    ----------
    own
        Tasks that wait for this very child.
    started
        When, by `time.monotonic`.
    since
        Its last sign of life while it has tasks.
    ready, worked
        Whether it said that it is ready; whether it has answered a task or died at one.
    verdict
        Why main killed it, if it did.
    error
        The exception that it ended by (its type and its text), if it could say so.
    """

    def __init__(self, start: Start, name: str) -> None:
        self.number, self.name = start.number, f"{name} {start.number}"
        self.process, sock = start_child(run_child, (start,), f"gpuidx {self.name}")
        self.channel = MainEnd(sock)
        self.tasks: dict[int, Task] = {}
        self.own: deque[Task] = deque()
        self.started = self.since = time.monotonic()
        self.ready = self.worked = False
        self.verdict = ""
        self.error: tuple[str, str] | None = None

    def load(self) -> int:
        """Give the number of its tasks."""
        return len(self.tasks)

    def send(self, tasks: list[Task]) -> bool:
        """Hand *tasks* over; gives False if the channel is full and has to be flushed later."""
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.update((task[0], task) for task in tasks)
        return self.channel.post(pack(tasks))

    def kill(self) -> None:
        """Kill it, to be called only while its channel has not ended: its number is its own until then."""
        if (
            self.process.pid is not None
        ):  # os.kill, for Process.kill does nothing once the forkserver has died
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def bury(self) -> "Death":
        """Wait for its end and close what belongs to it."""
        self.channel.close()
        self.process.join(1.0)
        if self.process.exitcode is None:
            self.kill()
            self.process.join(1.0)
        code = self.process.exitcode
        if code is not None:
            self.process.close()
        return Death(self, code)


class Death:
    """How a child ended.

    Attributes
    ----------
    reason
        ``"time limit"``, a signal (``"SIGSEGV"``), an exception (``"ValueError"``) or ``"exit 3"``.
    detail
        The exception's text.
    with_forkserver
        Whether it died because the forkserver did.
    by_others
        Whether it was killed, and not by main.
    """

    def __init__(self, child: Child, code: int | None) -> None:
        self.detail = ""
        self.with_forkserver = self.by_others = False
        if child.verdict:
            self.reason = child.verdict
        elif child.error:
            self.reason, self.detail = child.error
        elif code == _FORKSERVER_DIED:
            self.reason, self.with_forkserver = "forkserver died", True
        elif code is not None and code < 0:
            self.reason = _signal_name(-code)
            self.by_others = code == -signal.SIGKILL
        else:
            self.reason = f"exit {code}"

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Place:
    """A child's place in the pool, with what is remembered of those that had it before.

    Parameters
    ----------
    must_work
        A start has failed unless the child then answers a task.

    Attributes
    ----------
    child
        Who has it; None while a start is not yet due.
    due
        When the next child may start, by `time.monotonic`.
    """

    def __init__(self, must_work: bool = False) -> None:
        self.child: Child | None = None
        self._must_work = must_work
        self.due = 0.0
        self._failed_starts = self._killed_starts = self._idle_deaths = 0

    def was_ready(self) -> None:
        """Its child said that it is ready."""
        if not self._must_work:
            self._failed_starts = self._killed_starts = 0

    def has_worked(self) -> None:
        """Its child has answered a task, or died at one: nothing is wrong with starting another."""
        self._failed_starts = self._killed_starts = self._idle_deaths = 0

    def vacate(self, child: Child, death: Death) -> None:
        """Its child has died: decide when the next may start.

        At once as a rule; a child that ends again and again without having worked would otherwise be
        started dozens of times a second.

        Raises
        ------
        WorkerError
            If too many in a row died before they were ready, or had worked where they must.
        """
        self.child = None
        self.due = time.monotonic()
        if child.worked or death.with_forkserver:
            return
        self._idle_deaths += 1
        if not child.ready or self._must_work:
            was_killed = death.by_others and not child.ready
            self._failed_starts += not was_killed
            self._killed_starts += was_killed
            if self._failed_starts >= MOST_FAILED_STARTS or self._killed_starts >= MOST_KILLED_STARTS:
                times = self._failed_starts + self._killed_starts
                what = "had worked" if child.ready else "was ready"
                raise WorkerError(f"{child.name} ended {times} times before it {what}: {death}")
            strikes = self._failed_starts + 3 * self._killed_starts // MOST_KILLED_STARTS
            self.due += BACK_OFF[min(max(strikes, 1), len(BACK_OFF)) - 1]
        elif self._idle_deaths > 1:
            self.due += BACK_OFF[min(self._idle_deaths, len(BACK_OFF)) - 1]
