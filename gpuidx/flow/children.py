# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of child processes: tasks to the one with the fewest, answers as they come, the dead replaced.

It runs in main's one thread and waits in main's one poller.  At a death the order is: kill, read every answer
up to the end of file, and only then look at the shared table for the task it was at.  An answer that was
thrown away would leave a slot that holds a chunk already and is taken for a message again.
"""

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from typing import Any, NamedTuple

from gpuidx.errors import WorkerError
from gpuidx.flow.channel import MainEnd, pack, unpack
from gpuidx.flow.child import ERROR, IDLE, READY, Sealed, Start, run_child
from gpuidx.flow.forkserver import forkserver_pid, start_child
from gpuidx.flow.poller import READABLE, WRITABLE, Poller
from gpuidx.flow.slots import SharedTable

Task = tuple[Any, ...]
"""Packed with MsgPack; the first item is the serial, an int unlike that of any other task in the pool."""

BACK_OFF = (0.1, 0.5, 2.0)
"""Waits in s before a child is started that died without having worked, once, twice, more often."""

MOST_FAILED_STARTS = 3
"""Deaths in a row before a child said that it is ready; then the run ends."""

_BETWEEN_CHECKS = 0.05
_LONGEST_PAUSE = 1.0  # of main itself; children are not blamed for more than that
_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A task that was answered; *values* are what the child answered after the serial."""

    task: Task
    values: tuple[Any, ...]


class Crash(NamedTuple):
    """A task that was lost with the child that was at it.

    *reason*: ``"time limit"``, a signal (``"SIGSEGV"``), an exception (``"ValueError"``) or ``"exit 3"``;
    *detail*: the exception's text.
    """

    task: Task
    reason: str
    detail: str


class _Child:
    """A process, main's end of its channel, and the tasks that it has not answered, oldest first."""

    def __init__(self, number: int, process: ForkServerProcess, channel: MainEnd) -> None:
        self.number, self.process, self.channel = number, process, channel
        self.tasks: dict[int, Task] = {}
        self.started = self.since = time.monotonic()  # since: its last sign of life while it has tasks
        self.forkserver = forkserver_pid()
        self.ready = self.worked = False
        self.verdict = ""  # why it was killed by us
        self.error: tuple[str, str] | None = None

    def load(self) -> int:
        return len(self.tasks)

    def kill(self) -> None:
        """Kill it; its number cannot be another process's yet, for its channel has not ended."""
        if (
            self.process.pid is not None
        ):  # os.kill, for Process.kill does nothing once the forkserver has died
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def bury(self) -> tuple[str, str]:
        """Wait for its end and close what belongs to it; gives reason and detail of the death."""
        self.channel.close()
        self.process.join(1.0)
        if self.process.exitcode is None:
            self.kill()
            self.process.join(1.0)
        code = self.process.exitcode
        if code is not None:
            self.process.close()
        if self.verdict:
            return self.verdict, ""
        if self.error:
            return self.error
        if code is not None and code < 0:
            return _signal_name(-code), ""
        return f"exit {code}", ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Place:
    """One of the pool's places: its child, if there is one, and how often it failed in a row."""

    def __init__(self) -> None:
        self.child: _Child | None = None
        self.failed_starts = self.idle_deaths = 0
        self.due = 0.0


