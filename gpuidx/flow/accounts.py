# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts: every message that was received ends in exactly one counted state."""

from collections import Counter

from gpuidx.errors import AccountsError

BLANK, HIT, INDEXED = "blank", "hit_unindexed", "indexed"
REJECTED, CRASHED, DROPPED, DUPLICATE = "rejected", "crashed", "dropped", "duplicate"

STATES = {
    BLANK: "blank",
    HIT: "hits, not indexed",
    INDEXED: "indexed",
    REJECTED: "rejected",
    CRASHED: "lost with a worker",
    DROPPED: "dropped",
    DUPLICATE: "duplicate",
}
"""The states in which a message can end, and their names in the final table."""

MOST_REASONS = 100
"""Reasons counted apart for one state; further ones are put together."""

OTHER_REASONS = "other reasons"


class Accounts:
    """received = blank + hit_unindexed + indexed + rejected + crashed + dropped + duplicate + in flight.

    Parameters
    ----------
    serial_start
        Serial of the first message.

    Attributes
    ----------
    received
        Number of messages received.
    """

    def __init__(self, serial_start: int = 1) -> None:
        self.serial_start = serial_start
        self.received = 0
        self._flying: set[int] = set()
        self._final: dict[str, Counter[str]] = {state: Counter() for state in STATES}

    def receive(self) -> int:
        """Count a message as received; gives its serial."""
        serial = self.serial_start + self.received
        self.received += 1
        self._flying.add(serial)
        return serial

    def finish(self, serial: int, state: str, reason: str = "") -> None:
        """Count a message in the *state* in which it ended, for *reason*: a few fixed words.

        Raises
        ------
        AccountsError
            If the message was never received, has ended already, or there is no such state.
        """
        if state not in STATES:
            raise AccountsError(f"message {serial} ended as {state!r}, which is not a state")
        if serial not in self._flying:
            raise AccountsError(f"message {serial} ended as {state!r}, but it is not in flight")
        self._flying.remove(serial)
        reasons = self._final[state]
        if reason not in reasons and len(reasons) >= MOST_REASONS:
            reason = OTHER_REASONS
        reasons[reason] += 1

    def finish_all(self, state: str, reason: str = "") -> int:
        """Count everything in flight as *state*; gives how many those were."""
        serials = sorted(self._flying)
        for serial in serials:
            self.finish(serial, state, reason)
        return len(serials)

    @property
    def in_flight(self) -> int:
        """Number of messages received and not ended."""
        return len(self._flying)

    def count(self, state: str) -> int:
        """Number of messages that ended in *state*."""
        return self._final[state].total()

    def reasons(self, state: str) -> dict[str, int]:
        """Counts of *state* by reason, most frequent first."""
        return dict(self._final[state].most_common())

    @property
    def hits(self) -> int:
        """Messages that were found to be hits."""
        return self.count(HIT) + self.count(INDEXED)

    @property
    def processed(self) -> int:
        """Messages that went through to their end."""
        return self.count(BLANK) + self.hits

    def check(self) -> None:
        """Compare the two sides of the sum.

        Raises
        ------
        AccountsError
            If they differ.
        """
        ended = {state: self.count(state) for state in STATES}
        if self.received != sum(ended.values()) + len(self._flying):
            parts = " + ".join(f"{n} {state}" for state, n in ended.items())
            raise AccountsError(f"{self.received} received, but {parts} + {len(self._flying)} in flight")

    def lines(self) -> list[str]:
        """Give the final table, a line for each state that occurred and each of its reasons."""
        width = max(7, len(str(self.received)))
        lines = [f"{self.received:{width}d}  received"]
        for state, name in STATES.items():
            if n := self.count(state):
                lines.append(f"{n:{width}d}    {name}")
                lines += [f"{m:{width}d}      {why}" for why, m in self.reasons(state).items() if why]
        if self._flying:
            lines.append(f"{len(self._flying):{width}d}    in flight")
        return lines
