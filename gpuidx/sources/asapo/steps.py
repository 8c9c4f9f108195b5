# SPDX-License-Identifier: GPL-3.0-or-later
"""What main and a reader say to each other.

A step is a task ``(number, kind, stream, slot, id, done)``: *done*, pairs of stream and id, are acknowledged
first, then it is done what *kind* says.  The answer is ``(number, left, outcome, *values)`` with those of
*done* that could not be acknowledged, and an outcome from below.
"""

FETCH, REFETCH, TELL, ASK_LEFT, ASK_STREAMS = "fetch", "refetch", "tell", "left", "streams"
"""Kinds of steps: the next message into the slot; that with this id; nothing but *done*; what nobody has
acknowledged; which streams."""

NO_SLOT = -1

TOLD = "told"
"""Nothing more was to be done."""

LEFT, STREAMS = ASK_LEFT, ASK_STREAMS
"""``ids`` given to the group and not acknowledged; ``streams``: name, time of creation, last id of each."""

GOT = "got"
"""``id, name, sizes``: the message lies in the slot, the sender's values in front of the payload."""

TOO_LARGE, LOST = "too large", "lost"
"""``id, name, detail``: there was a message, and it will not come."""

MESSAGES = (GOT, TOO_LARGE, LOST)

REASONS = {TOO_LARGE: "message too large", LOST: "data lost by the service"}

NOTHING, FINISHED = "nothing", "finished"
"""``last``, or ``last, successor``: see `client.NothingYet`, `client.Finished`."""

TROUBLE, DENIED = "trouble", "denied"
"""``text``; the reader has waited a little before it said so."""

TROUBLES = (TROUBLE, DENIED)
