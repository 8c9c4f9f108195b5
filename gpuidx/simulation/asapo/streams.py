# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream of messages and what is asked of it; no sockets, no locks.

The rules are those of ASAP::O's broker as far as they are public (version 22.03), and as its client 25.3
takes them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuidx.simulation.asapo.groups import Group, Resend
from gpuidx.simulation.asapo.protocol import NO_NEXT_STREAM


@dataclass(frozen=True, slots=True)
class Message:
    """A message without its payload.

    Attributes
    ----------
    id
        From 1; ids may have holes.
    name, size
        File name and bytes of the payload.
    cache_id
        Where the payload is in the cache; 0: nowhere.
    mode
        ASAP::O's ingest mode.
    timestamp
        ns since 1970.
    meta
        The producer's own metadata.
    odd
        What takes the place of the above in the message that consumers see; None removes it.
    """

    id: int
    name: str
    size: int
    cache_id: int
    mode: int
    timestamp: int
    meta: Mapping[str, Any]
    odd: Mapping[str, Any]

    def described(self, stream: str, data_server: str) -> dict[str, Any]:
        """The message as consumers see it."""
        shown = {
            "_id": self.id,
            "size": self.size,
            "name": self.name,
            "timestamp": self.timestamp,
            "source": data_server,
            "ib_source": "",
            "buf_id": self.cache_id,
            "stream": stream,
            "dataset_substream": 0,
            "ingest_mode": self.mode,
            "meta": self.meta,
            **self.odd,
        }
        return {key: value for key, value in shown.items() if value is not None}


@dataclass(frozen=True, slots=True)
class NoData:
    """Why there is no message: id beyond or at `id_max` is the end of the stream, id below it a hole.

    Attributes
    ----------
    id, id_max
        The id that was looked for, the last one that there is.
    next_stream
        Not empty where the stream is finished.
    """

    id: int
    id_max: int
    next_stream: str = ""


@dataclass(slots=True)
class Stream:
    """One stream.

    Attributes
    ----------
    name
        Its name.
    messages
        By id, in order of arrival.
    order
        Ids in order of arrival.
    last_id
        The highest id; 0 before the first message.
    next_stream
        What the finish flag says; None while it is not finished.
    meta
        Metadata of the stream.
    created, changed
        ns since 1970.
    groups
        By name.
    """

    name: str
    messages: dict[int, Message] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    last_id: int = 0
    next_stream: str | None = None
    meta: Mapping[str, Any] | None = None
    created: int = field(default_factory=time.time_ns)
    changed: int = field(default_factory=time.time_ns)
    groups: dict[str, Group] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """The stream as clients see it in a list."""
        return {
            "lastId": self.last_id,
            "name": self.name,
            "timestampCreated": self.created,
            "timestampLast": self.changed,
            "finished": self.next_stream is not None,
            "nextStream": "" if self.next_stream in (None, NO_NEXT_STREAM) else self.next_stream,
        }

    def group(self, name: str) -> Group:
        """A group, made if it was not there."""
        return self.groups.setdefault(name, Group())

    def at_end(self) -> NoData:
        """What is said when all messages were given."""
        return NoData(self.last_id, self.last_id, self.next_stream or "")

    def next(self, group: Group, *, ordered: bool, resend: Resend | None, now: float) -> Message | NoData:
        """The next message of a group; the group's counter moves."""
        again = group.due(resend, now)
        if again is not None and again in self.messages:
            return self.messages[again]
        if ordered:
            if group.last_id >= self.last_id:
                return self.at_end()
            group.last_id += 1
            message_id = group.last_id
        else:
            if group.arrived >= len(self.order):
                return self.at_end()
            message_id = self.order[group.arrived]
            group.arrived += 1
        if message_id not in self.messages:
            return NoData(message_id, self.last_id)
        group.given(message_id, resend, now)
        return self.messages[message_id]

    def get(self, message_id: int) -> Message | NoData:
        """A message by its id."""
        if message_id in self.messages:
            return self.messages[message_id]
        is_behind = message_id > self.last_id
        return self.at_end() if is_behind and self.next_stream else NoData(message_id, self.last_id)

    def last(self, group: Group | None) -> Message | NoData:
        """The newest message; to a group, each only once."""
        if not self.messages or self.next_stream or (group and group.last_of_all >= self.last_id):
            return self.at_end()
        if group:
            group.last_of_all = self.last_id
        return self.messages[self.last_id]

    def arrived_before(self, message_id: int) -> int:
        """How many messages came before the first one with a higher id; no such message is passed over."""
        return next((i for i, other in enumerate(self.order) if other > message_id), len(self.order))
