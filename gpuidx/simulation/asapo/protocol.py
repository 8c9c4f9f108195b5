# SPDX-License-Identifier: GPL-3.0-or-later
"""ASAP::O's protocol v0.7 as its client libraries 25.3 speak it: names, structures, requests.

From the clients' own requests; the public source of a server (22.03) speaks v0.6.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

PROTOCOL = "v0.7"

NO_NEXT_STREAM = "asapo_no_next"
"""What a finish flag says where no stream follows."""

FINISH_FLAG = "asapo_finish_stream"
"""Name of the message by which a producer finishes a stream."""

TRANSFER_DATA, STORE_FILE, STORE_MESSAGE = 1, 4, 8
"""Parts of an ingest mode: the payload is sent, it becomes a file, the message goes into the database."""

CACHE_ONLY = TRANSFER_DATA | STORE_MESSAGE
CACHE_AND_FILE = CACHE_ONLY | STORE_FILE

DATA_REQUEST = struct.Struct("<B7xQQ32x1024s1024s10s6x")
"""To the data server: operation, number in the cache, size; then message, stream, version."""

DATA_ANSWER = struct.Struct("<BxH1024s")
"""From data server and receiver: operation, error, text; from the data server after error 0 the payload."""

PRODUCER_REQUEST = struct.Struct("<B7xQQQQ16x1024s1024s10s6x")
"""To the receiver: operation, id, sizes of payload and metadata, ingest mode; then name, stream, version.

The metadata follow, then the payload.
"""

SEND_DATA, STREAM_INFO, LAST_STREAM, GET_DATA, AUTHORIZE = 2, 4, 5, 6, 7
"""Operations; the data server has `GET_DATA` only, the receiver the others."""

WARNING, WRONG_REQUEST, NOT_SUPPORTED, NO_DATA, NOT_AUTHORIZED, INTERNAL_ERROR = 2, 3, 4, 5, 6, 65535
"""Errors of data server and receiver."""

SERVICES = "discovery", "version", "authorize", "creategroup", "transfer", "data", "produce"
QUESTIONS = "next", "last", "groupedlast", "get", "nacks", "lastack", "size", "streams", "sources", "meta"
ORDERS = "acknowledge", "neg_acknowledge", "reset", "querymessages", "delete", "persist"
OPERATIONS = (*SERVICES, *QUESTIONS, *ORDERS)
"""What a client may ask for; "data" is the data server, "produce" the receiver, all else is HTTP."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, taken apart.

    Attributes
    ----------
    operation
        One of `OPERATIONS`; empty if it is none.
    beamtime, source, stream, group
        Empty where the request has none.
    id
        Message that it names; None where it names none.
    query
        What stands behind the question mark.
    body
        JSON of the body; empty if there is none.
    """

    operation: str
    beamtime: str = ""
    source: str = ""
    stream: str = ""
    group: str = ""
    id: int | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """The token that came with it."""
        return self.query.get("token", "")

    def number(self, name: str) -> int:
        """A number of the query; 0 if it is not there."""
        return int(self.query.get(name, "") or 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `id` is the message that it gives."""

    status: int
    body: bytes | bytearray = b""
    id: int | None = None


def json_answer(status: int, value: object, message_id: int | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), message_id)


def parse_request(target: str, body: bytes) -> Request:
    """Take a request apart; `operation` is empty where it is not understood."""
    path, _, query_text = target.partition("?")
    query = dict(parse_qsl(query_text, keep_blank_values=True))
    parts = [unquote(part) for part in path.split("/")[1:]]
    try:
        values = json.loads(body) if body else {}
        return _parse(parts, query, values) if isinstance(values, dict) else Request("", query=query)
    except ValueError:
        return Request("", query=query)


def _parse(parts: list[str], query: dict[str, str], body: dict[str, Any]) -> Request:
    match parts:
        case ["asapo-discovery", _, "version"]:
            return Request("version", query=query)
        case ["asapo-discovery", _, service]:
            return Request("discovery", source=service, query=query)
        case ["asapo-authorizer", _, "folder"]:
            return Request("authorize", query=query, body=body)
        case [_, "creategroup"]:
            return Request("creategroup", query=query)
        case [_, "transfer"]:
            return Request("transfer", query=query, body=body)
        case [_, "beamtime", beamtime, source, *rest]:
            operation, stream, group, message_id = _in_source(rest, body)
            return Request(operation, beamtime, source, stream, group, message_id, query, body)
    return Request("", query=query)


def _in_source(rest: list[str], body: dict[str, Any]) -> tuple[str, str, str, int | None]:
    """Operation, stream, group, id of what stands behind the source in a path; group 0 is none."""
    match rest:
        case ["0", "streams" | "sources" as operation]:
            return operation, "", "", None
        case [stream, "size" | "delete" | "persist" as operation]:
            return operation, stream, "", None
        case [stream, "0", "meta", which]:
            return "meta", stream if which == "1" else "", "", None
        case [stream, "0", "last" | "querymessages" as operation]:
            return operation, stream, "", None
        case [stream, "0", message_id]:
            return "get", stream, "", int(message_id)
        case [stream, group, "next" | "groupedlast" | "nacks" | "lastack" as operation]:
            return operation, stream, group, None
        case [stream, group, "resetcounter"]:
            return "reset", stream, group, None
        case [stream, group, message_id]:
            orders = {"ackmessage": "acknowledge", "negackmessage": "neg_acknowledge"}
            return orders.get(str(body.get("Op")), ""), stream, group, int(message_id)
    return "", "", "", None
