# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that wait for readers, and the thread that gives each to one of them."""

import logging
import threading
from collections.abc import Iterator

import zmq

from gpuidx.errors import GpuidxError, SourceError
from gpuidx.serving import Outgoing, Served, ServeSettings, serve
from gpuidx.sink import Arrived, Sink
from gpuidx.sources.contract import FRAME, LATE_ANSWERS, START
from gpuidx.sources.parts import length_of_tag

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds without a request after which no reader is expected any more, once everything was received."""


class Relay(Sink[Outgoing]):
    """A `Sink` that serves what it is given, by `gpuidx.serving`.

    Parameters
    ----------
    settings
        Socket and address.
    capacity
        Bytes that may wait.
    tags
        Glued tags that are cut off: who asks for frames knows of no tags.

    Attributes
    ----------
    address
        Where readers connect.
    served
        What was sent, once it is closed.

    Raises
    ------
    GpuidxError
        If nothing can be served at that address.
    """

    def __init__(self, settings: ServeSettings, capacity: int, tags: list[bytes]) -> None:
        super().__init__(capacity)
        self.address = ""
        self.served = Served(0, 0.0, 0)
        self._settings, self._tags = settings, tags
        self._n_taken, self._is_told = 0, False
        self._stop, begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(begun,), name="relay", daemon=True)
        self._thread.start()
        begun.wait()
        if not self.address:
            self._thread.join()
            raise self.error or SourceError(f"{settings.bind}: cannot be served")

    def put(self, arrived: Arrived) -> None:
        """Have a message given to a reader; one that begins a series, to each with frames of it."""
        parts: list[zmq.Frame | memoryview] = list(arrived.parts)
        size = sum(map(len, arrived.parts))
        if len(parts) == 1 and self._tags:
            whole = arrived.parts[0].buffer
            parts = [whole[length_of_tag(whole, self._tags) :]]
        begins = arrived.role == START
        if begins and self._settings.serve == "push" and not self._is_told:
            self._is_told = True
            log.warning(
                "a message that begins a series goes to one reader only; --serve=router gives it to all"
            )
        message = Outgoing(parts, is_frame=arrived.role == FRAME, for_each=begins)
        self._add(message, size)

    def progress(self) -> str:
        """How many messages readers took, and how many wait."""
        return f"{self._n_taken} given out, {len(self._waiting)} waiting"

    def close(self, level: int) -> int:
        """Give out what waits while readers ask for it; gives the number of messages left.

        After a signal (1) readers are waited for a few seconds, after a second one (2) not at all.
        """
        patience = (PATIENCE, LATE_ANSWERS, 0.0)[min(level, 2)]
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        before = -1
        while self._thread.is_alive() and before != self._n_taken:
            before = self._n_taken
            self._thread.join(patience)
        self._stop.set()
        self._thread.join()
        return len(self._waiting)

    def _serve(self, begun: threading.Event) -> None:
        def ready(address: str) -> None:
            self.address = address
            begun.set()

        try:
            self.served = serve(self._messages(), self._settings, ready, self._stop)
        except GpuidxError as error:
            self.error = error
        except Exception as error:
            self.error = SourceError(f"the relay failed: {type(error).__name__}: {error}")
        finally:
            begun.set()
            with self._changed:
                self._changed.notify_all()

    def _messages(self) -> Iterator[Outgoing]:
        """Each message, as soon as there is one; it counts as waiting until the next is asked for."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                message, size = self._waiting[0]
            yield message
            with self._changed:
                self._waiting.popleft()
                self._waits -= size
                self._n_taken += 1
                self._changed.notify_all()
