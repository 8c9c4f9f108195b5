# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing in a thread of its own, so that receiving goes on while the disk is slow."""

import threading
from collections import deque

from gpuidx.errors import StreamError
from gpuidx.flow.output import Output

Pieces = list[bytes | memoryview]


class Writer:
    """Hands messages to a thread that writes them, in order, each whole or not at all.

    Parameters
    ----------
    output
        Where to; the file stays readable whatever happens.
    capacity
        Bytes that may wait; reached, there is no room until some were written.

    Attributes
    ----------
    error
        What ended the writing, if anything did; nothing is written after that.
    """

    def __init__(self, output: Output, capacity: int) -> None:
        self.error: StreamError | None = None
        self._output, self._capacity = output, capacity
        self._waiting: deque[tuple[Pieces, int]] = deque()
        self._n_byte = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="writer")
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether another message may be put."""
        return self._n_byte < self._capacity

    @property
    def load(self) -> float:
        """Share of the capacity that is used."""
        return self._n_byte / self._capacity

    def put(self, pieces: Pieces) -> None:
        """Have a message written; its pieces must stay as they are."""
        size = sum(map(len, pieces))
        with self._changed:
            self._waiting.append((pieces, size))
            self._n_byte += size
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until there is room, but not for longer."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_room or self.error is not None, seconds)

    def close(self, now: bool = False) -> int:
        """Write what waits, unless it is to end *now*; gives the number of messages left out."""
        with self._changed:
            dropped = len(self._waiting) if now else 0
            if now:
                self._waiting.clear()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        return dropped + len(self._waiting)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                pieces, size = self._waiting.popleft()
            try:
                self._output.write(*pieces)
            except StreamError as error:
                with self._changed:
                    self._waiting.appendleft((pieces, size))
                    self.error = error
                    self._changed.notify_all()
                return
            del pieces  # what libzmq lent goes back to it
            with self._changed:
                self._n_byte -= size
                self._changed.notify_all()
