# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames on request: several REQ sockets against a REP or a ROUTER such as OM's.

One request is in flight in each socket.  It is renewed, in a new socket, when its connection ends (the
socket's monitor tells at once), else only after a long time: a server such as OM answers with the next hit,
to whoever asked first, and an answer to a request that was given up is a lost hit.  For the same reason
REQ_RELAXED and REQ_CORRELATE stay off, and several requests are not sent through one DEALER.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import zmq

from gpuidx.flow.seen import Seen
from gpuidx.sources.contract import Taken
from gpuidx.sources.links import ABSENT_AFTER, Link, check_address
from gpuidx.sources.parts import is_refusal, put
from gpuidx.sources.wiring import PLAIN, Wiring

log = logging.getLogger(__name__)

REFUSED_PAUSE = 1.0
"""Seconds before a server that refused the request is asked again."""


class Request:
    """A `Source` that asks for every frame; no more requests in flight than there are free slots.

    Parameters
    ----------
    addresses
        ``tcp://HOST:PORT`` or ``ipc://PATH``, each of another server.
    request
        What to send, as one part.
    in_flight
        Sockets, each with one request to one server; there is at least one for each.
    late
        Seconds after which a request without an answer is given up although its connection lives.
    wiring
        Whether to bind, and keys.
    """

    def __init__(
        self, addresses: Sequence[str], request: str, in_flight: int, late: float, wiring: Wiring = PLAIN
    ) -> None:
        for address in addresses:
            check_address(address, wiring.bind)
        self.addresses, self.request, self.late = tuple(addresses), os.fsencode(request), late
        self.in_flight, self._wiring = in_flight, wiring
        self.notes: dict[str, int] = {"requests renewed": 0}
        self._idle: deque[Link] = deque()
        self._asked: dict[Link, float] = {}  # in the order of the requests
        self._ready: deque[Link] = deque()
        self._resting: deque[tuple[float, Link]] = deque()
        self._by_socket: dict[Any, Link] = {}
        self._numbers: dict[Link, int] = {}
        self._context: zmq.Context[Any] | None = None
        self._opened = 0.0
        self._stopped = self._told = False

    def skip(self, frames: set[tuple[str, str]], messages: Seen) -> None:
        """Do nothing: messages have no names."""

    def open(self, poller: zmq.Poller) -> None:
        """Connect all sockets; the first requests go out with `ask`."""
        self._context, self._poller = zmq.Context(), poller
        self._opened = time.monotonic()
        for number in range(max(len(self.addresses), self.in_flight)):
            self._idle.append(self._connect(number))

    def _connect(self, number: int) -> Link:
        assert self._context is not None
        address = self.addresses[number % len(self.addresses)]
        link = Link(self._context, self._poller, zmq.REQ, [address], hwm=1, wiring=self._wiring)
        self._by_socket[link.socket] = self._by_socket[link.monitor] = link
        self._numbers[link] = number
        return link

    def _close(self, link: Link) -> None:
        del self._by_socket[link.socket], self._by_socket[link.monitor], self._numbers[link]
        link.close()

    def ask(self, free: int) -> None:
        """Send requests for the free slots that no request in flight counts on; renew what is late."""
        if self._stopped:
            return
        now = time.monotonic()
        self._renew_late(now)
        while self._resting and self._resting[0][0] <= now:
            self._idle.append(self._resting.popleft()[1])
        while self._idle and len(self._asked) < free:
            link = self._idle.popleft()
            self._look(link)  # an old loss must not be taken for that of this request
            try:
                link.socket.send(self.request, zmq.NOBLOCK)
            except zmq.Again:
                self._idle.append(link)
                break
            self._asked[link] = now
        if not self._told and now - self._opened > ABSENT_AFTER:
            self._told = True
            log.warning("%s: no connection yet; waiting for the server", ", ".join(self.addresses))

    def _renew_late(self, now: float) -> None:
        while self._asked:
            link, since = next(iter(self._asked.items()))
            if now - since <= self.late or link in self._ready:
                return
            self._renew(link)

    def _renew(self, link: Link) -> None:
        """The answer to this request will never come: ask again, in a new socket."""
        del self._asked[link]
        number = self._numbers[link]
        self._close(link)
        self._idle.append(self._connect(number))
        self.notes["requests renewed"] += 1

    def notice(self, events: Mapping[Any, int]) -> None:
        """Note which answers are there, and renew requests whose connection ended."""
        touched = {self._by_socket[s]: None for s in events if s in self._by_socket}
        for link in touched:
            if link.socket in events and link not in self._ready:
                self._ready.append(link)
            if link.monitor not in events:
                continue
            if self._look(link) and link in self._asked and link not in self._ready:
                self._lost(link)

    def _look(self, link: Link) -> bool:
        """Whether a link has lost its connection since the last look; once there was one, no need to tell."""
        lost = link.look()
        self._told = self._told or link.connected or lost
        return lost

    def _lost(self, link: Link) -> None:
        if link.socket.poll(0):  # the answer came before the connection went
            self._ready.append(link)
        elif self._stopped:
            del self._asked[link]
        else:
            self._renew(link)

    def connected(self) -> bool:
        """Whether a server is there."""
        return any(link.connected for link in self._by_socket.values())

    def ready(self) -> bool:
        """Whether an answer is there."""
        return bool(self._ready)

    def receive(self) -> list[zmq.Frame] | None:
        """All parts of the oldest answer; its server may be asked again."""
        answer = self._answer()
        return answer[1] if answer else None

    def _answer(self) -> tuple[int, list[zmq.Frame]] | None:
        """The number of its socket, and the oldest answer."""
        while self._ready:
            link = self._ready.popleft()
            try:
                parts: list[zmq.Frame] = link.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                continue
            del self._asked[link]
            if is_refusal(parts):
                self._resting.append((time.monotonic() + REFUSED_PAUSE, link))
            else:
                self._idle.append(link)
            return self._numbers[link], parts
        return None

    def take(self, slot: memoryview) -> Taken | None:
        """Copy the oldest answer into *slot*."""
        if (answer := self._answer()) is None:
            return None
        connection, parts = answer
        return replace(put(parts, slot), connection=connection)

    def drop(self) -> bool:
        """Do nothing: nothing comes that was not asked for."""
        return False

    def stop(self) -> None:
        """Ask for nothing more.  Requests that never reached a server are not under way."""
        self._stopped = True

    def pending(self) -> int:
        """Requests that a connected server holds, and answers not yet taken."""
        return sum(link.connected or link in self._ready for link in self._asked)

    def ended(self) -> bool:
        """Whether the source was stopped and nothing is under way."""
        return self._stopped and not self.pending()

    def close(self) -> None:
        """Close all sockets at once."""
        for link in set(self._by_socket.values()):
            self._close(link)
        if self._context is not None:
            self._context.term()
