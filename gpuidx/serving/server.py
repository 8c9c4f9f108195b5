# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages sent over ZeroMQ as beamlines send them: PUB, PUSH, REP, and the ROUTER of OM.

What is sent, and when, the caller says: `gpuidx simulate`, `gpuidx replay` and `gpuidx relay` do.

A router gives a frame whose reader is gone to the next one that asks.  What had left for a reader when it
died is lost with it: one frame for each of its requests at most.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import zmq

from gpuidx.errors import OptionError, SourceError
from gpuidx.serving.messages import Outgoing, Served
from gpuidx.serving.settings import KINDS, ServeSettings
from gpuidx.sources.parts import REFUSAL

TURN_MS = 100
"""The longest wait before the stop event is looked at, ms."""

LINGER_MS = 3000
"""How long a closing socket goes on sending, ms."""

PUSH_LINGER_MS = 60_000
"""The same where no frame may be lost and the reader may take its time."""


def serve(
    messages: Iterable[Outgoing],
    settings: ServeSettings,
    ready: Callable[[str], None],
    stop: threading.Event,
) -> Served:
    """Send messages until there are no more, or *stop* is set.

    Parameters
    ----------
    messages
        In the order of sending; each is asked for when the one before has been given to ZeroMQ.
    settings
        Socket and address.
    ready
        Called once with the address, when clients may connect.
    stop
        Looked at every `TURN_MS`.

    Raises
    ------
    OptionError
        If the address cannot be understood.
    SourceError
        If it cannot be bound, or connected to.
    """
    kind = KINDS[settings.serve]
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = PUSH_LINGER_MS if kind == zmq.PUSH else LINGER_MS
        socket.sndhwm = settings.queue
        socket.immediate = 1  # nothing is queued for a reader that is not there
        if kind == zmq.XPUB:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        if kind == zmq.ROUTER:
            socket.router_mandatory = 1  # says when a reader is gone
        address = settings.connect or settings.bind
        try:
            socket.connect(address) if settings.connect else socket.bind(address)
        except zmq.ZMQError as error:
            kind_of_error = OptionError if error.errno in (zmq.EINVAL, zmq.EPROTONOSUPPORT) else SourceError
            raise kind_of_error(f"cannot serve at {address}: {error}") from error
        ready(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        server = _Server(socket, iter(messages), settings, stop)
        served = server.serve(kind)
        if stop.is_set():
            socket.linger = LINGER_MS
        return served


class _Server:
    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        messages: Iterator[Outgoing],
        settings: ServeSettings,
        stop: threading.Event,
    ) -> None:
        self._socket, self._messages = socket, messages
        self._settings, self._stop = settings, stop
        self._sent = self._refused = self._gone = 0
        self._for_each: Sequence[Any] = ()
        self._had: set[bytes] = set()
        self._began: float | None = None
        self._first = self._last = 0.0
        self._next = next(messages, None)

    def serve(self, kind: int) -> Served:
        """Send everything, as this kind of socket does."""
        if kind == zmq.XPUB:
            self._publish()
        elif kind == zmq.PUSH:
            self._push()
        else:
            self._answer(kind == zmq.ROUTER)
        return Served(self._sent, self._last - self._first, self._refused, self._gone)

    def _going(self) -> bool:
        return self._next is not None and not self._stop.is_set()

    def _early_ms(self) -> float:
        """Time until the next message is due, ms; 0 if it is."""
        if self._began is None or self._next is None:
            return 0.0
        return max(0.0, 1e3 * (self._began + self._next.due - time.monotonic()))

    def _send(self, before: Sequence[bytes], payload_before: bytes = b"") -> None:
        assert self._next is not None
        parts = self._next.parts
        if payload_before:
            parts = [b"".join((payload_before, _buffer(parts[0]))), *parts[1:]]
        self._socket.send_multipart([*before, *parts], copy=False)
        self._sent_one()

    def _sent_one(self) -> None:
        """Count the message that was sent, and have the next one."""
        assert self._next is not None
        now = time.monotonic()
        if self._began is None:
            self._began = now - self._next.due
        if self._next.is_frame:
            self._last = now
            self._first = self._last if not self._sent else self._first
            self._sent += 1
        self._next = next(self._messages, None)

    def _answer(self, is_router: bool) -> None:
        """Answer requests, oldest first; a router only what it knows, as OM does."""
        waiting: deque[list[bytes]] = deque()
        known = self._settings.request.encode()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        while self._going():
            early = self._early_ms() if waiting else TURN_MS
            if early == 0.0 and is_router:
                self._answer_reader(waiting)
                continue
            if early == 0.0:
                self._send(waiting.popleft())
                continue
            # A REP socket gives no further request before the last one is answered.
            may_receive = is_router or not waiting
            if not may_receive:
                self._stop.wait(min(early, TURN_MS) / 1e3)
            elif poller.poll(min(math.ceil(early), TURN_MS)):
                *before, request = self._socket.recv_multipart()
                if is_router and known and request != known:
                    self._send_if_there([*before, REFUSAL])
                    self._refused += 1
                else:
                    waiting.append(before)

    def _answer_reader(self, waiting: deque[list[bytes]]) -> None:
        """Answer the oldest request to a router, if its reader is still there."""
        assert self._next is not None
        if self._next.for_each:
            self._for_each, self._next = self._next.parts, next(self._messages, None)
            self._had.clear()
            return
        before = waiting.popleft()
        if self._for_each and before[0] not in self._had:
            if self._send_if_there([*before, *self._for_each]):
                self._had.add(before[0])
        elif self._send_if_there([*before, *self._next.parts]):
            self._sent_one()

    def _send_if_there(self, parts: Sequence[Any]) -> bool:
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self._gone += 1
            return False
        return True

    def _publish(self) -> None:
        """Send to all subscribers once there are enough of them."""
        tag = self._settings.tag.encode()
        glued = self._settings.tag_form == "glued"
        subscriptions = 0
        while subscriptions < self._settings.subscribers and not self._stop.is_set():
            if self._socket.poll(TURN_MS):
                subscriptions += self._socket.recv()[:1] == b"\x01"
        while self._going():
            early = self._early_ms()
            if early:
                self._stop.wait(min(early, TURN_MS) / 1e3)
            elif glued:
                self._send([], tag)
            else:
                self._send([tag] if tag else [])

    def _push(self) -> None:
        """Send each message to one of the readers, whenever one can take it."""
        while self._going():
            early = self._early_ms()
            if early:
                self._stop.wait(min(early, TURN_MS) / 1e3)
            elif self._socket.poll(TURN_MS, zmq.POLLOUT):
                self._send([])


def _buffer(part: Any) -> Any:
    return part.buffer if isinstance(part, zmq.Frame) else part
