# SPDX-License-Identifier: GPL-3.0-or-later
"""Main's side of ``--asapo-output-stream``: what became of the messages that the workers send on.

The workers do it (`gpuidx.sources.asapo.producer`) and count in columns of the shared table, so the counts
are right even where a worker dies.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec

from gpuidx.errors import OptionError
from gpuidx.sources.asapo.questions import HOW_TO_INSTALL

log = logging.getLogger(__name__)

TAKEN, SENT, PLACEHOLDERS, REFUSED, LATE, NO_ROOM = COUNTERS = (
    "taken", "sent", "placeholders", "refused", "late", "no room",
)  # fmt: skip
"""Messages that were to be sent on; hits and placeholders that the service has; what it will not have."""

TIMEOUT = 30.0
"""s in which the service must have taken a message; as indexamajig's."""

LONGEST_PAUSE = 5.0
"""s in which nothing becomes of any message after which the end of the run waits no longer."""

_BETWEEN_LOOKS = 0.02

REASONS = {
    REFUSED: "the service refused them (may this token write? was the stream written before?)",
    LATE: f"the service did not take them within {TIMEOUT:g} s",
    NO_ROOM: "the service takes them too slowly, or not at all",
}

UNSENT = "messages not sent on to ASAP::O: "
_LEFT = "left when the run ended"


def source_of_hits(source: str) -> str:
    """Name of the source on which the hits of *source* are sent."""
    return f"{source}_hits"


def check_library() -> None:
    """See whether the library is there; loads nothing.

    Raises
    ------
    OptionError
        If it is not.
    """
    if find_spec("asapo_producer") is None:
        raise OptionError(f"--asapo-output-stream: {HOW_TO_INSTALL}")


class SentHits:
    """What the workers have sent on.

    Parameters
    ----------
    count
        Gives the sum over the workers for one of `COUNTERS`.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._is_told = False

    def pending(self) -> int:
        """Messages of which it is not known yet what becomes of them."""
        return self._count(TAKEN) - sum(map(self._count, COUNTERS[1:]))

    def wait(self, is_enough: Callable[[], bool]) -> None:
        """Let the workers send the last messages on, as long as that gets on, and until told *is_enough*."""
        pending, since = self.pending(), time.monotonic()
        while pending and time.monotonic() - since < LONGEST_PAUSE and not is_enough():
            time.sleep(_BETWEEN_LOOKS)
            if (now_pending := self.pending()) != pending:
                pending, since = now_pending, time.monotonic()
        self.warn(is_over=True)

    def warn(self, is_over: bool = False) -> None:
        """Say once that messages are not sent on, and why, if it is so."""
        reasons = [reason for counter, reason in REASONS.items() if self._count(counter)]
        if is_over and self.pending() > 0:
            reasons.append("some were on their way when the run ended")
        if reasons and not self._is_told:
            self._is_told = True
            log.warning("hits are not all sent on to ASAP::O: %s", "; ".join(reasons))

    def notes(self) -> Counter[str]:
        """Counts for the end of the run."""
        notes = Counter(
            {
                "hits sent on to ASAP::O": self._count(SENT),
                "placeholders sent on to ASAP::O": self._count(PLACEHOLDERS),
                **{UNSENT + reason: self._count(counter) for counter, reason in REASONS.items()},
                UNSENT + _LEFT: self.pending(),
            }
        )
        return +notes
