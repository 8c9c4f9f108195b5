# SPDX-License-Identifier: GPL-3.0-or-later
"""What is answered to HTTP requests: discovery, authorizer, broker, and the file transfer service."""

from collections.abc import Callable, Mapping

from gpuidx.simulation.asapo.access import Access
from gpuidx.simulation.asapo.cache import payload_bytes
from gpuidx.simulation.asapo.groups import Resend
from gpuidx.simulation.asapo.protocol import (
    PROTOCOL,
    Answer,
    Request,
    json_answer,
)
from gpuidx.simulation.asapo.store import Store
from gpuidx.simulation.asapo.streams import Message, NoData

OK, BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, NO_MESSAGE, UNSUPPORTED = 200, 400, 401, 404, 409, 415

FOLDER_TOKEN = "folder-token"
"""What the authorizer gives and the file transfer service wants."""

PRODUCER_CONNECTIONS = 8
"""Connections that a producer may have."""


class Broker:
    """Answers to all requests.

    Parameters
    ----------
    store
        The streams.
    access
        Token and beamtime that are right.
    addresses
        ``host:port`` of "broker", "data" and "receiver"; looked up at each request, for they may move.
    """

    def __init__(self, store: Store, access: Access, addresses: Mapping[str, str]) -> None:
        self._store, self._access, self._addresses = store, access, addresses
        self._services: dict[str, Callable[[Request], Answer]] = {
            "discovery": self._discovery,
            "version": self._version,
            "authorize": self._authorize,
            "transfer": self._transfer,
        }
        self._questions: dict[str, Callable[[Request], Answer]] = {
            "creategroup": lambda _: Answer(OK, store.new_group().encode()),
            "next": self._next,
            "last": lambda r: self._given(r, store.last(r.source, r.stream)),
            "groupedlast": lambda r: self._given(r, store.last(r.source, r.stream, r.group)),
            "get": lambda r: self._given(r, store.get(r.source, r.stream, r.id or 0)),
            "acknowledge": self._acknowledge,
            "neg_acknowledge": self._neg_acknowledge,
            "nacks": self._nacks,
            "lastack": self._last_acknowledged,
            "reset": self._reset,
            "size": lambda r: json_answer(OK, {"size": store.size(r.source, r.stream)}),
            "streams": self._streams,
            "sources": lambda _: json_answer(OK, {"sources": store.sources()}),
            "meta": self._meta,
            "delete": self._delete,
            "persist": lambda _: Answer(OK),
        }

    def answer(self, request: Request) -> Answer:
        """What is said to a request; counters and acknowledgements have changed when it returns."""
        if not request.operation:
            return Answer(BAD_REQUEST, b"the request is not understood")
        if request.operation in self._services:
            return self._services[request.operation](request)
        if request.token != self._access.token:
            return Answer(UNAUTHORIZED, b"wrong token")
        if request.operation != "creategroup" and request.beamtime != self._access.beamtime:
            return Answer(UNAUTHORIZED, b"token is not for this beamtime")
        if request.operation not in self._questions or "dataset" in request.query:
            return Answer(BAD_REQUEST, b"the stand-in does not know this request")
        try:
            return self._questions[request.operation](request)
        except KeyError:
            return Answer(BAD_REQUEST, f"no stream {request.stream}".encode())
        except (ValueError, TypeError, AttributeError) as error:
            return Answer(BAD_REQUEST, f"request is not understood: {error}".encode())

    def _discovery(self, request: Request) -> Answer:
        if request.query.get("protocol") != PROTOCOL:
            return Answer(UNSUPPORTED, f"the stand-in speaks {PROTOCOL} only".encode())
        if request.source == "asapo-receiver":
            uris = [self._addresses["receiver"]]
            return json_answer(OK, {"MaxConnections": PRODUCER_CONNECTIONS, "Uris": uris})
        if request.source not in ("asapo-broker", "asapo-file-transfer"):
            return Answer(NOT_FOUND)
        return Answer(OK, self._addresses["broker"].encode())

    def _version(self, request: Request) -> Answer:
        supported = "yes" if request.query.get("protocol") == PROTOCOL else "no"
        version = {"versionInfo": PROTOCOL}
        answer = {"softwareVersion": "stand-in of gpuidx", "clientSupported": supported}
        return json_answer(OK, {**answer, "clientProtocol": version, "supportedProtocols": [version]})

    def _authorize(self, request: Request) -> Answer:
        asked = request.body.get("Token"), request.body.get("BeamtimeId")
        if asked != (self._access.token, self._access.beamtime):
            return Answer(UNAUTHORIZED, b"wrong token or beamtime")
        return Answer(OK, FOLDER_TOKEN.encode())

    def _transfer(self, request: Request) -> Answer:
        payload = self._store.file(str(request.body.get("FileName")))
        if payload is None:
            return Answer(NOT_FOUND, b"no such file")
        data = payload_bytes(payload)
        if request.query.get("sizeonly") == "true":
            return json_answer(OK, {"file_size": len(data)})
        return Answer(OK, data)

    def _next(self, request: Request) -> Answer:
        resend = None
        if request.query.get("resend_nacks") == "true":
            resend = Resend(request.number("delay_ms") / 1e3, request.number("resend_attempts"))
        ordered = request.query.get("id_key") != "time_id"
        found = self._store.next(
            request.source, request.stream, request.group, ordered=ordered, resend=resend
        )
        return self._given(request, found)

    def _given(self, request: Request, found: Message | NoData) -> Answer:
        if isinstance(found, Message):
            shown = found.described(request.stream, self._addresses["data"])
            return json_answer(OK, shown, found.id)
        # The client looks for this name of an operation in the text.
        operation = {"op": "get_record_by_id", "id": found.id, "id_max": found.id_max}
        return json_answer(NO_MESSAGE, {**operation, "next_stream": found.next_stream})

    def _acknowledge(self, request: Request) -> Answer:
        if self._store.acknowledge(request.source, request.stream, request.group, request.id or 0):
            return Answer(OK)
        return Answer(BAD_REQUEST, b"already acknowledged")

    def _neg_acknowledge(self, request: Request) -> Answer:
        delay = int(request.body["Params"]["DelayMs"]) / 1e3
        self._store.neg_acknowledge(request.source, request.stream, request.group, request.id or 0, delay)
        return Answer(OK)

    def _nacks(self, request: Request) -> Answer:
        first, last = request.number("from"), request.number("to")
        found = self._store.unacknowledged(request.source, request.stream, request.group, first, last)
        return json_answer(OK, {"unacknowledged": found})

    def _last_acknowledged(self, request: Request) -> Answer:
        known = self._store.group(request.source, request.stream, request.group).acknowledged
        return json_answer(OK, {"lastAckId": max(known, default=0)})

    def _reset(self, request: Request) -> Answer:
        self._store.reset(request.source, request.stream, request.group, request.number("value"))
        return Answer(OK)

    def _streams(self, request: Request) -> Answer:
        streams = self._store.streams(request.source)
        query = request.query
        names = [stream.name for stream in streams]
        if query.get("last") == "true":
            streams = streams[-1:]
        elif query.get("from") in names:
            begin = names.index(query["from"])
            streams = streams[begin : begin + 1 if query.get("single") == "true" else None]
        elif query.get("from"):
            streams = []
        if query.get("filter") in ("finished", "unfinished"):
            streams = [s for s in streams if (s.next_stream is not None) == (query["filter"] == "finished")]
        return json_answer(OK, {"streams": [stream.described() for stream in streams]})

    def _meta(self, request: Request) -> Answer:
        meta = self._store.meta(request.source, request.stream)
        return Answer(NO_MESSAGE, b"no metadata") if meta is None else json_answer(OK, meta)

    def _delete(self, request: Request) -> Answer:
        existed = self._store.delete(request.source, request.stream)
        if not existed and request.body.get("ErrorOnNotExist"):
            return Answer(BAD_REQUEST, f"no stream {request.stream}".encode())
        return Answer(OK)
