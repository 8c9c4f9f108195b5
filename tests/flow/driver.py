# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool driven by hand, and waiting for processes to end."""

import os
import select
import time
from contextlib import contextmanager

import zmq

from gpuidx.flow.children import Answer

PATIENCE = 30.0


class Driver:
    """A pool, its poller, and what ended so far."""

    def __init__(self, pool):
        self.pool, self.poller, self.done = pool, zmq.Poller(), []
        pool.open(self.poller)

    def turn(self):
        self.pool.hand_out()
        self.done += self.pool.collect(dict(self.poller.poll(20)))

    def until(self, condition):
        """Go on until *condition* holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"still waiting; {len(self.done)} tasks ended"
            self.turn()

    def run(self, *tasks):
        """Give *tasks*, and go on until they have ended."""
        for task in tasks:
            self.pool.give(task)
        self.until(lambda: not self.pool.n_task)
        return self.done

    def run_only(self, *tasks):
        """Give *tasks*, and go on until these have ended."""
        for task in tasks:
            self.pool.give(task)
        serials = {task[0] for task in tasks}
        self.until(lambda: serials <= {done.task[0] for done in self.done})

    def until_ready(self):
        self.until(lambda: self.pool.n_ready == self.pool.count)

    @property
    def answers(self):
        return {d.task[0]: d.values for d in self.done if isinstance(d, Answer)}

    @property
    def crashes(self):
        return {d.task[0]: (d.reason, d.detail) for d in self.done if not isinstance(d, Answer)}


@contextmanager
def watch(pids):
    """Gives a function that waits until all of these processes have ended, reaped or not."""
    fds = [os.pidfd_open(pid) for pid in pids]

    def wait(seconds=PATIENCE):
        left, end = set(fds), time.monotonic() + seconds
        while left:
            rest = end - time.monotonic()
            assert rest > 0, f"{len(left)} of {len(fds)} processes still live"
            left -= set(select.select(list(left), [], [], rest)[0])

    try:
        yield wait
    finally:
        for fd in fds:
            os.close(fd)
