# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at an address: whether anybody listens there, and what kind of ZeroMQ socket that is.

Only for finding out why nothing comes.  The other end is greeted as ZMTP 3 wants it (rfc.zeromq.org/spec/23)
and answers with its mechanism and the type of its socket.  Our side of the handshake is never finished, so
nothing is sent to us that others wait for.
"""

import re
import socket
import time
from contextlib import suppress
from typing import NamedTuple

PATIENCE = 2.0
"""Seconds for the connection, and again for the answer."""

SIZE = 64
"""Bytes of a greeting."""

_GREETING = (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0")).ljust(SIZE, b"\0")
_UP_TO_VERSION = 12  # bytes
_SOCKET_TYPE = re.compile(rb"\x0bSocket-Type\0\0\0[\x03-\x06]([A-Z]{3,6})")


class Neighbour(NamedTuple):
    """Who is at an address.

    Attributes
    ----------
    problem
        Why there is no connection; ``""`` if there is one.
    mechanism
        ``"NULL"``, ``"PLAIN"`` or ``"CURVE"``; ``""`` if ZeroMQ is not spoken there.
    kind
        Of the socket, such as ``"PUB"``; ``""`` if that is not told, as by an encrypted one.
    """

    problem: str = ""
    mechanism: str = ""
    kind: str = ""


def knock(address: str, patience: float = PATIENCE) -> Neighbour:
    """Connect to ``tcp://HOST:PORT`` or ``ipc://PATH``, ask, and close the connection."""
    try:
        with _connected(address, patience) as connection:
            return _understood(_answer(connection, patience))
    except OSError as error:
        return Neighbour(problem=str(error.strerror or error).lower())


def _connected(address: str, patience: float) -> socket.socket:
    transport, _, place = address.partition("://")
    if transport == "ipc":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(patience)
        try:
            connection.connect("\0" + place[1:] if place.startswith("@") else place)
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = place.rpartition(";")[2].rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), patience)


def _answer(connection: socket.socket, patience: float) -> bytes:
    """What the other end says until it has told its socket's type, closes, or time is over.

    It says its mechanism when it knows our version, and hangs up when it knows another mechanism of ours.
    """
    until, answer = time.monotonic() + patience, b""
    with suppress(TimeoutError, ConnectionError):
        connection.sendall(_GREETING[:_UP_TO_VERSION])
        greeted = False
        while not _SOCKET_TYPE.search(answer, SIZE) and (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            more = connection.recv(4096)
            if not more:
                break
            answer += more
            if not greeted and len(answer) >= SIZE:
                greeted = True
                connection.sendall(_GREETING[_UP_TO_VERSION:])
    return answer


def _understood(answer: bytes) -> Neighbour:
    if len(answer) < SIZE or answer[0] != 0xFF or not answer[9] & 1:
        return Neighbour()
    kind = _SOCKET_TYPE.search(answer, SIZE)
    mechanism = answer[12:32].rstrip(b"\0").decode("ascii", "replace")
    return Neighbour("", mechanism, kind[1].decode() if kind else "")
