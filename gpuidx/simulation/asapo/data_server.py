# SPDX-License-Identifier: GPL-3.0-or-later
"""The data server: payloads out of the cache, over TCP, many on each connection."""

import socketserver

from gpuidx.simulation.asapo.answering import GARBAGE, deliver
from gpuidx.simulation.asapo.cache import Cache, payload_bytes
from gpuidx.simulation.asapo.faults import Fault, Faults, Kind
from gpuidx.simulation.asapo.listening import Listener
from gpuidx.simulation.asapo.protocol import (
    DATA_ANSWER,
    DATA_REQUEST,
    GET_DATA,
    INTERNAL_ERROR,
    NO_DATA,
    NOT_SUPPORTED,
    WRONG_REQUEST,
)


class DataParts:
    """What a connection needs of its server."""

    def __init__(self, cache: Cache, faults: Faults) -> None:
        self.cache, self.faults = cache, faults

    def answer(self, request: bytes) -> tuple[bytes, bytes | bytearray, Fault | None] | None:
        """Head and payload, and what is to go wrong; None where the connection is to be closed at once."""
        operation, cache_id, size, *_ = DATA_REQUEST.unpack(request)
        message_id = self.cache.message_of(cache_id)
        fault = self.faults.before("data", message_id)
        if fault is not None:
            return None if fault.kind == Kind.DROP else (_head(operation, INTERNAL_ERROR), b"", None)
        payload = self.cache.get(cache_id)
        fault = self.faults.behind("data", message_id)
        if operation != GET_DATA:
            return _head(operation, NOT_SUPPORTED), b"", fault
        if payload is None or (fault and fault.kind == Kind.EVICT):
            return _head(operation, NO_DATA), b"", fault
        if fault and fault.kind in (Kind.GARBAGE, Kind.BAD_TEXT, Kind.BAD_TYPES):
            return GARBAGE.ljust(DATA_ANSWER.size, b"\xff"), b"", fault
        data = payload_bytes(payload)
        if len(data) != size:
            return _head(operation, WRONG_REQUEST), b"", fault
        return _head(operation, 0), data, fault


class DataConnection(socketserver.StreamRequestHandler):
    """A connection that stays open for further requests."""

    disable_nagle_algorithm = True
    server: Listener

    def handle(self) -> None:
        """Answer until the client or a fault ends it."""
        while len(request := self.rfile.read(DATA_REQUEST.size)) == DATA_REQUEST.size:
            answered = self.server.parts.answer(request)
            if answered is None:
                return
            head, data, fault = answered
            if not deliver(self.wfile.write, head, data, fault, self.server.ending):
                return


def _head(operation: int, error: int) -> bytes:
    return DATA_ANSWER.pack(operation, error, b"")
