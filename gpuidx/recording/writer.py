# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing in a thread of its own, so that receiving goes on while the disk is slow."""

import threading

from gpuidx.errors import StreamError
from gpuidx.flow.output import Output
from gpuidx.recording.file import pieces
from gpuidx.sink import Arrived, Sink

Pieces = list[bytes | memoryview]


class Writer(Sink[Pieces]):
    """A `Sink` with a thread that writes messages, in order, each whole or not at all.

    Parameters
    ----------
    output
        Where to; the file stays readable whatever happens.
    capacity
        Bytes that may wait; ``n_byte``, too, counts those of the file.
    """

    def __init__(self, output: Output, capacity: int) -> None:
        super().__init__(capacity)
        self._output = output
        self._thread = threading.Thread(target=self._write, name="writer")
        self._thread.start()

    def put(self, arrived: Arrived) -> None:
        """Have a message written; its parts must stay as they are."""
        written = pieces(arrived.time, arrived.link, [part.buffer for part in arrived.parts])
        self._add(written, sum(map(len, written)))

    def progress(self) -> str:
        """How much is in the file."""
        return f"{self._output.size / 1e6:.0f} MB written"

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
