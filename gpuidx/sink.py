# SPDX-License-Identifier: GPL-3.0-or-later
"""Where received messages go: a thread that takes them in their order, and memory for those that wait."""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import zmq

from gpuidx.errors import GpuidxError

Item = TypeVar("Item")


class Arrived(NamedTuple):
    """A message as it came.

    Attributes
    ----------
    time
        Seconds since the loop was made.
    link
        Number of its source.
    role
        Frame, start or end of a series; None if it is too short for any.
    parts
        All of them.
    """

    time: float
    link: int
    role: str | None
    parts: Sequence[zmq.Frame]


class Sink(ABC, Generic[Item]):
    """A thread's way to its messages; who makes it starts the thread, which takes from ``_waiting``.

    Parameters
    ----------
    capacity
        Bytes that may wait; reached, there is no room until some have gone.

    Attributes
    ----------
    error
        What ended the thread, if anything did; nothing is taken after that.
    n_byte
        Bytes that were put so far.
    """

    def __init__(self, capacity: int) -> None:
        self.error: GpuidxError | None = None
        self.n_byte = 0
        self._capacity = capacity
        self._waiting: deque[tuple[Item, int]] = deque()
        self._waits = 0
        self._closing = False
        self._changed = threading.Condition()

    @property
    def has_room(self) -> bool:
        """Whether another message may be put."""
        return self._waits < self._capacity

    @property
    def load(self) -> float:
        """Share of the memory that is used."""
        return self._waits / self._capacity

    @abstractmethod
    def put(self, arrived: Arrived) -> None:
        """Take a message over; its parts must stay as they are."""

    def _add(self, item: Item, size: int) -> None:
        self.n_byte += size
        with self._changed:
            self._waiting.append((item, size))
            self._waits += size
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until there is room, but not for longer."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_room or self.error is not None, seconds)

    @abstractmethod
    def progress(self) -> str:
        """What became of the messages so far, in a few words."""

    @abstractmethod
    def close(self, level: int) -> int:
        """Finish what waits, as far as the `Stop.level` allows; gives the number of messages left out."""
