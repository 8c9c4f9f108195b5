# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon a loop takes its next turn.

Much of what a turn costs does not depend on how much is done in it.  So where much is going on a turn waits
a little for more to come, and where little is, it begins at once.
"""

import time
from collections.abc import Callable

PAUSE_EACH = 5e-5
"""Seconds from turn to turn for each task in flight.  A task that takes part in n turns spends n pauses on
its way, so by itself this limits the rate to 1 / (n × `PAUSE_EACH`)."""

LONGEST_PAUSE = 2e-3
"""Seconds from turn to turn, however much is in flight; whoever works for the loop needs work for so long."""


class Pace:
    """Remembers when the last turn began.

    Parameters
    ----------
    clock, sleep
        Tell the time, and wait, s.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._begun = -LONGEST_PAUSE

    def rest(self, in_flight: int) -> None:
        """Wait until the next turn is due, with so many tasks in flight."""
        due = self._begun + min(PAUSE_EACH * in_flight, LONGEST_PAUSE)
        self._begun = self._clock()
        if due > self._begun:
            self._sleep(due - self._begun)
            self._begun = due
