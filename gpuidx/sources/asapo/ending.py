# SPDX-License-Identifier: GPL-3.0-or-later
"""When a stream is over, and what comes after it.

A stream ends by its sender's mark, or by silence.  With acknowledgements it is not over as long as the group
was given messages which nobody acknowledged: another reader may have died with them; then they come to us.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from gpuidx.sources.asapo import steps
from gpuidx.sources.asapo.messages import Messages
from gpuidx.sources.asapo.place import Where

log = logging.getLogger(__name__)

SUCCESSOR_AFTER = 3.0
"""s of silence after which a younger stream is taken for the next, if this one was never finished."""

RESENDS = 1.5
"""Times after which a message should have come again that somebody failed to acknowledge."""

ASK_EVERY = 0.5
"""s between two questions."""


class Ending:
    """Watches one stream until it is over.

    Parameters
    ----------
    where
        Of the source.
    stream
        Its name.
    patience
        s of silence after which it is over.
    waits
        A stream that has no message yet may take as long as it wants.
    follow
        Look for a successor if it falls silent.

    Attributes
    ----------
    successor
        Name of the next stream, as far as known.
    """

    def __init__(self, where: Where, stream: str, patience: float, waits: bool, follow: bool) -> None:
        self.where, self.stream, self.successor = where, stream, ""
        self._patience, self._waits, self._follow = patience, waits, follow
        self._last_data = self._asked = time.monotonic()
        self._finished: float | None = None
        self._left: tuple[int, ...] | None = None
        self._is_empty = self._told = False

    def got(self) -> None:
        """A message came."""
        self._last_data, self._is_empty, self._left = time.monotonic(), False, None

    def nothing(self, last: int) -> None:
        """There is nothing behind message *last*, yet."""
        self._is_empty = last == 0
        if self._is_empty and not self._told:
            self._told = True
            what = "waiting for it" if self._waits else f"waiting {self._patience:g} s for it"
            log.warning("stream %r of source %r has no data; %s", self.stream, self.where.source, what)
        if self._is_empty and self._waits:
            self._last_data = time.monotonic()

    def finished(self, successor: str) -> None:
        """Its sender has ended it."""
        if self._finished is None:
            self._finished = time.monotonic()
            log.info("stream %r is finished%s", self.stream, f"; next is {successor!r}" if successor else "")
        self.successor = successor

    def left(self, ids: Sequence[int]) -> None:
        """These messages were given to the group and not acknowledged."""
        self._left = tuple(ids)

    def streams(self, streams: Sequence[tuple[Any, ...]], past: set[str]) -> None:
        """Take the oldest stream that is younger than this one and was not read for its successor."""
        created = {name: when for name, when, _ in streams}
        now = created.get(self.stream, 0)
        younger = [(when, name) for name, when in created.items() if when > now and name not in past]
        if younger and not self.successor:
            self.successor = min(younger)[1]
            log.info("stream %r is silent and %r has begun: going on there", self.stream, self.successor)

    @property
    def silence(self) -> float:
        """How long no message has come, s."""
        return time.monotonic() - self._last_data

    @property
    def is_due(self) -> bool:
        """Whether the stream would be over but for messages that are not acknowledged."""
        if self._finished is not None or (self._follow and self.successor):
            return True
        return self.silence > self._patience

    def question(self) -> str | None:
        """The kind of step that has to be done now, if any."""
        now = time.monotonic()
        if now - self._asked < ASK_EVERY:
            return None
        wanted = None
        if self.is_due:
            wanted = steps.ASK_LEFT if self.where.acks else None
        elif self._follow and not self._is_empty and self.silence > SUCCESSOR_AFTER:
            wanted = steps.ASK_STREAMS
        if wanted:
            self._asked = now
        return wanted

    def is_over(self, messages: Messages) -> bool:
        """Whether nothing more will come from this stream, and everything is told."""
        if not self.is_due or messages.n_in_work or messages.n_to_tell:
            return False
        if not self.where.acks:
            return True
        if self._left is None:
            return False
        others = [number for number in self._left if not messages.is_ours((self.stream, number))]
        if not others:
            return True
        since = max(self._last_data, self._finished or 0.0)
        if time.monotonic() - since < RESENDS * self.where.resend / 1e3 + ASK_EVERY:
            return False
        log.warning(
            "stream %r: %d message(s) were given to other readers of group %r and never acknowledged: %s%s",
            self.stream, len(others), self.where.group, ", ".join(map(str, others[:10])),
            " ..." if len(others) > 10 else "",
        )  # fmt: skip
        return True
