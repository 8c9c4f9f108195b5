# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of child processes: tasks to the one with the fewest, answers as they come, the dead replaced.

It runs in main's one thread and waits in main's one poller.  At a death the order is: kill, read every answer
up to the end of file, and only then look at the shared table for the task it was at.  An answer that was
thrown away would leave a slot that holds a chunk already and is taken for a message again.

How children are kept alive is in `gpuidx.flow.supervisor`.
"""

import atexit
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from gpuidx.flow.channel import unpack
from gpuidx.flow.child import ERROR, READY
from gpuidx.flow.member import Answer, Child, Crash, Ended, Task
from gpuidx.flow.poller import READABLE, WRITABLE
from gpuidx.flow.supervisor import Supervisor

__all__ = ["Answer", "Crash", "Ended", "Pool", "Task"]

BAD_ANSWER = "bad answer"

_BETWEEN_CHECKS = 0.05
_log = logging.getLogger(__name__)


class Pool(Supervisor):
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
    shared_fate
        A child is at all of its tasks together, so all end when it dies.  A place whose children die in a row
        without an answer is given up (`given_up`) and the others go on; nothing is raised.
    cpus
        CPUs of each child; if not given, those that main uses.
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
        shared_fate: bool = False,
        cpus: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__(
            body, count, args, task_limit=task_limit, start_limit=start_limit, counters=counters, debug=debug,
            name=name, shared_fate=shared_fate, cpus=cpus,
        )  # fmt: skip
        self.depth, self.batch = depth, batch
        self._waiting: deque[Task] = deque()
        self._n_own = 0

    def give(self, task: Task, child: Child | None = None, first: bool = False) -> None:
        """Take *task* over; it goes to a child at the next `hand_out`.

        Parameters
        ----------
        task
            See `Task`.
        child
            Who gave an earlier `Answer` and has something at hand for this one.  It waits for that child,
            goes before tasks for anybody, and to anybody if that child dies.
        first
            Before the other tasks that wait for anybody.
        """
        if child is not None and self._lives(child):
            child.own.append(task)
            self._n_own += 1
        elif first or child is not None:
            self._waiting.appendleft(task)
        else:
            self._waiting.append(task)

    def room(self) -> int:
        """Number of tasks that would go to a child at the next `hand_out`."""
        return max(0, sum(self.depth - c.load() for c in self._ready) - self.n_waiting)

    @property
    def n_waiting(self) -> int:
        """Number of tasks that no child has."""
        return len(self._waiting) + self._n_own

    @property
    def n_task(self) -> int:
        """Number of tasks without an answer."""
        return self.n_waiting + sum(child.load() for child in self._by_fd.values())

    def hand_out(self) -> None:
        """Send waiting tasks to children, those with the fewest first."""
        if self._n_own:
            self._hand_out_own()
        while self._waiting and self._ready:
            child = min(self._ready, key=Child.load)
            room = self.depth - child.load()
            if room <= 0:
                return
            share = -(-len(self._waiting) // len(self._ready))
            n = min(room, self.batch, share)
            self._send(child, self._waiting, n)

    def _hand_out_own(self) -> None:
        for child in self._ready:
            while child.own and (room := self.depth - child.load()) > 0:
                n = min(room, self.batch, len(child.own))
                self._n_own -= n
                self._send(child, child.own, n)

    def _send(self, child: Child, tasks: deque[Task], n: int) -> None:
        """Send the first *n* of *tasks*."""
        if not child.send([tasks.popleft() for _ in range(n)]):
            self._register(child, READABLE | WRITABLE)

    def collect(self, events: Mapping[Any, int]) -> list[Ended]:
        """Give the tasks that ended, replace children that died; to be called several times a second.

        Parameters
        ----------
        events
            What the poller reported.

        Raises
        ------
        WorkerError
            If a child dies again and again before it is ready, and they do not share a fate.
        """
        done: list[Ended] = []
        for fd in events:
            if (child := self._by_fd.get(fd)) is not None:
                if events[fd] & WRITABLE and child.channel.flush():
                    self._register(child, READABLE)
                self._read(child, done)
        now = time.monotonic()
        if now - self._checked >= _BETWEEN_CHECKS:
            self._check(now, done)
        return done

    def _read(self, child: Child, done: list[Ended]) -> None:
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

    def _take(self, child: Child, item: tuple[Any, ...], done: list[Ended]) -> None:
        if item[0] == READY:
            self._welcome(child, item[1])
        elif item[0] == ERROR:
            _, kind, text, trace = item
            child.error = (kind, text)
            _log.debug("%s: %s", child.name, trace)
        else:
            done.append(Answer(child.tasks.pop(item[0]), item[1:], child))
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

    def _replace(self, child: Child, done: list[Ended]) -> None:
        """Its channel has ended, so it writes into no slot any more: count what is lost, start another."""
        self._forget(child)
        death = child.bury()
        lost = self._lost_tasks(child)
        done += [Crash(task, death.reason, death.detail) for task in lost]
        self._waiting.extendleft(reversed([*child.tasks.values(), *child.own]))
        self._n_own -= len(child.own)
        if lost and not self.shared_fate:
            child.worked = True
            self._places[child.number].has_worked()
        what = "tasks taken back" if self.shared_fate else "tasks lost"
        _log.info("%s ended (%s), %s: %d", child.name, death, what, len(lost))
        self._succeed(child, death)

    def _lost_tasks(self, child: Child) -> list[Task]:
        """Take the tasks that ended with *child* out of those that it had; it had not begun the others."""
        all_lost = self.shared_fate or child.verdict == BAD_ANSWER
        serials = list(child.tasks) if all_lost else [self._rows[child.number][0]]
        return [child.tasks.pop(serial) for serial in serials if serial in child.tasks]

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
            left += [*child.tasks.values(), *child.own]
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
        self._n_own = 0
        for row in self._rows:
            row.release()
        self._rows.clear()
        self._table.close()
        return left
