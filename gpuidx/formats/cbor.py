# SPDX-License-Identifier: GPL-3.0-or-later
"""CBOR messages, read without copying: the entries of a map, undecoded, as parts of the message.

A walk over the heads of the items (RFC 8949) finds where each entry ends; only what is asked for is decoded,
and of that only what is small.  Arrays of numbers (RFC 8746) are in `cbor_arrays`.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from gpuidx.errors import Rejected
from gpuidx.formats.lookup import what_there_is

DEEPEST = 64
"""Items within items."""

MOST_ITEMS = 300_000
"""Of a message; walking over so many takes a tenth of a second."""

MOST_DECODED = 100_000
"""Items of a value that is decoded; each becomes a Python object."""

SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Tag 55799, which may stand in front of a message to say that it is CBOR."""

UNSIGNED, NEGATIVE, BINARY, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)

_KINDS = (
    "an integer",
    "an integer",
    "binary",
    "text",
    "an array",
    "a map",
    "a tagged item",
    "a simple value",
)
_BREAK = 0xFF
_ENDLESS = -1
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_CONSTANTS = {20: False, 21: True}  # null and undefined are None


def _whole_size(first: int) -> int:
    """Bytes of an item that begins with this byte, if that byte alone says so; else 0."""
    major, info = first >> 5, first & 31
    if major in (BINARY, TEXT):
        return 1 + info if info < 24 else 0
    if major in (UNSIGNED, NEGATIVE, SIMPLE):
        return 1 if info < 24 else {24: 2, 25: 3, 26: 5, 27: 9}.get(info, 0)
    return 0


_WHOLE = tuple(map(_whole_size, range(256)))


def _truncated(size: int) -> Rejected:
    return Rejected("truncated message", f"the CBOR item ends after {size} bytes")


def _malformed(why: str) -> Rejected:
    return Rejected("malformed message", f"CBOR: {why}")


def head(data: memoryview, at: int) -> tuple[int, int, int]:
    """Major type, argument (-1 for an indefinite length), and where the head of the item ends.

    Raises
    ------
    Rejected
        If there is no head of an item.
    """
    if at >= len(data):
        raise _truncated(len(data))
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if info < 24:
        return major, info, at
    if info == 31 and BINARY <= major <= MAP:
        return major, _ENDLESS, at
    if info > 27:
        raise _malformed(f"byte {data[at - 1]:#04x} begins no item")
    size = 1 << (info - 24)
    if at + size > len(data):
        raise _truncated(len(data))
    return major, int.from_bytes(data[at : at + size], "big"), at + size


def end_of(data: memoryview, at: int, most: int = MOST_ITEMS) -> tuple[int, int]:
    """Where the item that begins at *at* ends, and how many items it holds, itself included.

    Raises
    ------
    Rejected
        If it is truncated, malformed, too deep, or of more items than *most*.
    """
    size, pending, n_item = len(data), [1], 0
    while pending:
        if at >= size:
            raise _truncated(size)
        n_item += 1
        if n_item > most:
            raise _malformed(f"more than {most} items")
        first = data[at]
        if first == _BREAK and pending[-1] < 0:
            pending.pop()
            at += 1
        else:
            if pending[-1] > 0:
                pending[-1] -= 1
            if _WHOLE[first]:
                at += _WHOLE[first]
            else:
                at = _open(data, at, pending)
        while pending and not pending[-1]:
            pending.pop()
    if at > size:
        raise _truncated(size)
    return at, n_item


def _open(data: memoryview, at: int, pending: list[int]) -> int:
    """Go over a head whose item has contents, and note how many items these are."""
    major, count, at = head(data, at)
    if major in (BINARY, TEXT) and count != _ENDLESS:
        return at + count
    if major == TAG:
        count = 1
    elif major == MAP and count > 0:
        count *= 2
    if count:
        pending.append(count)
    if len(pending) > DEEPEST:
        raise _malformed(f"more than {DEEPEST} items within items")
    return at


def shown(text: str) -> str:
    """Text of a message as it may stand in a line for the user."""
    return text[:40] if text.isprintable() else ascii(text[:40])[1:-1]


def kind_of(item: memoryview) -> str:
    """What an item is, in words."""
    return _KINDS[item[0] >> 5] if item else "nothing"


def binary(item: memoryview) -> memoryview | None:
    """The contents of a byte string in one piece, not copied; None for any other item."""
    major, size, at = head(item, 0)
    return item[at : at + size] if major == BINARY and size != _ENDLESS else None


