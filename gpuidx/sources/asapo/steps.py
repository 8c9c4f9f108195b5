# SPDX-License-Identifier: GPL-3.0-or-later
"""What main and a reader say to each other.

A `Step` is sent as a task, with a number in front.  The answer is ``(number, told, outcome, *values)`` with a
`Told`, and an outcome from below.
"""

from collections.abc import Sequence
from typing import NamedTuple

FETCH, REFETCH, TELL, ASK_LEFT, RECALL, ASK_STREAMS = "fetch", "refetch", "tell", "left", "recall", "streams"
"""Kinds of steps: the next message into the slot; that with this id; nothing but *done*; what nobody has
acknowledged, at the end, or when a stream is gone on with; which streams."""

NO_SLOT = -1


class Step(NamedTuple):
    """What a reader shall do: acknowledge *done*, pairs of stream and id, then do what *kind* says.

    *slot* is where a message goes; *wanted* is the id of one to be fetched again, else 0.
    """

    kind: str
    stream: str
    slot: int
    wanted: int
    done: tuple[tuple[str, int], ...]


class Told(NamedTuple):
    """What became of *done*.

    *left* were not acknowledged, for want of time or for *failure*; *refused* the service does not want.
    """

    left: Sequence[tuple[str, int]]
    refused: Sequence[tuple[str, int]]
    failure: str


TOLD = "told"
"""Nothing more was to be done."""

LEFT, STREAMS = ASK_LEFT, ASK_STREAMS
"""``ids`` that are not acknowledged, ``size`` of the stream; ``streams``: name, time of creation, last id of
each."""

GOT = "got"
"""``id, name, sizes``: the message lies in the slot, the sender's values in front of the payload."""

TOO_LARGE, EMPTY, LOST = "too large", "empty", "lost"
"""``id, name, detail``: there was a message, and there is nothing to process."""

MESSAGES = (GOT, TOO_LARGE, EMPTY, LOST)

REASONS = {TOO_LARGE: "message too large", EMPTY: "message without data", LOST: "data lost by the service"}

NOTHING, FINISHED = "nothing", "finished"
"""``last``, or ``last, successor``: see `client.NothingYet`, `client.Finished`."""

TROUBLE, DENIED = "trouble", "denied"
"""``text``; the reader has waited a little before it said so."""

TROUBLES = (TROUBLE, DENIED)
