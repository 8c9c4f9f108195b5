# SPDX-License-Identifier: GPL-3.0-or-later
"""Children kept alive: started, waited for, killed when they hang, replaced when they die.

What they work on is `gpuidx.flow.children`'s, which builds on this.
"""

import atexit
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gpuidx.errors import WorkerError
from gpuidx.flow.child import IDLE, Sealed, Start
from gpuidx.flow.member import Child, Death, Ended, Place
from gpuidx.flow.platform import usable_cpus
from gpuidx.flow.poller import READABLE, Poller
from gpuidx.flow.slots import SharedTable

_LONGEST_PAUSE = 1.0  # of main itself; children are not blamed for more than that
_log = logging.getLogger(__name__)


class Supervisor(ABC):
    """The places of a pool and the children in them; for the parameters see `gpuidx.flow.children.Pool`.

    Attributes
    ----------
    restarts
        Children started in place of dead ones.
    given_up
        Of each place where no child is started any more, why; only where children share a fate.
    """

    def __init__(
        self,
        body: str,
        count: int,
        args: tuple[Any, ...],
        *,
        task_limit: float,
        start_limit: float,
        counters: int,
        debug: bool,
        name: str,
        shared_fate: bool,
        cpus: Sequence[Sequence[int]],
    ) -> None:
        self.body, self.count, self.name, self.shared_fate = body, count, name, shared_fate
        self.task_limit, self.start_limit = task_limit, start_limit
        self.restarts = 0
        self.given_up: list[str] = []
        self._table = SharedTable(count, 1 + counters)
        self._rows = [self._table.row(number) for number in range(count)]
        self._sealed, self._debug, self._cpus = Sealed((self._table, args)), debug, cpus
        self._places = [Place(must_work=shared_fate) for _ in range(count)]
        self._by_fd: dict[int, Child] = {}
        self._ready: list[Child] = []
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

    @property
    def n_ready(self) -> int:
        """Number of children that are ready."""
        return len(self._ready)

    def pids(self) -> list[int]:
        """Process numbers of the children that live."""
        return [child.process.pid for child in self._by_fd.values() if child.process.pid is not None]

    def counter(self, column: int) -> int:
        """Sum of one column of `Port.counters` over all children."""
        return self._table.total(1 + column)

    def _lives(self, child: Child) -> bool:
        return not child.verdict and self._by_fd.get(child.channel.fileno()) is child

    def _welcome(self, child: Child, preload_notes: tuple[str, ...]) -> None:
        child.ready = True
        self._places[child.number].was_ready()
        if not child.verdict:
            self._ready.append(child)
        if not self._preload_reported:
            self._preload_reported = True
            for note in preload_notes:
                _log.warning("children start slowly: %s", note)

    def _check(self, now: float, done: list[Ended]) -> None:
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

    def _condemn_if_silent(self, child: Child, verdict: str, done: list[Ended]) -> None:
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
        try:
            cpus = self._cpus[number] if self._cpus else usable_cpus() or ()
            child = Child(Start(self.body, number, self._sealed, self._debug, cpus), self.name)
        except WorkerError as error:
            self._give_up(number, error)
            return
        self._places[number].child = child
        self._by_fd[child.channel.fileno()] = child
        self._register(child, READABLE)

    def _succeed(self, child: Child, death: Death) -> None:
        """Start a successor, now or when it is due."""
        place = self._places[child.number]
        try:
            place.vacate(child, death)
        except WorkerError as error:
            self._give_up(child.number, error)
            return
        self.restarts += 1
        if place.due <= time.monotonic():
            self._start(child.number)

    def _give_up(self, number: int, error: WorkerError) -> None:
        """Start nobody in this place again; the tasks go to the other children, or back to the caller.

        Raises
        ------
        WorkerError
            The *error*, if every child is needed.
        """
        if not self.shared_fate:
            raise error
        self._places[number].due = float("inf")
        self.given_up.append(str(error))

    def _forget(self, child: Child) -> None:
        assert self._poller is not None
        fd = child.channel.fileno()
        self._poller.unregister(fd)
        del self._by_fd[fd]
        if child in self._ready:
            self._ready.remove(child)

    @abstractmethod
    def _read(self, child: Child, done: list[Ended]) -> None:
        """Take what a child has sent; what ended goes to *done*."""

    @abstractmethod
    def close(self, now: bool = False, wait: float = 2.0) -> Any:
        """End all children."""
