# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are not there yet, or not complete: when to look for them again, and when to give them up."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gpuidx.sources.expand import Answer

log = logging.getLogger(__name__)

LOOK_AGAIN = 1.0
"""Seconds until a file that was not there is looked for again."""

READ_AGAIN = 10.0
"""Seconds until a file that could not be read is tried again, once, as by CrystFEL 0.12."""


@dataclass(slots=True, eq=False)
class Late:
    """What is known of a file.

    Attributes
    ----------
    filename
        As it is opened.
    since
        When it was first found missing or incomplete, by the clock of `Waiting`; None if it never was.
    due
        When to look again.
    read
        Whether it was there, but could not be read.
    """

    filename: str
    since: float | None = field(default=None, init=False)
    due: float = field(default=0.0, init=False)
    read: bool = field(default=False, init=False)


class Waiting:
    """The files that are waited for.

    A file is given up when it has been looked for for *limit* seconds, in which none of the awaited files has
    come.  So a list may name files that are written one after the other, each within the limit.

    Parameters
    ----------
    limit
        s; 0: nothing is waited for; -1: for ever.
    clock
        Tells the time, s.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self._clock = limit, clock
        self._late: deque[Late] = deque()
        self._arrived = -float("inf")

    def __len__(self) -> int:
        return len(self._late)

    def keeps(self, file: Late, answer: Answer) -> bool:
        """Whether to look for a file again, after what was found of it."""
        now = self._clock()
        if not self.limit or not (answer.absent or answer.error):
            if file.since is not None:
                self._arrived = now
            return False
        if file.since is None:
            file.since = now
            if not self._late:
                log.info("waiting for %s (--wait-for-file=%d)", file.filename, self.limit)
        if answer.absent and 0 <= self.limit <= now - max(file.since, self._arrived):
            return False
        if answer.error and file.read:
            return False
        file.read = bool(answer.error)
        file.due = now + (READ_AGAIN if answer.error else LOOK_AGAIN)
        self._late.append(file)
        return True

    def take_due(self) -> Late | None:
        """A file that is to be looked for now, which is waited for no more until `keeps` says so; or None."""
        now = self._clock()
        for file in self._late:
            if file.due <= now:
                self._late.remove(file)
                return file
        return None
