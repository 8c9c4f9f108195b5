# SPDX-License-Identifier: GPL-3.0-or-later
"""All streams of a server, their payloads and files.  Every method is safe in any thread."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from gpuidx.simulation.asapo.cache import Cache, Payload, payload_bytes
from gpuidx.simulation.asapo.groups import Group, Resend
from gpuidx.simulation.asapo.protocol import CACHE_AND_FILE, CACHE_ONLY, NO_NEXT_STREAM
from gpuidx.simulation.asapo.streams import Message, NoData, Stream


class Store:
    """Streams by source and name.

    Parameters
    ----------
    cache_bytes
        Memory for payloads; the oldest are evicted.
    clock
        Time in s by which resends are due.

    Attributes
    ----------
    cache
        Payloads of messages.
    """

    def __init__(self, cache_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.cache = Cache(cache_bytes)
        self._clock = clock
        self._streams: dict[tuple[str, str], Stream] = {}
        self._files: dict[str, Payload] = {}
        self._beamtime_meta: Mapping[str, Any] | None = None
        self._n_group = 0
        self._changed = threading.Condition(threading.RLock())

    def put(
        self,
        source: str,
        stream: str,
        payload: Payload,
        *,
        size: int | None = None,
        message_id: int | None = None,
        name: str | None = None,
        meta: Mapping[str, Any] | None = None,
        cached: bool = True,
        stored: bool = False,
        odd: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a message; its id.  `StandIn.put` says what the arguments are.

        Raises
        ------
        ValueError
            If the id is not above 0 or was used, or the stream is finished.
        """
        if size is None:
            size = len(payload_bytes(payload))
        with self._changed:
            into = self._streams.setdefault((source, stream), Stream(stream))
            message_id = into.last_id + 1 if message_id is None else message_id
            if message_id < 1 or message_id in into.messages:
                raise ValueError(f"stream {stream}: id {message_id} is not above 0, or was used")
            if into.next_stream is not None:
                raise ValueError(f"stream {stream} is finished")
            message = Message(
                id=message_id,
                name=name or f"processed/{stream}-{message_id}.data",
                size=size,
                cache_id=self.cache.put(payload, message_id) if cached else 0,
                mode=CACHE_AND_FILE if stored else CACHE_ONLY,
                timestamp=time.time_ns(),
                meta=meta or {},
                odd=odd or {},
            )
            if stored:
                self._files[message.name] = payload
            into.messages[message_id] = message
            into.order.append(message_id)
            into.last_id, into.changed = max(into.last_id, message_id), message.timestamp
            self._changed.notify_all()
            return message_id

    def finish(self, source: str, stream: str, next_stream: str = NO_NEXT_STREAM) -> None:
        """Set the finish flag of a stream."""
        with self._changed:
            self._streams.setdefault((source, stream), Stream(stream)).next_stream = next_stream
            self._changed.notify_all()

    def evict(self, source: str, stream: str, message_id: int) -> None:
        """Drop the payload of a message from the cache."""
        with self._changed:
            self.cache.evict(self._streams[source, stream].messages[message_id].cache_id)

    def set_meta(self, meta: Mapping[str, Any], source: str = "", stream: str = "") -> None:
        """Metadata of a stream, or of the beamtime where no stream is named."""
        with self._changed:
            if stream:
                self._streams.setdefault((source, stream), Stream(stream)).meta = meta
            else:
                self._beamtime_meta = meta

    def meta(self, source: str, stream: str) -> Mapping[str, Any] | None:
        """Metadata as `set_meta` has them; None if there are none."""
        with self._changed:
            found = self._streams.get((source, stream))
            return (found.meta if found else None) if stream else self._beamtime_meta

    def next(
        self, source: str, stream: str, group: str, *, ordered: bool, resend: Resend | None
    ) -> Message | NoData:
        """The next message of a group; its counter moves."""
        with self._changed:
            found = self._streams.get((source, stream))
            if found is None:
                return NoData(0, 0)
            given = found.next(found.group(group), ordered=ordered, resend=resend, now=self._clock())
            self._changed.notify_all()
            return given

    def get(self, source: str, stream: str, message_id: int) -> Message | NoData:
        """A message by its id."""
        with self._changed:
            found = self._streams.get((source, stream))
            return found.get(message_id) if found else NoData(message_id, 0)

    def last(self, source: str, stream: str, group: str = "") -> Message | NoData:
        """The newest message; to a group, each only once."""
        with self._changed:
            found = self._streams.get((source, stream))
            return found.last(found.group(group) if group else None) if found else NoData(0, 0)

    def acknowledge(self, source: str, stream: str, group: str, message_id: int) -> bool:
        """Whether this is the first acknowledgement."""
        with self._changed:
            first = self.group(source, stream, group).acknowledge(message_id)
            self._changed.notify_all()
            return first

    def neg_acknowledge(self, source: str, stream: str, group: str, message_id: int, delay: float) -> None:
        """Give a message once more, after *delay* s."""
        with self._changed:
            self.group(source, stream, group).refuse(message_id, delay, self._clock())
            self._changed.notify_all()

    def unacknowledged(self, source: str, stream: str, group: str, first: int, last: int) -> list[int]:
        """Ids from *first* to *last* (0: all) that are not acknowledged; holes among them."""
        with self._changed:
            last = last or self._streams[source, stream].last_id
            known = self.group(source, stream, group).acknowledged
            return [number for number in range(first or 1, last + 1) if number not in known]

    def reset(self, source: str, stream: str, group: str, last_id: int) -> None:
        """Go on behind an id."""
        with self._changed:
            arrived = self._streams[source, stream].arrived_before(last_id)
            self.group(source, stream, group).reset(last_id, arrived)

    def group(self, source: str, stream: str, group: str) -> Group:
        """A group in a stream, made if it was not there.

        Raises
        ------
        KeyError
            If there is no such stream.
        """
        with self._changed:
            return self._streams[source, stream].group(group)

    def new_group(self) -> str:
        """A name that no group had."""
        with self._changed:
            self._n_group += 1
            return f"group{self._n_group}"

    def streams(self, source: str) -> list[Stream]:
        """Streams of a source, oldest first."""
        with self._changed:
            return [stream for (of, _), stream in self._streams.items() if of == source]

    def sources(self) -> list[str]:
        """Names of all sources."""
        with self._changed:
            return list(dict.fromkeys(source for source, _ in self._streams))

    def size(self, source: str, stream: str) -> int:
        """Messages in a stream; 0 if there is none of this name."""
        with self._changed:
            found = self._streams.get((source, stream))
            return len(found.messages) if found else 0

    def delete(self, source: str, stream: str) -> bool:
        """Forget a stream with its payloads; whether it was there."""
        with self._changed:
            found = self._streams.pop((source, stream), None)
            for message in found.messages.values() if found else ():
                self.cache.forget(message.cache_id)
                self._files.pop(message.name, None)
            return found is not None

    def file(self, name: str) -> Payload | None:
        """What was stored under a name."""
        with self._changed:
            return self._files.get(name)

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Whether *condition*, looked at after each change, comes true within *timeout* s."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)
