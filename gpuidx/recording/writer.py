# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing in a thread of its own, so that receiving goes on while the disk is slow."""

import threading
from collections import deque

from gpuidx.errors import GpuidxError, StreamError
from gpuidx.flow.output import Output
from gpuidx.reception import Arrived
from gpuidx.recording.file import pieces

Pieces = list[bytes | memoryview]


class Writer:
    """A `gpuidx.reception.Sink` with a thread that writes messages, in order, each whole or not at all.

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
    n_byte
        Bytes of the file that were put so far, written or not.
    """

    def __init__(self, output: Output, capacity: int) -> None:
        self.error: GpuidxError | None = None
        self.n_byte = 0
        self._output, self._capacity = output, capacity
        self._waiting: deque[tuple[Pieces, int]] = deque()
        self._waits = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="writer")
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether another message may be put."""
        return self._waits < self._capacity

    @property
    def load(self) -> float:
        """Share of the capacity that is used."""
        return self._waits / self._capacity

    def put(self, arrived: Arrived) -> None:
        """Have a message written; its parts must stay as they are."""
        written = pieces(arrived.time, arrived.link, [part.buffer for part in arrived.parts])
        size = sum(map(len, written))
        self.n_byte += size
        with self._changed:
            self._waiting.append((written, size))
            self._waits += size
            self._changed.notify_all()

    def progress(self) -> str:
        """How much is in the file."""
        return f"{self._output.size / 1e6:.0f} MB written"

    def wait(self, seconds: float) -> None:
        """Wait until there is room, but not for longer."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_room or self.error is not None, seconds)

    def close(self, level: int = 0) -> int:
        """Write what waits, unless it is to end now (2); gives the number of messages left out."""
        now = level > 1
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
                written, size = self._waiting.popleft()
            try:
                self._output.write(*written)
            except StreamError as error:
                with self._changed:
                    self._waiting.appendleft((written, size))
                    self.error = error
                    self._changed.notify_all()
                return
            del written  # what libzmq lent goes back to it
            with self._changed:
                self._waits -= size
                self._changed.notify_all()
