# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers on their way to a client, as they are or as a fault makes them."""

import json
import threading
from collections.abc import Callable

from gpuidx.simulation.asapo.faults import Fault, Kind

ONE_SEND = 1 << 16
"""Answers up to this size, bytes, leave in one piece."""

GARBAGE = b'{"_id":[nothing of use'
INVALID_UTF8 = b"\xff\xfe\xc3"


def deliver(
    send: Callable[[bytes | bytearray], object],
    head: bytes,
    body: bytes | bytearray,
    fault: Fault | None,
    ending: threading.Event,
) -> bool:
    """Send an answer; whether the connection stays open.

    Parameters
    ----------
    send
        Sends all of the bytes.
    head, body
        The answer.
    fault
        What goes wrong with its delivery.
    ending
        Set when the server ends; waits end with it.
    """
    kind = fault.kind if fault else None
    if kind == Kind.LOSE:
        return False
    if kind == Kind.HANG:
        ending.wait()
        return False
    if kind in (Kind.CUT, Kind.STALL):
        send(head + body[: len(body) // 2] if body else head[: len(head) // 2])
        if kind == Kind.STALL:
            ending.wait()
        return False
    if fault and kind == Kind.SLOW and ending.wait(fault.seconds):
        return False
    if len(body) <= ONE_SEND:
        send(head + body)
    else:
        send(head)
        send(body)
    return kind != Kind.CLOSE


def spoiled(body: bytes | bytearray, fault: Fault | None) -> bytes | bytearray:
    """The text of an answer as a fault makes it."""
    kind = fault.kind if fault else None
    if kind == Kind.GARBAGE:
        return GARBAGE
    if kind == Kind.BAD_TEXT:
        with_name = body.replace(b'"name": "', b'"name": "' + INVALID_UTF8)
        return with_name if with_name != body else body + INVALID_UTF8
    if kind == Kind.BAD_TYPES:
        try:
            values = json.loads(body)
            return json.dumps({key: _other_type(value) for key, value in values.items()}).encode()
        except (ValueError, AttributeError):
            return GARBAGE
    return body


def _other_type(value: object) -> object:
    return 7 if isinstance(value, str) else str(value)
