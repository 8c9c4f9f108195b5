# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver: what a producer's library sends goes into the store."""

import json
import socketserver

from gpuidx.simulation.asapo.access import Access
from gpuidx.simulation.asapo.answering import GARBAGE, deliver
from gpuidx.simulation.asapo.faults import Faults, Kind
from gpuidx.simulation.asapo.listening import Listener
from gpuidx.simulation.asapo.protocol import (
    AUTHORIZE,
    DATA_ANSWER,
    FINISH_FLAG,
    LAST_STREAM,
    NOT_AUTHORIZED,
    NOT_SUPPORTED,
    PRODUCER_REQUEST,
    SEND_DATA,
    STORE_FILE,
    STREAM_INFO,
    TRANSFER_DATA,
    WARNING,
    WRONG_REQUEST,
)
from gpuidx.simulation.asapo.store import Store

Reply = tuple[int, str]
"""An error, 0 for none, and a text."""

UNKNOWN_STREAM = (
    '{"lastId":0,"name":"","timestampCreated":0,"timestampLast":0,"finished":false,"nextStream":""}'
)
"""What is told of a stream that is not there."""


class ReceiverParts:
    """What a connection needs of its server."""

    def __init__(self, store: Store, access: Access, faults: Faults) -> None:
        self.store, self.access, self.faults = store, access, faults


class ReceiverConnection(socketserver.StreamRequestHandler):
    """A connection of a producer: it says who it is, then it sends."""

    disable_nagle_algorithm = True
    server: Listener
    _source: str | None = None

    def handle(self) -> None:
        """Take requests until the producer or a fault ends it."""
        faults: Faults = self.server.parts.faults
        while len(head := self.rfile.read(PRODUCER_REQUEST.size)) == PRODUCER_REQUEST.size:
            operation, number, data_size, meta_size, mode, *texts = PRODUCER_REQUEST.unpack(head)
            name, stream = (text.partition(b"\0")[0].decode(errors="replace") for text in texts[:2])
            meta = self.rfile.read(meta_size)
            data = self.rfile.read(data_size)
            if len(meta) + len(data) < meta_size + data_size:
                return
            if fault := faults.before("produce", number):
                if fault.kind == Kind.DROP:
                    return
                self.wfile.write(_answer(operation, (NOT_SUPPORTED, "a fault on demand")))
                continue
            answer = _answer(operation, self._carry_out(operation, number, name, stream, meta, data, mode))
            fault = faults.behind("produce", number)
            if fault and fault.kind in (Kind.GARBAGE, Kind.BAD_TEXT, Kind.BAD_TYPES):
                answer = GARBAGE.ljust(len(answer), b"\xff")
            if not deliver(self.wfile.write, answer, b"", fault, self.server.ending):
                return

    def _carry_out(
        self, operation: int, number: int, name: str, stream: str, meta: bytes, data: bytes, mode: int
    ) -> Reply:
        store: Store = self.server.parts.store
        if operation == AUTHORIZE:
            return self._authorize(meta.decode(errors="replace"))
        if self._source is None:
            return NOT_AUTHORIZED, "not authorized"
        if operation in (STREAM_INFO, LAST_STREAM):
            streams = store.streams(self._source)
            known = [one for one in streams if operation == LAST_STREAM or one.name == stream]
            return 0, json.dumps(known[-1].described()) if known else UNKNOWN_STREAM
        if operation != SEND_DATA:
            return NOT_SUPPORTED, f"the stand-in has no operation {operation}"
        try:
            values = json.loads(meta or b"{}")
            if name == FINISH_FLAG:
                store.finish(self._source, stream, str(values["next_stream"]))
                return 0, ""
            store.put(
                self._source,
                stream,
                data,
                message_id=number or None,
                name=name,
                meta=values,
                cached=bool(data) and bool(mode & TRANSFER_DATA),
                stored=bool(mode & STORE_FILE),
            )
        except (ValueError, KeyError, TypeError) as error:
            return WARNING if isinstance(error, ValueError) else WRONG_REQUEST, str(error)
        return 0, ""

    def _authorize(self, who: str) -> Reply:
        """Take ``processed%INSTANCE%STEP%BEAMTIME%BEAMLINE%SOURCE%TOKEN``."""
        access: Access = self.server.parts.access
        *_, beamtime, _, source, token = ["", "", "", "", *who.split("%")]
        if (token, beamtime) != (access.token, access.beamtime):
            return NOT_AUTHORIZED, "wrong token or beamtime"
        self._source = source
        return 0, ""


def _answer(operation: int, reply: Reply) -> bytes:
    error, text = reply
    return DATA_ANSWER.pack(operation, error, text.encode()[:1023])
