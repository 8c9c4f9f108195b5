# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages sent over ZeroMQ as beamlines send them: PUB, REP, and the ROUTER of OM.

Messages are made before; here they are only sent, again from the first when all were sent.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from gpuidx.arguments import option
from gpuidx.errors import OptionError, SourceError
from gpuidx.simulation.messages import EncodedFrame
from gpuidx.simulation.settings import SERVING

TURN_MS = 100
"""The longest wait before the stop event is looked at, ms."""

LINGER_MS = 3000
"""How long a closing socket goes on sending, ms."""

OM_UNKNOWN = b"What?"
"""OM's answer to a request that it does not know."""


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How messages are sent."""

    serve: str = option(
        "none", group=SERVING, metavar="SOCKET", choices=("none", "rep", "router", "pub"),
        help="send frames as MsgPack: rep answers any request, router those of OM, pub sends to all",
    )  # fmt: skip
    bind: str = option(
        "tcp://127.0.0.1:*", group=SERVING, metavar="ADDRESS", help="where to serve; * takes a free port"
    )
    rate: float = option(
        0.0, group=SERVING, metavar="HZ", help="frames per second; 0: as fast as they are taken"
    )
    request: str = option("next", group=SERVING, metavar="STRING", help="the request that a router answers")
    tag: str = option("", group=SERVING, metavar="TAG", help="tag of published messages")
    tag_form: str = option(
        "part", group=SERVING, metavar="FORM", choices=("part", "glued"),
        help="a tag is a part of its own, or glued to the front of the message",
    )  # fmt: skip
    subscribers: int = option(
        1, group=SERVING, metavar="N", help="publish only when there are so many subscriptions"
    )
    queue: int = option(
        50, group=SERVING, metavar="N", help="messages that are kept for a slow subscriber; more are lost"
    )


@dataclass(frozen=True, slots=True)
class Served:
    """What was sent.

    Attributes
    ----------
    sent
        Messages.
    seconds
        From the first to the last.
    refused
        Requests that were not understood.
    """

    sent: int
    seconds: float
    refused: int


def serve(
    messages: Sequence[EncodedFrame],
    n_frame: int,
    settings: ServeSettings,
    ready: Callable[[str], None],
    stop: threading.Event,
) -> Served:
    """Send messages until *n_frame* of them are sent (0: for ever) or *stop* is set.

    Parameters
    ----------
    messages
        In the order of sending; frame numbers count on when they begin again.
    n_frame
        How many.
    settings
        Socket, address, rate.
    ready
        Called once with the address, when clients may connect.
    stop
        Looked at every `TURN_MS`.

    Raises
    ------
    OptionError
        If the address cannot be understood.
    SourceError
        If it cannot be bound.
    """
    kind = {"rep": zmq.REP, "router": zmq.ROUTER, "pub": zmq.XPUB}[settings.serve]
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = LINGER_MS
        socket.sndhwm = settings.queue
        if kind == zmq.XPUB:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        try:
            socket.bind(settings.bind)
        except zmq.ZMQError as error:
            kind_of_error = OptionError if error.errno in (zmq.EINVAL, zmq.EPROTONOSUPPORT) else SourceError
            raise kind_of_error(f"cannot serve at {settings.bind}: {error}") from error
        ready(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        server = _Server(socket, messages, n_frame, settings, stop)
        return server.publish() if kind == zmq.XPUB else server.answer(kind == zmq.ROUTER)


class _Server:
    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        messages: Sequence[EncodedFrame],
        n_frame: int,
        settings: ServeSettings,
        stop: threading.Event,
    ) -> None:
        self._socket, self._messages, self._n_frame = socket, messages, n_frame
        self._settings, self._stop = settings, stop
        self._sent, self._refused = 0, 0
        self._began = self._last = 0.0
        self._under_way: list[zmq.MessageTracker | None] = [None] * len(messages)

    def _going(self) -> bool:
        return not self._stop.is_set() and (self._n_frame == 0 or self._sent < self._n_frame)

    def _early_ms(self) -> float:
        """Time until the next message is due, ms; 0 if it is."""
        if not self._settings.rate or not self._sent:
            return 0.0
        due = self._began + self._sent / self._settings.rate
        return max(0.0, 1e3 * (due - time.monotonic()))

    def _send(self, before: Sequence[bytes], payload_before: bytes = b"") -> None:
        turn = self._sent % len(self._messages)
        message, under_way = self._messages[turn], self._under_way[turn]
        # A message that has not left yet may not be changed: its copy takes its place.
        is_free = under_way is None or under_way.done
        data: Any = (message if is_free else message.copy()).numbered(self._sent)
        parts = [*before, payload_before + data if payload_before else data]
        tracker = self._socket.send_multipart(parts, copy=False, track=True)
        if is_free:
            self._under_way[turn] = tracker
        self._last = time.monotonic()
        if not self._sent:
            self._began = self._last
        self._sent += 1

    def _report(self) -> Served:
        return Served(self._sent, self._last - self._began, self._refused)

    def answer(self, is_router: bool) -> Served:
        """Answer requests, oldest first; a router only what it knows, as OM does."""
        waiting: deque[list[bytes]] = deque()
        known = self._settings.request.encode()
        while self._going():
            early = self._early_ms() if waiting else TURN_MS
            if early == 0.0:
                self._send(waiting.popleft())
                continue
            # A REP socket gives no further request before the last one is answered.
            may_receive = is_router or not waiting
            if not may_receive:
                self._stop.wait(min(early, TURN_MS) / 1e3)
            elif self._socket.poll(min(math.ceil(early), TURN_MS)):
                *before, request = self._socket.recv_multipart()
                if is_router and request != known:
                    self._socket.send_multipart([*before, OM_UNKNOWN])
                    self._refused += 1
                else:
                    waiting.append(before)
        return self._report()

    def publish(self) -> Served:
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
        return self._report()
