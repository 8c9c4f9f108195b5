# SPDX-License-Identifier: GPL-3.0-or-later
"""How far each message is: in work, done, acknowledged."""

import time
from collections import deque
from collections.abc import Sequence

from gpuidx.flow.seen import Seen

Key = tuple[str, int]
"""Stream and id of a message."""

REFUSED_FOR_GOOD = 10.0
"""s after which an acknowledgement is given up that the service refuses."""


class Messages:
    """The messages of a run, each of which is begun once, however often it is given out.

    Parameters
    ----------
    acks
        Whether the service wants to know.
    """

    def __init__(self, acks: bool) -> None:
        self._seen, self._acks = Seen(), acks
        self._in_slot: dict[int, Key] = {}
        self._in_work: set[Key] = set()
        self._to_tell: deque[Key] = deque()
        self._refused: dict[Key, float] = {}

    def skip(self, seen: Seen) -> None:
        """Take these for done, too."""
        self._seen = seen

    def key_in(self, slot: int) -> Key:
        """Which message lies in *slot*."""
        return self._in_slot[slot]

    def has(self, key: Key) -> bool:
        """Whether this is done."""
        return key in self._seen

    def begin(self, key: Key, slot: int) -> bool:
        """Take a message that lies in *slot* to work; False if it is there already, or done."""
        if key in self._in_work:
            return False
        if key in self._seen:
            self._tell(key)
            return False
        self._in_slot[slot] = key
        self._in_work.add(key)
        return True

    def done(self, slot: int) -> None:
        """Note that the message in *slot* is done."""
        key = self._in_slot.pop(slot)
        self._in_work.remove(key)
        self._seen.add(*key)
        self._tell(key)

    def recall(self, stream: str, ids: Sequence[int]) -> None:
        """Acknowledge those of these that an earlier run has done and did not tell."""
        for number in ids:
            if (stream, number) in self._seen:
                self._tell((stream, number))

    def _tell(self, key: Key) -> None:
        if self._acks:
            self._to_tell.append(key)

    def to_tell(self, most: int) -> tuple[Key, ...]:
        """Up to *most* messages to be acknowledged now; what fails has to come back by `not_told`."""
        return tuple(self._to_tell.popleft() for _ in range(min(most, len(self._to_tell))))

    def not_told(self, keys: Sequence[Key]) -> None:
        """Acknowledge these another time."""
        self._to_tell.extendleft(reversed([(stream, number) for stream, number in keys]))

    def refused(self, keys: Sequence[Key]) -> int:
        """Acknowledge these another time, if they were not refused for too long; gives how many were."""
        now, again = time.monotonic(), []
        for stream, number in keys:
            key = (stream, number)
            if now - self._refused.setdefault(key, now) > REFUSED_FOR_GOOD:
                del self._refused[key]
            else:
                again.append(key)
        self.not_told(again)
        return len(keys) - len(again)

    @property
    def n_to_tell(self) -> int:
        """Number of messages to be acknowledged."""
        return len(self._to_tell)

    @property
    def n_in_work(self) -> int:
        """Number of messages in slots."""
        return len(self._in_work)

    def is_ours(self, key: Key) -> bool:
        """Whether we have, or had, this message."""
        return key in self._in_work or key in self._seen
