# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of child processes: tasks to the one with the fewest, answers as they come, the dead replaced.

It runs in main's one thread and waits in main's one poller.  At a death the order is: kill, read every answer
up to the end of file, and only then look at the shared table for the task it was at.  An answer that was
thrown away would leave a slot that holds a chunk already and is taken for a message again.
"""

import atexit
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from gpuidx.flow.channel import unpack
from gpuidx.flow.child import ERROR, IDLE, READY, Sealed, Start
from gpuidx.flow.member import Answer, Child, Crash, Place, Task
from gpuidx.flow.poller import READABLE, WRITABLE, Poller
from gpuidx.flow.slots import SharedTable

__all__ = ["Answer", "Crash", "Pool", "Task"]

BAD_ANSWER = "bad answer"

_BETWEEN_CHECKS = 0.05
_LONGEST_PAUSE = 1.0  # of main itself; children are not blamed for more than that
_log = logging.getLogger(__name__)


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
        self._places = [Place() for _ in range(count)]
        self._by_fd: dict[int, Child] = {}
        self._ready: list[Child] = []
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
        # Run before multiprocessing's own, which would wait for ever for children that ignore SIGTERM.
        atexit.register(self.close, now=True)
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
            child = min(self._ready, key=Child.load)
            room = self.depth - child.load()
            if room <= 0:
                return
            share = -(-len(self._waiting) // len(self._ready))
            n = min(room, self.batch, share)
            if not child.send([self._waiting.popleft() for _ in range(n)]):
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

    def _read(self, child: Child, done: list[Answer | Crash]) -> None:
        packets, ended = child.channel.read()
        for packet in packets:
            try:
                for item in unpack(packet):
                    self._take(child, item, done)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                self._distrust(child, str(error))
        if child.channel.nonsense:
            self._distrust(child, child.channel.nonsense)
        if ended:
            self._replace(child, done)

    def _take(self, child: Child, item: tuple[Any, ...], done: list[Answer | Crash]) -> None:
        if item[0] == READY:
            self._welcome(child, item[1])
        elif item[0] == ERROR:
            _, kind, text, trace = item
            child.error = (kind, text)
            _log.debug("%s: %s", child.name, trace)
        else:
            done.append(Answer(child.tasks.pop(item[0]), item[1:]))
            child.since = time.monotonic()
            if not child.worked:
                child.worked = True
                self._places[child.number].has_worked()

    def _distrust(self, child: Child, why: str) -> None:
        """Memory of a child is damaged, for it sends nonsense: none of its messages can be used again."""
        if child.verdict != BAD_ANSWER:
            _log.warning("%s sent nonsense (%s)", child.name, why)
            self._condemn(child, BAD_ANSWER)
            child.verdict = BAD_ANSWER  # even if it was condemned for something else before

    def _welcome(self, child: Child, preload_notes: tuple[str, ...]) -> None:
        child.ready = True
        self._places[child.number].was_ready()
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

    def _condemn_if_silent(self, child: Child, verdict: str, done: list[Answer | Crash]) -> None:
        before = (child.since, child.ready)
        self._read(child, done)  # perhaps it is main that is late
        if self._by_fd.get(child.channel.fileno()) is child and before == (child.since, child.ready):
            self._condemn(child, verdict)

    def _condemn(self, child: Child, verdict: str) -> None:
        """Kill a child; the rest happens when its channel ends."""
        if not child.verdict:
            child.verdict = verdict
            if child in self._ready:
                self._ready.remove(child)
            child.kill()

    def _register(self, child: Child, flags: int) -> None:
        assert self._poller is not None
        self._poller.register(child.channel.fileno(), flags)

    def _start(self, number: int) -> None:
        self._rows[number][0] = IDLE
        child = Child(Start(self.body, number, self._sealed, self._debug), self.name)
        self._places[number].child = child
        self._by_fd[child.channel.fileno()] = child
        self._register(child, READABLE)

    def _replace(self, child: Child, done: list[Answer | Crash]) -> None:
        """Its channel has ended, so it writes into no slot any more: count what is lost, start another."""
        self._forget(child)
        death = child.bury()
        place = self._places[child.number]
        lost = self._lost_tasks(child)
        done += [Crash(task, death.reason, death.detail) for task in lost]
        self._waiting.extendleft(reversed(child.tasks.values()))
        if lost:
            child.worked = True
            place.has_worked()
        _log.info("%s ended (%s), tasks lost: %d", child.name, death, len(lost))
        place.vacate(child, death)
        self.restarts += 1
        if place.due <= time.monotonic():
            self._start(child.number)

    def _lost_tasks(self, child: Child) -> list[Task]:
        """Take the tasks that ended with *child* out of those that it had; it had not begun the others."""
        serials = list(child.tasks) if child.verdict == BAD_ANSWER else [self._rows[child.number][0]]
        return [child.tasks.pop(serial) for serial in serials if serial in child.tasks]

    def _forget(self, child: Child) -> None:
        assert self._poller is not None
        fd = child.channel.fileno()
        self._poller.unregister(fd)
        del self._by_fd[fd]
        if child in self._ready:
            self._ready.remove(child)

    def close(self, now: bool = False, wait: float = 2.0) -> list[Task]:
        """End all children; gives the tasks that were not answered.

        Parameters
        ----------
        now
            Kill them; else each ends when it has done what it has, within *wait* s.
        wait
            s.
        """
        atexit.unregister(self.close)
        left = list(self._waiting)
        end = time.monotonic() + wait
        children = list(self._by_fd.values())
        for child in children:
            left += child.tasks.values()
            if now:
                child.kill()
            self._forget(child)
            child.channel.close()
        for child in children:
            child.process.join(max(0.0, end - time.monotonic()))
            if child.process.exitcode is None:
                child.kill()
            child.bury()
        self._waiting.clear()
        for row in self._rows:
            row.release()
        self._rows.clear()
        self._table.close()
        return left
