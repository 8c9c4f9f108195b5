# SPDX-License-Identifier: GPL-3.0-or-later
"""From the parts of a ZeroMQ message to the payload, and the one copy of it into a slot.

Nothing is decoded here.  Two things are known of formats, since a wrong guess costs no more than it did
before: how a message may begin (to cut off a tag in front of it), and how MsgPack announces a long binary
(to place it so that its pixels are aligned and the decoder need not copy them again).
"""

from collections.abc import Sequence

import numpy as np
import zmq

from gpuidx.model import PADDING
from gpuidx.sources.contract import Taken

SHORT = 15
"""Messages of so many bytes or fewer are no frames; CrystFEL 0.12 drops them without a word."""

LONGEST_TAG = 255
"""The first of two parts is a tag up to this length."""

ALIGNMENT = 16
_BIN32 = b"\xc6"
_HEAD = 1 << 16  # where the image's header is looked for: behind some 1000 peaks at most
_WORTH = 1 << 14  # bytes from which a second copy of the pixels would be felt

_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def begins_message(data: bytes) -> bool:
    """Whether a message can begin so: a map or array of MsgPack, an HDF5 file, or a pickle."""
    if not data:
        return False
    first = data[0]
    return (
        0x81 <= first <= 0x8F  # map of up to 15 pairs
        or 0x91 <= first <= 0x9F  # array of up to 15 elements
        or 0xDC <= first <= 0xDF  # longer arrays and maps
        or data.startswith(_HDF5)
        or data.startswith(_PICKLE)
    )


def length_of_tag(data: memoryview, tags: Sequence[bytes]) -> int:
    """How many bytes of a subscribed tag stand in front of the payload.

    A tag is cut off only if what follows it, and not the whole, can begin a message.

    Parameters
    ----------
    data
        A message that came in one part.
    tags
        The subscribed ones, the longest first.
    """
    if begins_message(bytes(data[: len(_HDF5)])):
        return 0
    for tag in tags:
        if data[: len(tag)] == tag and begins_message(bytes(data[len(tag) : len(tag) + len(_HDF5)])):
            return len(tag)
    return 0


def payload(parts: Sequence[zmq.Frame], tags: Sequence[bytes] = ()) -> memoryview | None:
    """The payload among the parts of a message; None if it is not clear which part that is.

    One part is the payload, with or without a tag in front; of two the first is the tag.
    """
    last: memoryview = parts[-1].buffer
    if len(parts) == 1:
        return last[length_of_tag(last, tags) :] if tags else last
    return last if len(parts) == 2 and len(parts[0]) <= LONGEST_TAG else None


def padding_for(data: memoryview) -> int:
    """How much padding in front of a message aligns its pixels in an aligned slot, bytes, 0…15.

    The pixels are the binary that fills more than half of the message.
    """
    size = len(data)
    if size < _WORTH:
        return 0
    head = bytes(data[: min(_HEAD, size // 2)])
    at = head.find(_BIN32)
    while at >= 0:
        length = int.from_bytes(head[at + 1 : at + 5], "big")
        if 2 * length > size and at + 5 + length <= size:
            return -(at + 5) % ALIGNMENT
        at = head.find(_BIN32, at + 1)
    return 0


def put(parts: Sequence[zmq.Frame], slot: memoryview, tags: Sequence[bytes] = ()) -> Taken:
    """Copy the payload of a message into a slot, or say why it is not a frame.

    NumPy copies without the interpreter lock, unlike an assignment to a memoryview.
    """
    data = payload(parts, tags)
    if data is None:
        sizes = ", ".join(str(len(part)) for part in parts)
        return _refuse(
            "too many parts", f"{len(parts)} parts of {sizes} bytes; expected [tag, payload] or one"
        )
    size = len(data)
    if size <= SHORT:
        return _refuse_short(bytes(data))
    if size > len(slot):
        return _refuse("too large", f"{size} bytes, a slot holds {len(slot)}; give more with --slot-size")
    padding = padding_for(data)
    if padding + size > len(slot):
        padding = 0
    slot[:padding] = PADDING * padding
    np.copyto(np.frombuffer(slot, np.uint8, size, padding), np.frombuffer(data, np.uint8))
    return Taken(size=padding + size, filename="ZMQdata", event="")


def _refuse(reason: str, detail: str) -> Taken:
    return Taken(size=0, filename="ZMQdata", event="", rejected=(reason, detail))


def _refuse_short(data: bytes) -> Taken:
    if data == b"What?":
        return _refuse("request refused", "the server answered 'What?'; OM understands --zmq-request=next")
    return _refuse("short message", f"{len(data)} bytes, {data!r}; a frame has more than {SHORT}")
