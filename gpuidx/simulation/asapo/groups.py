# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server remembers of a group of consumers in one stream: counters, acknowledged ids, ids in process.

The rules are those of ASAP::O's broker: an id that was given with resends is in process until it is
acknowledged, and is given again whenever it is due and has attempts left.
"""

import math
from dataclasses import dataclass, field

UNLIMITED = 2**63
"""Attempts of a consumer that asks for 0, which means no limit."""


@dataclass(frozen=True, slots=True)
class Resend:
    """What a consumer asks for with each request of a next message.

    Attributes
    ----------
    delay
        Time until an id that is not acknowledged is given again, s.
    attempts
        How often it is given again at most; 0: no limit.
    """

    delay: float
    attempts: int

    @property
    def most(self) -> int:
        """Attempts, 0 written out."""
        return self.attempts or UNLIMITED


@dataclass(slots=True)
class _InProcess:
    due: float
    attempts: int
    most: int


@dataclass(slots=True)
class Group:
    """One group in one stream.

    Attributes
    ----------
    last_id
        The last id that was given in order of ids (``ordered=True``).
    arrived
        How many messages were given in order of arrival (``ordered=False``).
    last_of_all
        The id that was given last as the newest of the stream.
    acknowledged
        Ids.
    """

    last_id: int = 0
    arrived: int = 0
    last_of_all: int = 0
    acknowledged: set[int] = field(default_factory=set)
    _in_process: dict[int, _InProcess] = field(default_factory=dict)
    # Nothing is due before: spares a look at all ids with each request.
    _earliest: float = math.inf

    @property
    def in_process(self) -> list[int]:
        """Ids that were given with resends, or refused, and not acknowledged since."""
        return sorted(self._in_process)

    def given(self, message_id: int, resend: Resend | None, now: float) -> None:
        """Note that an id leaves for the first time."""
        if resend is not None and message_id not in self._in_process:
            self._keep(message_id, _InProcess(now + resend.delay, 0, resend.most))

    def due(self, resend: Resend | None, now: float) -> int | None:
        """An id that is to be given again now, and counts as given; None if there is none."""
        if now < self._earliest:
            return None
        waiting = {key: entry for key, entry in self._in_process.items() if entry.attempts < entry.most}
        for message_id, entry in waiting.items():
            if entry.due <= now:
                entry.attempts += 1
                if resend is not None:
                    entry.due, entry.most = now + resend.delay, resend.most
                return message_id
        self._earliest = min((entry.due for entry in waiting.values()), default=math.inf)
        return None

    def acknowledge(self, message_id: int) -> bool:
        """Whether this is the first acknowledgement of the id."""
        if message_id in self.acknowledged:
            return False
        self.acknowledged.add(message_id)
        self._in_process.pop(message_id, None)
        return True

    def refuse(self, message_id: int, delay: float, now: float) -> None:
        """Give an id once more after *delay* s."""
        self._keep(message_id, _InProcess(now + delay, 0, 1))

    def reset(self, last_id: int, arrived: int) -> None:
        """Set the counters; what was acknowledged stays so, ids from *last_id* on are not in process."""
        self.last_id, self.arrived, self.last_of_all = last_id, arrived, 0
        self._in_process = {key: entry for key, entry in self._in_process.items() if key < last_id}

    def _keep(self, message_id: int, entry: _InProcess) -> None:
        self._in_process[message_id] = entry
        self._earliest = min(self._earliest, entry.due)
