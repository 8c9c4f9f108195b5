# SPDX-License-Identifier: GPL-3.0-or-later
"""Main's side of several receivers: slots to processes with sockets of their own, messages from them.

Main touches no byte of a message.  Requests can be shared out among sockets, and so can what is pushed; what
is published cannot, for each subscriber gets everything.  Nor can series of frames: their start would come to
one socket and their frames to others, in no order.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import zmq

from gpuidx.errors import SourceError
from gpuidx.flow.children import Answer, Pool
from gpuidx.flow.seen import Seen
from gpuidx.flow.slots import SharedTable, Slots
from gpuidx.model import STREAMED
from gpuidx.options import InputOptions, LinkOptions
from gpuidx.sources.contract import START, Lender, LiveSource, Taken
from gpuidx.sources.links import ABSENT_AFTER
from gpuidx.sources.request import Request
from gpuidx.sources.unasked import Unasked
from gpuidx.sources.wiring import read_wiring

log = logging.getLogger(__name__)

BODY = "gpuidx.sources.receiver:receive"

COLUMNS = RECEIVED, CONNECTED, UNDER_WAY, NOTED = range(4)
"""Of a receiver's counters: messages taken off its sockets; whether it is connected; requests in flight; what
the notes of its source count."""

SPARE_SLOTS = 4
"""Slots of each receiver besides one for each request: main lends another some time after it got one back."""


def open_links(options: LinkOptions) -> LiveSource:
    """The source for the senders that the options name; nothing is opened before `Source.open`.

    Raises
    ------
    OptionError
        If an address is none that a socket could be attached to, or a key file is none.
    """
    addresses = options.zmq_input
    wiring = read_wiring(options.zmq_bind, options.zmq_own_key, options.zmq_server_key)
    if options.zmq_request is not None:
        return Request(addresses, options.zmq_request, options.zmq_requests, options.zmq_timeout, wiring)
    tags = None if options.zmq_pull else options.zmq_subscribe
    return Unasked(addresses, options.image_data, tags, wiring)


def slots_of_receivers(options: InputOptions) -> int:
    """Slots that all receivers have together, so that each always has some; 0 without receivers."""
    return options.zmq_receivers * (_requests(options) + SPARE_SLOTS)


def _requests(options: InputOptions) -> int:
    """Requests that a receiver has in flight."""
    if options.zmq_request is None:
        return 0
    each = math.ceil(options.zmq_requests / max(1, options.zmq_receivers))
    return max(each, len(options.zmq_input))


class Receivers(Lender):
    """A `Lender` with processes that ask for frames, or take what is pushed.

    Parameters
    ----------
    options
        With the senders, and ``zmq_receivers``, the number of processes.

    Raises
    ------
    OptionError
        As `open_links`.
    """

    def __init__(self, options: InputOptions) -> None:
        self._n_receiver, requests = options.zmq_receivers, _requests(options)
        self._depth = requests + SPARE_SLOTS
        links: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(LinkOptions)}
        self._options = LinkOptions(**links | {"zmq_requests": requests})
        self.is_exact = options.zmq_request is not None
        (self._noted,) = open_links(self._options).notes
        self.notes: dict[str, int] = {}
        self._pool: Pool | None = None
        self._stop: SharedTable | None = None
        self._filled: deque[tuple[int, Taken]] = deque()
        self._opened = 0.0
        self._n_answered = 0
        self._told = False

    def skip(self, frames: set[tuple[str, str]], messages: Seen) -> None:
        """Do nothing: messages have no names."""

    def attach(self, slots: Slots, message_bytes: int) -> None:
        """Say where messages go, and how many bytes of a slot are theirs; before `open`."""
        self._stop = SharedTable(1, 1)
        self._pool = Pool(
            BODY, self._n_receiver, (slots, self._stop, self._options, message_bytes), depth=self._depth,
            batch=self._depth, task_limit=math.inf, counters=len(COLUMNS), name="receiver",
        )  # fmt: skip

    def open(self, poller: zmq.Poller) -> None:
        """Start the receivers."""
        assert self._pool is not None
        self._opened = time.monotonic()
        self._pool.open(poller)

    def n_wanted(self) -> int:
        """Slots that would be of use now."""
        assert self._pool is not None
        return 0 if self._is_stopped else self._n_receiver * self._depth - self._pool.n_task

    def lend(self, slot: int) -> None:
        """Have a message put into *slot*; it goes to the receiver with the fewest slots."""
        assert self._pool is not None
        self._pool.give((slot,))

    def ask(self, free: int) -> None:
        """Hand out what was lent since the last turn; tell the user about an absent sender."""
        assert self._pool is not None
        self._pool.hand_out()
        if not self._told and time.monotonic() - self._opened > ABSENT_AFTER:
            self._told = True
            if not self.connected():
                senders = ", ".join(self._options.zmq_input)
                log.warning("%s: no connection yet; waiting for the sender", senders)

    def notice(self, events: Mapping[Any, int]) -> None:
        """Take the receivers' answers.

        Raises
        ------
        SourceError
            If a series of frames begins, and there are several receivers.
        """
        assert self._pool is not None
        for ended in self._pool.collect(events):
            if isinstance(ended, Answer):
                self._take(ended.task[0], ended.values)
            elif not self._is_stopped:
                self._pool.give(ended.task)
        self._note(self._pool)

    def _take(self, slot: int, values: tuple[Any, ...]) -> None:
        if not values:  # nothing will come any more
            return
        sizes, rejected, role, connection = values
        if role == START and self._n_receiver > 1:
            raise SourceError(
                "the sender sends series of frames, whose start would come to one receiver and the frames to "
                f"others; give --zmq-receivers=1 instead of {self._n_receiver}"
            )
        self._n_answered += 1
        refusal = (rejected[0], rejected[1]) if rejected else None
        self._filled.append((slot, Taken(tuple(sizes), STREAMED, "", refusal, role, connection=connection)))

    def _note(self, pool: Pool) -> None:
        self.notes[self._noted] = pool.counter(NOTED)
        if pool.restarts:
            self.notes["receivers replaced"] = pool.restarts
            self.notes["messages lost with a receiver"] = pool.counter(RECEIVED) - self._n_answered

    def connected(self) -> bool:
        """Whether a receiver has a connection to a sender."""
        return self._pool is not None and self._pool.counter(CONNECTED) > 0

    def filled(self) -> tuple[int, Taken] | None:
        """The next message that has come, and its slot; None if there is none."""
        return self._filled.popleft() if self._filled else None

    def done(self, slot: int) -> None:
        """Do nothing: the senders do not want to know."""

    @property
    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.row(0)[0] != 0

    def stop(self) -> None:
        """Have the receivers ask for nothing more, and give back the slots that they do not need."""
        assert self._stop is not None
        self._stop.row(0)[0] = 1

    def pending(self) -> int:
        """Slots into which something may still come, and messages not yet taken."""
        assert self._pool is not None
        return self._pool.n_task - self._pool.n_waiting + len(self._filled)

    def ended(self) -> bool:
        """Whether the source was stopped and nothing is under way."""
        return self._is_stopped and not self.pending()

    def close(self) -> None:
        """End the receivers."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._stop is not None:
            self._stop.close()