class Pool:
    """Child processes that all run the same body.

    Parameters
    ----------
    body
        ``"package.module:function"``, imported in the child alone and called as ``function(port, *args)``
        with a `gpuidx.flow.child.Port`.
    count
        Number of children.
    args
        Pickled at each start of a child, so small; `Slots` and `SharedTable` may be among them.
    depth
        Tasks that a child may have, the one that it is at included.
    batch
        Tasks sent to a child in one packet at most.
    task_limit
        s; a child that shows no answer for so long while it has tasks is replaced.
    start_limit
        s; a child that is not ready after that is replaced.
    counters
        Columns of int64 that each child has for its own counts (`Port.counters`), summed by `counter`.
    debug
        Children may dump core, and say where they were.
    name
        What messages call a child.

    Attributes
    ----------
    restarts
        Children started in place of dead ones.
    """

    def __init__(
        self,
        body: str,
        count: int,
        args: tuple[Any, ...] = (),
        *,
        depth: int = 2,
        batch: int = 1,
        task_limit: float = 30.0,
        start_limit: float = 300.0,
        counters: int = 0,
        debug: bool = False,
        name: str = "worker",
    ) -> None:
        self.body, self.count, self.depth, self.batch, self.name = body, count, depth, batch, name
        self.task_limit, self.start_limit = task_limit, start_limit
        self.restarts = 0
        self._table = SharedTable(count, 1 + counters)
        self._rows = [self._table.row(number) for number in range(count)]
        self._sealed, self._debug = Sealed((self._table, args)), debug
        self._places = [_Place() for _ in range(count)]
        self._by_fd: dict[int, _Child] = {}
        self._ready: list[_Child] = []
        self._waiting: deque[Task] = deque()
        self._poller: Poller | None = None
        self._checked = 0.0
        self._preload_reported = False

    def open(self, poller: Poller) -> None:
        """Start the children, and have *poller* wait for them from now on.

        Waits until the forkserver has loaded its modules.

        Raises
        ------
        WorkerError
            If no process can be started.
        """
        self._poller = poller
        self._checked = time.monotonic()
        for number in range(self.count):
            self._start(number)

    def give(self, task: Task) -> None:
        """Take *task* over; it goes to a child at the next `hand_out`."""
        self._waiting.append(task)

    def room(self) -> int:
        """Number of tasks that would go to a child at the next `hand_out`."""
        return max(0, sum(self.depth - c.load() for c in self._ready) - len(self._waiting))

    @property
    def n_ready(self) -> int:
        """Number of children that are ready."""
        return len(self._ready)

    @property
    def n_waiting(self) -> int:
        """Number of tasks that no child has."""
        return len(self._waiting)

    @property
    def n_task(self) -> int:
        """Number of tasks without an answer."""
        return len(self._waiting) + sum(child.load() for child in self._by_fd.values())

    def pids(self) -> list[int]:
        """Process numbers of the children that live."""
        return [child.process.pid for child in self._by_fd.values() if child.process.pid is not None]

    def counter(self, column: int) -> int:
        """Sum of one column of `Port.counters` over all children."""
        return self._table.total(1 + column)

    def hand_out(self) -> None:
        """Send waiting tasks to children, those with the fewest first."""
        while self._waiting and self._ready:
            child = min(self._ready, key=_Child.load)
            room = self.depth - child.load()
            if room <= 0:
                return
            share = -(-len(self._waiting) // len(self._ready))
            n = min(room, self.batch, share)
            self._send(child, [self._waiting.popleft() for _ in range(n)])

    def _send(self, child: _Child, tasks: list[Task]) -> None:
        if not child.tasks:
            child.since = time.monotonic()
        child.tasks.update((task[0], task) for task in tasks)
        if not child.channel.post(pack(tasks)):
            self._register(child, READABLE | WRITABLE)

    def collect(self, events: Mapping[Any, int]) -> list[Answer | Crash]:
        """Give the tasks that ended, replace children that died; to be called several times a second.

        Parameters
        ----------
        events
            What the poller reported.

        Raises
        ------
        WorkerError
            If a child dies again and again before it is ready.
        """
        done: list[Answer | Crash] = []
        for fd in events:
            if (child := self._by_fd.get(fd)) is not None:
                if events[fd] & WRITABLE and child.channel.flush():
                    self._register(child, READABLE)
                self._read(child, done)
        now = time.monotonic()
        if now - self._checked >= _BETWEEN_CHECKS:
            self._check(now, done)
        return done

    def _read(self, child: _Child, done: list[Answer | Crash]) -> None:
        ended = False
        try:
            packets, ended = child.channel.read()
            for packet in packets:
                for item in unpack(packet):
                    self._take(child, item, done)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            _log.warning("%s %d sent nonsense (%s)", self.name, child.number, error)
            self._condemn(child, "bad answer")
        if ended:
            self._replace(child, done)

    def _take(self, child: _Child, item: tuple[Any, ...], done: list[Answer | Crash]) -> None:
        if item[0] == READY:
            self._welcome(child, item[1])
        elif item[0] == ERROR:
            _, kind, text, trace = item
            child.error = (kind, text)
            _log.debug("%s %d: %s", self.name, child.number, trace)
        else:
            done.append(Answer(child.tasks.pop(item[0]), item[1:]))
            child.since = time.monotonic()
            if not child.worked:
                child.worked = True
                place = self._places[child.number]
                place.failed_starts = place.idle_deaths = 0

    def _welcome(self, child: _Child, preload_notes: tuple[str, ...]) -> None:
        child.ready = True
        self._places[child.number].failed_starts = 0
        if not child.verdict:
            self._ready.append(child)
        if not self._preload_reported:
            self._preload_reported = True
            for note in preload_notes:
                _log.warning("children start slowly: %s", note)

    def _check(self, now: float, done: list[Answer | Crash]) -> None:
        """Look for children that take too long, and start those that are due."""
        pause = now - self._checked - _LONGEST_PAUSE
        self._checked = now
        for child in list(self._by_fd.values()):
            if pause > 0:  # main was stopped or stalled itself, and children perhaps with it
                child.since += pause
                child.started += pause
            if child.tasks and now - child.since > self.task_limit:
                self._condemn_if_silent(child, "time limit", done)
            elif not child.ready and now - child.started > self.start_limit:
                self._condemn_if_silent(child, "not ready in time", done)
        for number, place in enumerate(self._places):
            if place.child is None and now >= place.due:
                self._start(number)

    def _condemn_if_silent(self, child: _Child, verdict: str, done: list[Answer | Crash]) -> None:
        before = (child.since, child.ready)
        self._read(child, done)  # perhaps it is main that is late
        if self._by_fd.get(child.channel.fileno()) is child and before == (child.since, child.ready):
            self._condemn(child, verdict)

    def _condemn(self, child: _Child, verdict: str) -> None:
        """Kill a child; the rest happens when its channel ends."""
        if not child.verdict:
            child.verdict = verdict
            if child in self._ready:
                self._ready.remove(child)
            child.kill()

    def _register(self, child: _Child, flags: int) -> None:
        assert self._poller is not None
        self._poller.register(child.channel.fileno(), flags)

    def _start(self, number: int) -> None:
        self._rows[number][0] = IDLE
        start = Start(self.body, number, self._sealed, self._debug)
        process, sock = start_child(run_child, (start,), f"gpuidx-{self.name}-{number}")
        child = _Child(number, process, MainEnd(sock))
        self._places[number].child = child
        self._by_fd[child.channel.fileno()] = child
        self._register(child, READABLE)

    def _replace(self, child: _Child, done: list[Answer | Crash]) -> None:
        """Its channel has ended: one task is lost at most, the others are given to other children."""
        assert self._poller is not None
        fd = child.channel.fileno()
        self._poller.unregister(fd)
        del self._by_fd[fd]
        if child in self._ready:
            self._ready.remove(child)
        reason, detail = child.bury()
        at = self._rows[child.number][0]
        lost = child.tasks.pop(at, None)
        self._waiting.extendleft(reversed(child.tasks.values()))
        place = self._places[child.number]
        place.child = None
        if lost is not None:
            done.append(Crash(lost, reason, detail))
            child.worked = True
        _log.info("%s %d ended: %s %s", self.name, child.number, reason, detail)
        place.due = time.monotonic() + self._penalty(child, place, reason, detail)
        self.restarts += 1
        if place.due <= time.monotonic():
            self._start(child.number)

    def _penalty(self, child: _Child, place: _Place, reason: str, detail: str) -> float:
        """Give the wait before the next start, in s.

        Raises
        ------
        WorkerError
            If this place has failed too often.
        """
        if child.worked:
            place.failed_starts = place.idle_deaths = 0
            return 0.0
        if child.forkserver != forkserver_pid() or reason == "exit 255":
            return 0.0  # the forkserver was killed, and the child with it
        place.idle_deaths += 1
        if not child.ready:
            place.failed_starts += 1
            if place.failed_starts >= MOST_FAILED_STARTS:
                text = f"{reason}: {detail}" if detail else reason
                who, n = f"{self.name} {child.number}", place.failed_starts
                raise WorkerError(f"{who} ended {n} times before it was ready: {text}")
        elif place.idle_deaths == 1:
            return 0.0
        return BACK_OFF[min(place.idle_deaths, len(BACK_OFF)) - 1]

    def close(self, now: bool = False, wait: float = 2.0) -> list[Task]:
        """End all children; gives the tasks that were not answered.

        Parameters
        ----------
        now
            Kill them; else each ends when it has done what it has, within *wait* s.
        wait
            s.
        """
        left = list(self._waiting)
        end = time.monotonic() + wait
        children = list(self._by_fd.values())
        for child in children:
            left += child.tasks.values()
            if self._poller is not None:
                self._poller.unregister(child.channel.fileno())
            child.channel.close()
            if now:
                child.kill()
        for child in children:
            child.process.join(max(0.0, end - time.monotonic()))
            if child.process.exitcode is None:
                child.kill()
            child.bury()
        self._by_fd.clear()
        self._ready.clear()
        self._waiting.clear()
        for row in self._rows:
            row.release()
        self._rows.clear()
        self._table.close()
        return left
