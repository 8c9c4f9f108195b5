# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that come without being asked for: one SUB or one PULL socket, for any number of senders.

A publisher drops, silently, what a subscriber does not read in time, and mostly keeps the oldest.  So a SUB
socket is always read: when no slot is free, messages are read and dropped here, and counted.  Who pushes
waits for us: a PULL socket is read only when there is a slot.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import zmq

from gpuidx.flow.seen import Seen
from gpuidx.sources.contract import START, Taken
from gpuidx.sources.links import ABSENT_AFTER, Link, check_address
from gpuidx.sources.parts import put, role_of
from gpuidx.sources.wiring import PLAIN, Wiring

log = logging.getLogger(__name__)

HELD_FRAMES, HELD_PEAK_LISTS = 4, 1000
"""Messages that libzmq holds: few while they are images (memory), many while they are small."""


class Unasked:
    """A `Source` that takes what comes.

    Parameters
    ----------
    addresses
        ``tcp://HOST:PORT`` or ``ipc://PATH``, of one sender each, or to be bound to.
    with_image
        Whether messages hold images.
    tags
        Beginnings of messages to subscribe to; an empty one takes everything.  None: senders push.
    wiring
        Whether to bind, and keys.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        with_image: bool,
        tags: Sequence[str] | None = None,
        wiring: Wiring = PLAIN,
    ) -> None:
        for address in addresses:
            check_address(address, wiring.bind)
        self.addresses, self.subscribes, self._wiring = tuple(addresses), tags is not None, wiring
        self.tags = sorted((os.fsencode(tag) for tag in tags or ()), key=len, reverse=True)
        self.held = HELD_FRAMES if with_image else HELD_PEAK_LISTS
        self.notes: dict[str, int] = {"connections lost": 0}
        self._context: zmq.Context[Any] | None = None
        self._link: Link | None = None
        self._opened = 0.0
        self._start: list[zmq.Frame] | None = None
        self._there = self._stopped = self._told = False

    def skip(self, frames: set[tuple[str, str]], messages: Seen) -> None:
        """Do nothing: messages have no names."""

    def open(self, poller: zmq.Poller) -> None:
        """Attach the socket."""
        self._context = zmq.Context()
        kind = zmq.SUB if self.subscribes else zmq.PULL
        self._link = Link(self._context, poller, kind, self.addresses, self.held, self._wiring)
        for tag in self.tags:
            self._link.socket.subscribe(tag)
        self._opened = time.monotonic()

    def ask(self, free: int) -> None:
        """Messages come unasked: while none of those that are pushed can be taken, do not wait for them.

        Tells the user about an absent sender.
        """
        if self._link is not None:
            self._link.listen(self.subscribes or free > 0)
        if not self._told and time.monotonic() - self._opened > ABSENT_AFTER:
            self._told = True
            sender = "publisher" if self.subscribes else "sender"
            log.warning("%s: no connection yet; waiting for the %s", ", ".join(self.addresses), sender)

    def notice(self, events: Mapping[Any, int]) -> None:
        """Note whether messages are there; a lost connection is made anew by libzmq itself."""
        if self._link is None:
            return
        self._there = self._there or self._link.socket in events
        if self._link.monitor in events:
            self.notes["connections lost"] += self._link.look()
            self._told = self._told or self._link.connected

    def connected(self) -> bool:
        """Whether there is a sender."""
        return self._link is not None and self._link.connected

    def ready(self) -> bool:
        """Whether a message may be there."""
        return (self._there or self._start is not None) and not self._stopped

    def receive(self) -> list[zmq.Frame] | None:
        """All parts of the next message, as they came."""
        if self._start is None:
            return self._read()
        start, self._start = self._start, None
        return start

    def _read(self) -> list[zmq.Frame] | None:
        if self._link is None:
            return None
        try:
            parts: list[zmq.Frame] = self._link.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self._there = False
            return None
        return parts

    def take(self, slot: memoryview) -> Taken | None:
        """Copy the next message, without its tag, into *slot*."""
        parts = self.receive()
        return put(parts, slot, self.tags) if parts else None

    def drop(self) -> bool:
        """Read one message without copying it, and forget it; senders that push wait instead.

        One that begins a series is kept for `receive`: without it the frames behind it are of no use.
        """
        parts = self._read() if self.subscribes else None
        if parts is None:
            return False
        if role_of([part.buffer for part in parts], self.tags) == START:
            self._start = parts
            return False
        return True

    def stop(self) -> None:
        """Take nothing more; what libzmq still holds was not received."""
        self._stopped = True
        if self._link is not None:
            self._link.listen(False)

    def pending(self) -> int:
        """Nothing is ever under way: nobody is asked."""
        return 0

    def ended(self) -> bool:
        """Whether the source was stopped."""
        return self._stopped

    def close(self) -> None:
        """Close the socket at once."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._context is not None:
            self._context.term()