def elements(item: memoryview, most: int) -> list[memoryview] | None:
    """The elements of an array, undecoded; None for any other item, or if there are more than *most*."""
    major, count, at = head(item, 0)
    if major != ARRAY or count > most:
        return None
    found: list[memoryview] = []
    while len(found) != count and not (count == _ENDLESS and item[at] == _BREAK):
        if len(found) == most:
            return None
        end, _ = end_of(item, at)
        found.append(item[at:end])
        at = end
    return found


def untagged(item: memoryview) -> tuple[int | None, memoryview]:
    """The tag of an item, and the item in it; None for an item without a tag."""
    major, tag, at = head(item, 0)
    return (tag, item[at:]) if major == TAG else (None, item)


def decode(item: memoryview, name: str) -> Any:
    """A small item as Python sees it: maps with text keys only, tags left out, bytes where text is not UTF-8.

    Raises
    ------
    Rejected
        If it is malformed, or has more than `MOST_DECODED` items.
    """
    _, n_item = end_of(item, 0, MOST_ITEMS)
    if n_item > MOST_DECODED:
        raise Rejected("bad header value", f"'{name}' has {n_item} items; expected at most {MOST_DECODED}")
    return _decode(item, 0)[0]


def _decode(data: memoryview, at: int) -> tuple[Any, int]:
    """An item that `end_of` has found whole, and where it ends."""
    begin = at
    major, value, at = head(data, at)
    if major == UNSIGNED:
        return value, at
    if major == NEGATIVE:
        return -1 - value, at
    if major == TAG:
        return _decode(data, at)
    if major == SIMPLE:
        info = data[begin] & 31
        if info in _FLOATS:
            return _FLOATS[info].unpack_from(data, begin + 1)[0], at
        return _CONSTANTS.get(info), at
    if major in (BINARY, TEXT) and value != _ENDLESS:
        text = bytes(data[at : at + value])
        return (text.decode(errors="replace") if major == TEXT else text), at + value
    return _container(data, at, major, value)


def _container(data: memoryview, at: int, major: int, count: int) -> tuple[Any, int]:
    found: list[Any] = []
    wanted = 2 * count if major == MAP and count > 0 else count
    while len(found) != wanted:
        if wanted == _ENDLESS and data[at] == _BREAK:
            at += 1
            break
        value, at = _decode(data, at)
        found.append(value)
    if major == ARRAY:
        return found, at
    if major == MAP:
        pairs = zip(found[::2], found[1::2], strict=False)
        return {key: value for key, value in pairs if isinstance(key, str)}, at
    if not all(isinstance(piece, str if major == TEXT else bytes) for piece in found):
        raise _malformed("a string in pieces holds something else")
    return ("" if major == TEXT else b"").join(found), at


class Entries(Mapping[str, Any]):
    """The entries of a map by their text keys; a value is decoded when it is asked for.

    Parameters
    ----------
    data
        The map; `SELF_DESCRIBED` may stand in front, and bytes after it are ignored.
    name
        What the map is called in texts.
    notes
        Counts maps with duplicate keys; the first one is taken.

    Raises
    ------
    Rejected
        If it is no map, truncated or malformed.
    """

    def __init__(self, data: memoryview, name: str, notes: Counter[str]) -> None:
        if data[: len(SELF_DESCRIBED)] == SELF_DESCRIBED:
            data = data[len(SELF_DESCRIBED) :]
        major, count, at = head(data, 0)
        if major != MAP:
            raise Rejected("not a map", f"{name} is {kind_of(data)}")
        self.items_of: dict[str, memoryview] = {}
        left, n_entry, n_text = MOST_ITEMS, 0, 0
        while n_entry != count:
            if count == _ENDLESS and at < len(data) and data[at] == _BREAK:
                break
            value, n_key = end_of(data, at, left)
            end, n_value = end_of(data, value, left)
            left -= n_key + n_value
            n_entry += 1
            if data[at] >> 5 == TEXT:
                n_text += 1
                self.items_of.setdefault(_decode(data, at)[0], data[value:end])
            at = end
        if len(self.items_of) < n_text:
            notes["maps with duplicate keys"] += 1

    def __getitem__(self, key: str) -> Any:
        return decode(self.items_of[key], key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.items_of)

    def __len__(self) -> int:
        return len(self.items_of)

    def __contains__(self, key: object) -> bool:
        return key in self.items_of

    def get_item(self, key: str) -> memoryview:
        """An entry, undecoded; a missing one is a reason to reject the frame."""
        if key not in self.items_of:
            there = what_there_is(key, self.items_of)
            raise Rejected("missing key", f"'{key}' is not in the message, which has {there}")
        return self.items_of[key]
