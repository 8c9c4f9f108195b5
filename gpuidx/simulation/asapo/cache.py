# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads of messages, in memory that is bounded: the oldest are evicted, as in ASAP::O's ring of memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable

Payload = bytes | bytearray | Callable[[], bytes | bytearray]
"""Bytes, or a function that makes them each time they are asked for, and so takes no memory."""


def payload_bytes(payload: Payload) -> bytes | bytearray:
    """The bytes of a payload."""
    return payload() if callable(payload) else payload


class Cache:
    """Payloads by number, from 1.

    Parameters
    ----------
    limit
        Bytes that are kept; the newest payload always is.  Those that are made when asked for do not count.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._last = limit, 0, 0
        self._payloads: OrderedDict[int, Payload] = OrderedDict()
        self._message_of: dict[int, int] = {}
        self._lock = threading.Lock()

    def put(self, payload: Payload, message_id: int) -> int:
        """The number under which the payload of a message is kept from now on."""
        with self._lock:
            self._last += 1
            self._message_of[self._last] = message_id
            self._payloads[self._last] = payload
            self._held += _held(payload)
            while self._held > self._limit and len(self._payloads) > 1:
                self._drop(next(iter(self._payloads)))
            return self._last

    def get(self, number: int) -> Payload | None:
        """A payload; None if it was evicted or never there."""
        with self._lock:
            return self._payloads.get(number)

    def message_of(self, number: int) -> int | None:
        """The id of the message whose payload has or had this number."""
        with self._lock:
            return self._message_of.get(number)

    def evict(self, number: int) -> None:
        """Forget a payload, if it is there."""
        with self._lock:
            if number in self._payloads:
                self._drop(number)

    def forget(self, number: int) -> None:
        """Evict a payload, and whose it was."""
        self.evict(number)
        with self._lock:
            self._message_of.pop(number, None)

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return self._held

    def _drop(self, number: int) -> None:
        self._held -= _held(self._payloads.pop(number))


def _held(payload: Payload) -> int:
    return 0 if callable(payload) else len(payload)
