# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of the commands that record and relay: receive from all sources, hand on, count.

The sources are those of a run (`gpuidx.sources`).  Who waits for the reader (REQ, PULL) waits while nothing
can be handed on; what a publisher sends meanwhile is read, dropped and counted once the memory for it is
full.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from gpuidx.flow.stop import Stop
from gpuidx.sink import Arrived, Sink
from gpuidx.sources.contract import FRAME, LATE_ANSWERS, LiveSource
from gpuidx.sources.parts import role_of

log = logging.getLogger(__name__)

TURN_MS = 100
"""Longest wait of a turn, ms."""

MOST_A_TURN = 256
"""Messages of a source in a turn; then it is the next one's."""

STATUS_INTERVAL = 5.0
"""Seconds from one line about the progress to the next."""


@dataclass(frozen=True)
class Limits:
    """When receiving ends by itself; None: never.

    Attributes
    ----------
    frames
        So many were received.
    seconds
        So long after the first message.
    n_byte
        So many bytes were handed on.
    silence
        Seconds without any message.
    """

    frames: int | None = None
    seconds: float | None = None
    n_byte: float | None = None
    silence: float | None = None


class Reception:
    """Hands on what sources receive; a context that closes sources and sink.

    Parameters
    ----------
    sources
        One for each link, in the order of their numbers; not yet opened.
    sink
        Where messages go.
    tags
        Subscribed to.
    limits
        When to end.

    Attributes
    ----------
    counts
        Messages by their role: frames, starts and ends of series, ``None`` for those too short to be any;
        and ``"dropped"`` for those that went nowhere.
    stop
        Ends the loop; signals are taken over while the context is open.
    """

    def __init__(
        self, sources: Sequence[LiveSource], sink: Sink[Any], tags: Sequence[bytes], limits: Limits
    ) -> None:
        self.sources, self.tags, self.limits = tuple(sources), tags, limits
        self.stop = Stop()
        self.counts: Counter[str | None] = Counter()
        self._poller = zmq.Poller()
        self._sink = sink
        self._began = self._last = self._told = time.monotonic()
        self._first: float | None = None
        self._sources_stopped = False

    def __enter__(self) -> "Reception":
        try:
            self.stop.install(self._poller)
            for source in self.sources:
                source.open(self._poller)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for source in self.sources:
            source.close()
        self.stop.remove()
        self.counts["dropped"] += self._sink.close(self.stop.level)

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return 0.0 if self._first is None else self._last - self._first

    def loop(self) -> None:
        """Take turns until a limit is reached, a signal comes, or nothing can be handed on any more.

        What ended the sink is raised by `finish`.
        """
        while not self._finished():
            self._turn()

    def finish(self) -> None:
        """Raise what ended the sink, if anything did; after the context was left.

        Raises
        ------
        GpuidxError
            Whatever it was.
        """
        if self._sink.error is not None:
            raise self._sink.error

    def _turn(self) -> None:
        self._ask()
        events = dict(self._poller.poll(TURN_MS))
        self.stop.notice(events)
        is_full = False
        for link, source in enumerate(self.sources):
            source.notice(events)
            is_full = not self._take(link, source) or is_full
        if is_full:
            self._sink.wait(TURN_MS / 1e3)
        self._report()

    def _ask(self) -> None:
        if self.stop.level and not self._sources_stopped:
            self._sources_stopped = True
            for source in self.sources:
                source.stop()
        if self._sources_stopped:
            return
        remaining = self._remaining() if self._sink.has_room else 0
        for source in self.sources:
            source.ask(-(-remaining // len(self.sources)))

    def _take(self, link: int, source: LiveSource) -> bool:
        """Take what a source has; False if there is no room for it."""
        for _ in range(MOST_A_TURN):
            if not source.ready() or self._enough():
                return True
            if self._sink.has_room:
                if (parts := source.receive()) is not None:
                    self._keep(link, parts)
            elif source.drop():
                self.counts["dropped"] += 1
            else:
                return not source.ready()
        return True

    def _keep(self, link: int, parts: Sequence[zmq.Frame]) -> None:
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last
        views = [part.buffer for part in parts]
        role = role_of(views, self.tags)
        self.counts[role] += 1
        if role is None and self.counts[role] == 1:
            short = b" ".join(part.bytes for part in parts)
            log.warning("no frame: %r (further messages of a few bytes are counted only)", short)
        self._sink.put(Arrived(self._last - self._began, link, role, parts))

    def _remaining(self) -> int:
        """Frames that may still be received."""
        most = self.limits.frames
        return MOST_A_TURN if most is None else max(0, most - self.counts[FRAME])

    def _enough(self) -> bool:
        limits = self.limits
        late = limits.seconds is not None and self._first is not None
        return (
            self._remaining() == 0
            or (late and time.monotonic() - (self._first or 0.0) >= (limits.seconds or 0.0))
            or (limits.n_byte is not None and self._sink.n_byte >= limits.n_byte)
        )

    def _finished(self) -> bool:
        if self.stop.level > 1 or self._sink.error is not None or self._enough():
            return True
        now = time.monotonic()
        if self.stop.level == 1:
            pending = any(source.pending() for source in self.sources)
            return not pending or now - self.stop.since > LATE_ANSWERS
        if self.limits.silence is not None and now - self._last > self.limits.silence:
            log.info("nothing has come for %g s: ending (--no-data-timeout)", self.limits.silence)
            return True
        return False

    def _report(self) -> None:
        if time.monotonic() < self._told + STATUS_INTERVAL:
            return
        self._told = time.monotonic()
        log.info(
            "%d frames, %s; memory %.0f %% full; %d dropped", self.counts[FRAME], self._sink.progress(),
            100 * self._sink.load, self.counts["dropped"],
        )  # fmt: skip
