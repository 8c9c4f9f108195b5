# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in as a whole, to be used in a program of one's own.

In a test, for instance::

    with StandIn(streams={"run1": [b"payload"] * 10}) as server:
        server.finish("run1")
        consumer = asapo_consumer.create_consumer(
            server.endpoint, "auto", False, server.beamtime, server.source, server.token, 1000)

It has what a client meets: discovery, authorizer, broker, data server, file transfer, and for producers the
receiver.  It has no datasets, no queries, no RDMA, no TLS, and it keeps nothing on disk.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import BaseRequestHandler
from typing import Any, Literal, Self

from gpuidx.errors import SourceError
from gpuidx.simulation.asapo.access import Access
from gpuidx.simulation.asapo.broker import Broker
from gpuidx.simulation.asapo.cache import Payload
from gpuidx.simulation.asapo.data_server import DataConnection, DataParts
from gpuidx.simulation.asapo.faults import Fault, Faults
from gpuidx.simulation.asapo.groups import Group
from gpuidx.simulation.asapo.http_server import HttpConnection, HttpParts
from gpuidx.simulation.asapo.listening import Listener
from gpuidx.simulation.asapo.protocol import NO_NEXT_STREAM
from gpuidx.simulation.asapo.receiver import ReceiverConnection, ReceiverParts
from gpuidx.simulation.asapo.store import Store

Service = Literal["discovery", "broker", "data", "receiver"]
SERVICES: tuple[Service, ...] = ("discovery", "broker", "data", "receiver")
"""What listens on a port of its own; authorizer is with discovery, file transfer with the broker."""

CACHE_BYTES = 1_000_000_000
"""Memory for payloads if nothing is said."""


class StandIn:
    """An ASAP::O server with one beamtime; a context manager, or `close` it.

    Every method is safe in any thread and may be called while clients are served.

    Parameters
    ----------
    streams
        Payloads of each stream, put in this order; more can be `put` later.
    token, beamtime
        What clients must have: others get 401.
    source
        Data source of all streams, if a method names none.
    faults
        What is to go wrong; `faults` can be changed later.
    host, port
        Where discovery listens; port 0 takes a free one, as the other services always do.
    cache_bytes
        Memory for payloads; the oldest are evicted.  Bytes that are put twice count twice, functions do not.
    clock
        Time in s by which resends are due; a test that gives its own need not wait.

    Attributes
    ----------
    endpoint
        ``host:port`` for clients.
    faults : Faults
        To add or clear faults, and to see which struck.
    store : Store
        Streams and groups; `Store.wait_until` waits for a change without polling.
    token, beamtime, source
        As given.

    Raises
    ------
    SourceError
        If the port cannot be had.
    """

    def __init__(
        self,
        streams: Mapping[str, Sequence[Payload]] | None = None,
        *,
        token: str = "stand-in",
        beamtime: str = "beamtime",
        source: str = "detector",
        faults: Iterable[Fault] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        cache_bytes: int = CACHE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.token, self.beamtime, self.source = token, beamtime, source
        self.faults = Faults(faults)
        self.store = Store(cache_bytes, clock)
        self._host = host
        self._listeners: dict[Service, Listener] = {}
        self._addresses: dict[str, str] = {}
        access = Access(token, beamtime)
        http = HttpParts(Broker(self.store, access, self._addresses), self.faults)
        self._handlers: dict[Service, tuple[type[BaseRequestHandler], object]] = {
            "discovery": (HttpConnection, http),
            "broker": (HttpConnection, http),
            "data": (DataConnection, DataParts(self.store.cache, self.faults)),
            "receiver": (ReceiverConnection, ReceiverParts(self.store, access, self.faults)),
        }
        for name, payloads in (streams or {}).items():
            for payload in payloads:
                self.put(name, payload)
        self._listen("discovery", port)
        for service in SERVICES[1:]:
            self._listen(service, 0)
        self.endpoint = self._addresses["discovery"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, stream: str, payload: Payload, *, source: str | None = None, **how: Any) -> int:
        """Add a message, as a producer does; its id.

        Parameters
        ----------
        stream
            Is made if it is not there.
        payload
            Bytes, kept in the cache, or a function that makes them at each request.
        source
            Another source than the server's.
        size
            Bytes of the payload; spares a first call of a function.
        message_id
            Default: the one behind the highest.  Leave some out for holes.
        name
            File name; default ``processed/STREAM-ID.data``.
        meta
            The producer's metadata; Seedee's go in as text: ``{"_data_format": "..."}``.
        cached
            False: the data server never had the payload.
        stored
            Also a file, which file transfer serves when the cache has it no longer.  Its ingest mode says so.
        odd
            Values that take the place of right ones in the message that consumers get, such as
            ``{"size": 2**40}``; None leaves a key out.

        Raises
        ------
        ValueError
            If the id is not above 0 or was used, or the stream is finished.
        """
        return self.store.put(self.source if source is None else source, stream, payload, **how)

    def finish(self, stream: str, next_stream: str = NO_NEXT_STREAM) -> None:
        """Set the finish flag of a stream, with the name of the stream that follows."""
        self.store.finish(self.source, stream, next_stream)

    def evict(self, stream: str, message_id: int) -> None:
        """Drop a payload from the cache; the message stays."""
        self.store.evict(self.source, stream, message_id)

    def group(self, stream: str, group: str) -> Group:
        """Counters and acknowledged ids of a group in a stream.

        Raises
        ------
        KeyError
            If there is no such stream.
        """
        return self.store.group(self.source, stream, group)

    def down(self, *services: Service) -> None:
        """Let services refuse connections, and end those they have; all if none is named."""
        for service in services or SERVICES:
            if service in self._listeners:
                self._listeners.pop(service).close()

    def up(self, *services: Service) -> None:
        """Let services that are down listen again, where they were.

        Raises
        ------
        SourceError
            If somebody else has taken a port.
        """
        for service in services or SERVICES:
            if service not in self._listeners:
                self._listen(service, int(self._addresses[service].rpartition(":")[2]))

    def move_broker(self) -> None:
        """Let the broker go on at another address, which discovery tells from now on."""
        before = self._listeners.pop("broker", None)
        self._listen("broker", 0)  # while the old port is still taken
        if before:
            before.close()

    def close(self) -> None:
        """End all services and connections; calls of clients that hang return."""
        self.down()

    def _listen(self, service: Service, port: int) -> None:
        try:
            self._listeners[service] = listener = Listener(self._host, port, *self._handlers[service])
        except OSError as error:
            self.close()
            raise SourceError(f"cannot serve {service} at {self._host}:{port}: {error.strerror}") from error
        self._addresses[service] = listener.address
