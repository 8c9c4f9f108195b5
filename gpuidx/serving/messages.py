# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages to be sent, and what is told of those that were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Protocol


class Outgoing(NamedTuple):
    """A message to be sent.

    Attributes
    ----------
    parts
        Bytes, or frames of ZeroMQ; they must stay as they are until they have left.
    due
        Not before so many seconds after the first message.
    is_frame
        Whether it counts, or begins or ends a series.
    for_each
        A router sends it, until the next of this kind, to every reader in front of its first frame, instead
        of to one.
    """

    parts: Sequence[Any]
    due: float = 0.0
    is_frame: bool = True
    for_each: bool = False


class Repeatable(Protocol):
    """A message that may be sent several times."""

    def parts(self, number: int) -> Sequence[Any]:
        """What to send as frame *number*."""
        ...


def in_turn(messages: Sequence[Repeatable], n_frame: int, rate: float = 0.0) -> Iterator[Outgoing]:
    """*n_frame* of these messages (0: for ever), from the first again when all were sent.

    *rate* is in frames per second; 0: as fast as they are taken.
    """
    for number in range(n_frame) if n_frame else count():
        yield Outgoing(messages[number % len(messages)].parts(number), number / rate if rate else 0.0)


@dataclass(frozen=True, slots=True)
class Served:
    """What was sent.

    Attributes
    ----------
    sent
        Frames.
    seconds
        From the first to the last.
    refused
        Requests that were not understood.
    gone
        Requests of readers that were gone when their turn came.
    """

    sent: int
    seconds: float
    refused: int
    gone: int = 0

    def __str__(self) -> str:
        rate = f", {(self.sent - 1) / self.seconds:.1f} a second" if self.seconds else ""
        refused = f", {self.refused} requests not understood" if self.refused else ""
        gone = f", {self.gone} requests of readers that had gone" if self.gone else ""
        return f"{self.sent} frames sent{rate}{refused}{gone}"
