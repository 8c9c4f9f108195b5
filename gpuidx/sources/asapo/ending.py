# SPDX-License-Identifier: GPL-3.0-or-later
"""When a stream is over, and what comes after it.

A stream ends by its sender's mark, or by silence: for a while the service has said that there is nothing.
That it was not asked, or did not answer, is no silence.  With acknowledgements it is not over as long as the
group was given messages which nobody acknowledged: another reader may have died with them; then they come to
us.
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

RESENDS = 3.5
"""Times after which a message should have come again that somebody failed to acknowledge.  The client library
hides a lost answer and asks anew; so a message may be lost three times with nothing to be seen of it."""

MOST_LISTED = 10

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
    gaps
        Ids that nobody has ever sent; known when it is over, with acknowledgements.
    """

    def __init__(self, where: Where, stream: str, patience: float, waits: bool, follow: bool) -> None:
        self.where, self.stream, self.successor = where, stream, ""
        self.gaps: tuple[int, ...] = ()
        self._patience, self._waits, self._follow = patience, waits, follow
        self._last_data = self._asked = self._last_word = self._last_trouble = time.monotonic()
        self._silent_since: float | None = None
        self._finished: float | None = None
        self._due_since: float | None = None
        self._left: tuple[int, ...] | None = None
        self._last = self._n_gap = 0
        self._is_empty = self._is_sure = self._told = self._had_data = False

    def got(self) -> None:
        """A message came that had not come before."""
        self._last_data, self._silent_since, self._left = time.monotonic(), None, None
        self._is_empty = self._is_sure = False
        self._had_data = True

    def unsure(self) -> None:
        """The service gave no answer that tells whether there is more; a message may be lost with it."""
        self._is_sure, self._last_trouble = False, time.monotonic()

    def nothing(self, last: int) -> None:
        """There is nothing behind message *last*, yet."""
        self._note_end(last)
        if self._is_empty and not self._told:
            self._told = True
            what = "waiting for it" if self._waits else f"waiting {self._patience:g} s for it"
            log.warning("stream %r of source %r has no data; %s", self.stream, self.where.source, what)
        if self._is_empty and self._waits:
            self._silent_since = time.monotonic()

    def finished(self, last: int, successor: str) -> None:
        """Its sender has ended it behind message *last*."""
        self._note_end(last)
        if self._finished is None:
            self._finished = time.monotonic()
            log.info("stream %r is finished%s", self.stream, f"; next is {successor!r}" if successor else "")
        self.successor = self.successor or successor

    def _note_end(self, last: int) -> None:
        self._last = max(self._last, last)  # a garbled answer may say 0
        self._is_empty, self._is_sure = self._last == 0 and not self._had_data, True
        self._last_word = time.monotonic()
        if self._silent_since is None:
            self._silent_since = time.monotonic()

    def left(self, ids: Sequence[int], size: int) -> None:
        """Not acknowledged; the stream has *size* messages, fewer than ids if any is missing."""
        n_done = self._last - len(ids)
        self._left, self._n_gap = tuple(ids), max(0, self._last - size) if size >= n_done else 0

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
        """How long the service has said that there is nothing, s."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    @property
    def _quiet_since(self) -> float:
        """Since when it has been finished or silent."""
        return self._finished or self._silent_since or 0.0

    @property
    def is_due(self) -> bool:
        """Whether the stream would be over but for messages that are not acknowledged."""
        if self._follow and self.successor:
            return True
        if self._finished is not None and not self._follow:
            return True
        return self._is_sure and self.silence > self._patience

    def question(self) -> str | None:
        """The kind of step that has to be done now, if any."""
        now = time.monotonic()
        self._due_since = (self._due_since or now) if self.is_due else None
        if now - self._asked < ASK_EVERY:
            return None
        wanted = None
        if self.is_due:
            wanted = steps.ASK_LEFT if self.where.acks and not self._is_empty else None
        elif self._follow and (self._finished or (not self._is_empty and self.silence > SUCCESSOR_AFTER)):
            wanted = steps.ASK_STREAMS
        if wanted:
            self._asked = now
        return wanted

    def is_over(self, messages: Messages) -> bool:
        """Whether nothing more will come from this stream, and everything is told."""
        if not self.is_due or messages.n_in_work or messages.n_to_tell:
            return False
        if not self.where.acks or self._is_empty:
            return True
        others = [number for number in self._left or () if not messages.is_ours((self.stream, number))]
        if self._left is not None and len(others) <= self._n_gap:
            self.gaps = tuple(others)
            if others:
                log.warning("stream %r has no message with the id %s", self.stream, _listed(others))
            return True
        if self._left is None:  # to be asked for yet, or the service cannot say
            waited = 0.0 if self._due_since is None else time.monotonic() - self._due_since
        else:  # what the service said that long after anything else: a message would have come by then
            waited = self._last_word - max(self._last_data, self._last_trouble, self._quiet_since)
        if waited < RESENDS * self.where.resend / 1e3 + ASK_EVERY:
            return False
        if self._left is None:
            log.warning("stream %r: the service does not say what is not acknowledged", self.stream)
        else:
            log.warning(
                "stream %r: %d message(s) that no reader of group %r acknowledged did not come again: %s",
                self.stream, len(others), self.where.group, _listed(others),
            )  # fmt: skip
        return True


def _listed(ids: Sequence[int]) -> str:
    """Ids as text, the first few of many."""
    return ", ".join(map(str, ids[:MOST_LISTED])) + (" ..." if len(ids) > MOST_LISTED else "")
