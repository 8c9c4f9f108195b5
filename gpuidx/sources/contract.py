# SPDX-License-Identifier: GPL-3.0-or-later
"""What a source of messages must do.  A source knows nothing of formats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import zmq

from gpuidx.flow.seen import Seen
from gpuidx.flow.slots import Slots

FRAME, START, END = "frame", "start", "end"
"""Roles of a message."""

LATE_ANSWERS = 3.0
"""Seconds that answers under way are waited for after a stop."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that has been received.

    Attributes
    ----------
    sizes
        Bytes of each part in the slot, where they lie as `gpuidx.tasks.offsets` says, `PADDING` in front of
        the message included; none for a frame that the worker reads from a file.
    filename, event
        As the stream names the frame; an event of ``""`` is replaced by ``//SERIAL``.
    rejected
        Reason and detail if the message could not be put into the slot (too large, short, too many parts).
    role
        Whether it is a frame, or the `START` or `END` of a series of frames.
    origin
        Stream and id under which the sender knows the message, where it has such names.
    connection
        Which of the connections to senders it came through, from 0: each is told of a series by itself.
    """

    sizes: tuple[int, ...]
    filename: str
    event: str
    rejected: tuple[str, str] | None = None
    role: str = FRAME
    origin: tuple[str, int] | None = None
    connection: int = 0


class Source(Protocol):
    """Where messages come from; used by one thread, which waits in one `zmq.Poller` for everything.

    Each turn of the run's loop: ``ask``, then wait in the poller (not at all if a slot is free and ``ready``
    says so: files need no event), then ``notice``, then ``take`` while something is there.  Nothing blocks.

    Attributes
    ----------
    notes
        Counters to show at the end (requests renewed, messages dropped, ignored parts).
    """

    notes: dict[str, int]

    def skip(self, frames: set[tuple[str, str]], messages: Seen) -> None:
        """Leave out what an earlier run has done: frames by name and event, messages by stream and id.

        A source whose frames have no names of their own does nothing.
        """
        ...

    def open(self, poller: zmq.Poller) -> None:
        """Open sockets or lists and register them; the source keeps its registrations up to date itself.

        Raises
        ------
        SourceError
            If an endpoint is not understood or a list cannot be read.
        """
        ...

    def ask(self, free: int) -> None:
        """See to it that no more than *free* messages can arrive unasked; called every turn."""
        ...

    def notice(self, events: Mapping[Any, int]) -> None:
        """Take note of what the poller reported; renew what was lost."""
        ...

    def connected(self) -> bool:
        """Whether there is a connection to a sender, as far as was noticed; where none lasts, always."""
        ...

    def ready(self) -> bool:
        """Whether `take` would give something now."""
        ...

    def take(self, slot: memoryview) -> Taken | None:
        """Copy one message into *slot*; None if there was none after all."""
        ...

    def drop(self) -> bool:
        """Read one message and throw it away (the ring is full and the sender does not wait).

        Returns whether one was dropped.  Sources that wait for the reader do nothing.
        """
        ...

    def stop(self) -> None:
        """Ask for nothing more; what is under way may still be taken."""
        ...

    def pending(self) -> int:
        """Messages that are still under way after `stop`."""
        ...

    def ended(self) -> bool:
        """Whether nothing will ever come again."""
        ...

    def close(self) -> None:
        """Close all sockets and files."""
        ...


class LiveSource(Source, Protocol):
    """A source that receives messages."""

    def receive(self) -> list[zmq.Frame] | None:
        """All parts of the next message, as they came; None if there was none after all."""
        ...


@runtime_checkable
class Lender(Source, Protocol):
    """A source that has messages put into slots by processes of its own, so that main copies nothing.

    It is lent slots instead of being asked to fill one, and told when a message is done.

    Attributes
    ----------
    is_exact
        Whether no more messages come than slots were lent; else some may have been sent in vain when a run
        ends.
    """

    is_exact: bool

    def ask(self, free: int) -> None:
        """Do nothing: a message is asked for when there is a slot for it."""
        return

    def ready(self) -> bool:
        """Never: see `filled`."""
        return False

    def take(self, slot: memoryview) -> Taken | None:
        """Nothing: see `filled`."""
        return None

    def drop(self) -> bool:
        """Nothing: the sender keeps what there is no slot for."""
        return False

    def attach(self, slots: Slots, message_bytes: int) -> None:
        """Say where messages go, and how many bytes of a slot are theirs; before `open`."""
        ...

    def n_wanted(self) -> int:
        """Slots that would be of use now."""
        ...

    def lend(self, slot: int) -> None:
        """Have a message put into *slot*, sooner or later."""
        ...

    def filled(self) -> tuple[int, Taken] | None:
        """The next message that has come, and its slot; None if there is none."""
        ...

    def done(self, slot: int) -> None:
        """Everything that belongs to the message in *slot* is in the file."""
        ...


@runtime_checkable
class Keeper(Lender, Protocol):
    """A `Lender` whose sender keeps messages until it hears that they are done, and gives them again."""

    is_exact: bool = True

    def connected(self) -> bool:
        """Each request makes a connection of its own."""
        return True

    def fetch_again(self, slot: int) -> None:
        """Have the message in *slot*, which is not done, put there once more; `filled` gives it."""
        ...

    def has(self, slot: int, number: int) -> bool:
        """Whether frame *number* of the message in *slot* was done by an earlier run."""
        ...

    def untold(self) -> int:
        """Messages that are done, of which the sender does not know it yet."""
        ...
