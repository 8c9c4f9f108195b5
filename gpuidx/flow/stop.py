# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping: the first signal asks the run to finish what it has, the second to stop now."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gpuidx.flow.poller import READABLE, Poller

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

SAME = 0.1
"""Signals within this time after the first, in s, are one: ``timeout`` signals the process and its group."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 raise `KeyboardInterrupt`, as Ctrl-C does, while no `Stop` is installed."""
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Stop:
    """Counts the signals to stop; they arrive between two Python instructions of the main thread.

    Install it after the children were started: until then Ctrl-C raises `KeyboardInterrupt`, which also
    ends the wait for a slow start; so do the other signals within `interruptible`.

    Attributes
    ----------
    level
        0: run; 1: finish what was received (drain); 2: stop now.
    since
        When `level` became 1, by `time.monotonic`; 0.0 before.
    """

    def __init__(self) -> None:
        self.level = 0
        self.since = 0.0
        self._heard: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._wake, self._wakeup = -1, -1
        self._wakeup_before = -1
        self._poller: Poller | None = None

    def install(self, poller: Poller | None = None) -> None:
        """Take the signals over; one that arrives ends a wait in *poller* at once."""
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        if poller is not None:
            self._wake, self._wakeup = os.pipe()
            os.set_blocking(self._wake, False)
            os.set_blocking(self._wakeup, False)
            self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
            poller.register(self._wake, READABLE)
            self._poller = poller

    def notice(self, events: Mapping[Any, int]) -> None:
        """Take note of what the poller reported."""
        if self._wake in events:
            try:
                while os.read(self._wake, 4096):
                    pass
            except BlockingIOError:
                return

    def request(self) -> None:
        """Ask the run to finish what it has, as the first signal does (end of data, enough frames)."""
        if self.level == 0:
            self.level, self.since = 1, time.monotonic()

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._heard is None:
            self._heard = now
            self.request()
        elif now - self._heard > SAME:
            self.level = 2

    def remove(self) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._poller is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            self._poller.unregister(self._wake)
            os.close(self._wake)
            os.close(self._wakeup)
            self._poller, self._wake, self._wakeup = None, -1, -1
