# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP connections of clients: requests to the broker, its answers back."""

from http.client import responses
from http.server import BaseHTTPRequestHandler
from typing import Any

from gpuidx.simulation.asapo.answering import deliver, spoiled
from gpuidx.simulation.asapo.broker import Broker
from gpuidx.simulation.asapo.faults import Fault, Faults, Kind
from gpuidx.simulation.asapo.listening import Listener
from gpuidx.simulation.asapo.protocol import Answer, parse_request


class HttpParts:
    """What a connection needs of its server."""

    def __init__(self, broker: Broker, faults: Faults) -> None:
        self.broker, self.faults = broker, faults

    def answer(self, target: str, body: bytes) -> tuple[Answer, Fault | None] | None:
        """An answer and what is to go wrong with it; None where the connection is to be closed at once."""
        request = parse_request(target, body)
        operation = request.operation
        fault = self.faults.before(operation, request.id)
        if fault is None:
            answer = self.broker.answer(request)
            message_id = request.id if answer.id is None else answer.id
            return answer, self.faults.behind(operation, message_id)
        if fault.kind == Kind.DROP:
            return None
        return Answer(fault.status, b"a fault on demand"), None


class HttpConnection(BaseHTTPRequestHandler):
    """A kept-alive connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def do_GET(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answered = self.server.parts.answer(self.path, body)
        if answered is None:
            self.close_connection = True
            return
        answer, fault = answered
        text = spoiled(answer.body, fault)
        phrase = responses.get(answer.status, "")
        head = f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Length: {len(text)}\r\n\r\n".encode()
        if not deliver(self.wfile.write, head, text, fault, self.server.ending):
            self.close_connection = True

    def do_POST(self) -> None:
        """Answer."""
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests carry the token."""
