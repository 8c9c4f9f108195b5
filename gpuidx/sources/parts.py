# SPDX-License-Identifier: GPL-3.0-or-later
"""From the parts of a ZeroMQ message to those that matter, and the one copy of them into a slot.

Nothing is decoded here.  Three things are known of formats, since a wrong guess costs no more than it did
before: how a message may begin (to cut off a tag in front of it), that the first of several parts may be
JSON which tells about the others (else it is a tag), and how MsgPack and CBOR announce a long binary
(to place it so that its pixels are aligned and the decoder need not copy them again).
"""

import re
from collections.abc import Sequence

import numpy as np
import zmq

from gpuidx.model import PADDING, STREAMED
from gpuidx.sources.contract import FRAME, START, Taken
from gpuidx.sources.series import LONGEST_HEAD, role, worth_keeping
from gpuidx.tasks import ALIGNMENT, offsets

SHORT = 15
"""Messages of so many bytes or fewer are no frames; CrystFEL 0.12 drops them without a word."""

REFUSAL = b"What?"
"""OM's answer to a request that it does not know."""

MOST_PARTS = 10
"""The start message of DECTRIS' first protocol has nine at the most."""

LONGEST_TAG = 255
"""The first of two parts is a tag up to this length."""

_LONG_BINARY = re.compile(rb"[\xc6\x5a]")  # MsgPack, CBOR; four bytes of length follow
_HEAD = 1 << 16  # where the image's header is looked for: behind some 1000 peaks at most
_WORTH = 1 << 14  # bytes from which a second copy of the pixels would be felt

_FILES = (b"\x89HDF\r\n\x1a\n", b"###CBF", b"\x1f\x8b\x08")
"""HDF5, CBF, gzip."""

_WHOLE = (*_FILES, b"\xd9\xd9\xf7")
"""The same, and CBOR that says so."""

_LONGEST_BEGIN = 8
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
        or data.startswith((*_WHOLE, *_PICKLE))
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
    if begins_message(bytes(data[:_LONGEST_BEGIN])):
        return 0
    for tag in tags:
        if data[: len(tag)] == tag and begins_message(bytes(data[len(tag) : len(tag) + _LONGEST_BEGIN])):
            return len(tag)
    return 0


def payload(views: Sequence[memoryview], tags: Sequence[bytes] = ()) -> list[memoryview] | None:
    """The parts of a message that matter; None if it is not clear which these are.

    One part is the payload, with or without a tag in front.  Of several, all from the first that is a JSON
    object; without any, of two the first is a tag.
    """
    if len(views) == 1:
        return [views[0][length_of_tag(views[0], tags) :] if tags else views[0]]
    is_tag = len(views[0]) <= LONGEST_TAG
    if bytes(views[0][:1]) == b"{" and len(views) <= MOST_PARTS:
        return list(views)
    if is_tag and bytes(views[1][:1]) == b"{" and 3 <= len(views) <= MOST_PARTS:
        return list(views[1:])
    return list(views[1:]) if is_tag and len(views) == 2 else None


def padding_for(data: memoryview) -> int:
    """How much padding in front of a message aligns its pixels in an aligned slot, bytes, 0…15.

    The pixels are the binary that fills more than half of the message.  In a file nothing is looked for.
    """
    size = len(data)
    if size < _WORTH or bytes(data[:_LONGEST_BEGIN]).startswith(_FILES):
        return 0
    head = bytes(data[: min(_HEAD, size // 2)])
    for found in _LONG_BINARY.finditer(head):
        at = found.start()
        length = int.from_bytes(head[at + 1 : at + 5], "big")
        if 2 * length > size and at + 5 + length <= size:
            return -(at + 5) % ALIGNMENT
    return 0


def is_refusal(parts: Sequence[zmq.Frame]) -> bool:
    """Whether a server such as OM says that it does not know the request."""
    return len(parts) == 1 and parts[0].buffer == REFUSAL


def role_of(parts: Sequence[memoryview], tags: Sequence[bytes] = ()) -> str | None:
    """Whether a message is a frame, or the start or end of a series; None if it is too short for any."""
    views = payload(parts, tags) or parts
    given = role(bytes(views[0][:LONGEST_HEAD]))
    return None if given == FRAME and sum(map(len, views)) <= SHORT else given


def put(parts: Sequence[zmq.Frame], slot: memoryview, tags: Sequence[bytes] = ()) -> Taken:
    """Copy what matters of a message into a slot, or say why it is not a frame.

    NumPy copies without the interpreter lock, unlike an assignment to a memoryview.
    """
    views = payload([part.buffer for part in parts], tags)
    if views is None:
        lengths = ", ".join(str(len(part)) for part in parts)
        return _refuse(
            "too many parts", f"{len(parts)} parts of {lengths} bytes; expected [tag, payload] or one"
        )
    given = role(bytes(views[0][:LONGEST_HEAD]))
    if given == START:
        views = worth_keeping(views)
    size = sum(map(len, views))
    if size <= SHORT and given == FRAME:
        return _refuse_short(b"".join(views))
    sizes = [len(view) for view in views]
    if offsets(sizes)[-1] > len(slot):
        return _refuse("too large", f"{size} bytes, a slot holds {len(slot)}; give more with --slot-size")
    padding = padding_for(views[0]) if len(views) == 1 else 0
    if padding + size > len(slot):
        padding = 0
    slot[:padding] = PADDING * padding
    for begin, view in zip(offsets(sizes), views, strict=False):
        np.copyto(np.frombuffer(slot, np.uint8, len(view), padding + begin), np.frombuffer(view, np.uint8))
    return Taken(sizes=(padding + sizes[0], *sizes[1:]), filename=STREAMED, event="", role=given)


def _refuse(reason: str, detail: str) -> Taken:
    return Taken(sizes=(), filename=STREAMED, event="", rejected=(reason, detail))


def _refuse_short(data: bytes) -> Taken:
    if data == REFUSAL:
        return _refuse("request refused", "the server answered 'What?'; OM understands --zmq-request=next")
    return _refuse("short message", f"{len(data)} bytes, {data!r}; a frame has more than {SHORT}")
