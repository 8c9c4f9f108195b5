# SPDX-License-Identifier: GPL-3.0-or-later
"""The turns of a run's loop around a source, and servers on loopback for the other end."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import zmq

from gpuidx.model import PADDING
from gpuidx.sources.contract import Source, Taken

DEADLINE = 60.0
SLOT = 1 << 16


def free_address() -> str:
    """An address on loopback where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{one.getsockname()[1]}"


def frame(number: int, size: int = 200) -> bytes:
    """A message that begins as MsgPack does, with a number to be known by."""
    return b"\x82" + number.to_bytes(4, "big") + bytes(size - 5)


def number_of(data: bytes) -> int:
    return int.from_bytes(data[1:5], "big")


class Loop:
    """An open source, and the loop that serves it."""

    def __init__(self, source: Source, slot_size: int = SLOT) -> None:
        self.source, self.poller = source, zmq.Poller()
        self.slot = memoryview(np.zeros(slot_size, np.uint8))
        self.taken: list[Taken] = []
        self.data: list[bytes] = []

    def __enter__(self) -> Self:
        self.source.open(self.poller)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        assert not self.poller.sockets

    def turn(self, free: int = 8, take: bool = True) -> None:
        self.source.ask(free)
        self.source.notice(dict(self.poller.poll(20)))
        while take and self.source.ready():
            taken = self.source.take(self.slot)
            if taken is None:
                break
            self.taken.append(taken)
            self.data.append(bytes(self.slot[: sum(taken.sizes)]).lstrip(PADDING))

    def until(self, condition: Callable[[], bool], free: int = 8, take: bool = True) -> None:
        """Turn until the condition holds; fail at the deadline."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"still waiting; got {len(self.taken)} messages"
            self.turn(free, take)

    def receive(self, count: int, free: int = 8) -> None:
        """Turn until so many messages have come."""
        self.until(lambda: len(self.taken) >= count, free)

    @property
    def numbers(self) -> list[int]:
        return [number_of(data) for data in self.data]

    @property
    def reasons(self) -> list[str]:
        return [taken.rejected[0] if taken.rejected else "" for taken in self.taken]


class Server:
    """A REP or ROUTER in a thread; `answer` gives the parts of each reply, None for no reply."""

    def __init__(
        self, kind: int, answer: Callable[[int], list[bytes] | None], address: str = "tcp://127.0.0.1:*"
    ) -> None:
        self.kind, self.answer, self.address = kind, answer, address
        self.requests: list[bytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._context = zmq.Context()
        self._socket = self._context.socket(self.kind)
        self._socket.linger = 0
        bind_when_free(self._socket, self.address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Close the socket, with all requests that it holds."""
        self._stop.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(10):
                continue
            *envelope, request = self._socket.recv_multipart()
            self.requests.append(request)
            parts = self.answer(len(self.requests) - 1)
            if parts is None and self.kind == zmq.REP:
                break  # a REP must answer before it can receive
            if parts is not None:
                self._socket.send_multipart([*envelope, *parts])
        self._stop.wait(DEADLINE)
        self._socket.close(0)
        self._context.term()


def bind_when_free(one: Any, address: str) -> None:
    """Bind; right after the death of another server its port may not be free yet."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            one.bind(address)
            return
        except zmq.ZMQError:
            assert time.monotonic() < end
            threading.Event().wait(0.01)
