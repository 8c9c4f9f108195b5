# SPDX-License-Identifier: GPL-3.0-or-later
"""MsgPack messages, read without copying: maps and their values, by exact key, as parts of the message.

`msgspec` splits a map into keys and undecoded values in microseconds, if its keys are all text or all
binary and all different; any other map is walked entry by entry.  What a message means is in `messages`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import msgpack
import msgspec
import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.frame import DTYPE_OF
from gpuidx.formats.lookup import check_value, what_there_is
from gpuidx.model import HeaderValue

Packed: TypeAlias = msgspec.Raw | memoryview
"""One MsgPack object, not decoded."""

_TEXT_MAP = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_BINARY_MAP = msgspec.msgpack.Decoder(dict[bytes, msgspec.Raw])
_ARRAY = msgspec.msgpack.Decoder(list[msgspec.Raw])
_SHAPE = msgspec.msgpack.Decoder(list[int])
_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_SCALARS = {"an integer", "a float", "text"}

MOST_ENTRIES = 100_000
"""Of a map; a message of nothing but entries would fill a hundred times its size of memory."""

_FALSE = b"\xc2"

MOST_DIMENSIONS = 32

FEW_ELEMENTS = 1000
"""Of an array that is split into its elements, for the same reason."""


def kind_of(packed: Packed) -> str:
    """What a MsgPack object is, by its first byte, in words."""
    data = memoryview(packed)
    if not data:
        return "nothing"
    first = data[0]
    for limit, kind in (
        (0x7F, "an integer"), (0x8F, "a map"), (0x9F, "an array"), (0xBF, "text"), (0xC0, "nil"),
        (0xC1, "an unused code"), (0xC3, "a bool"), (0xC6, "binary"), (0xC9, "an extension"),
        (0xCB, "a float"), (0xD3, "an integer"), (0xD8, "an extension"), (0xDB, "text"), (0xDD, "an array"),
        (0xDF, "a map"),
    ):  # fmt: skip
        if first <= limit:
            return kind
    return "an integer"


def count_of(packed: Packed) -> int:
    """Entries of a map or array, as its head says."""
    data = memoryview(packed)
    first = data[0]
    if first <= 0x9F:
        return first & 0x0F
    return int.from_bytes(data[1 : 3 if first in (0xDC, 0xDE) else 5], "big")


class Fields:
    """A map of a message.

    Parameters
    ----------
    packed
        The map; bytes after it are ignored, as by CrystFEL 0.12.
    name
        What the map is called in texts.
    notes
        Counts maps with duplicate keys; the first one is taken, as by CrystFEL 0.12.

    Raises
    ------
    Rejected
        If it is no map, truncated or malformed.
    """

    def __init__(self, packed: Packed, name: str, notes: Counter[str]) -> None:
        if kind_of(packed) != "a map":
            raise Rejected("not a map", f"{name} is {kind_of(packed)}")
        if count_of(packed) > MOST_ENTRIES:
            raise Rejected("malformed message", f"{name} is a map of {count_of(packed)} entries")
        self.name, self.notes = name, notes
        self._inner: dict[str, Fields] = {}
        self._values: dict[str, Packed] = {}
        for decoder in (_TEXT_MAP, _BINARY_MAP):
            try:
                found: dict[Any, msgspec.Raw] = decoder.decode(packed)
            except _FAILURES:
                continue
            if len(found) == count_of(packed):
                self._values = {
                    k if isinstance(k, str) else k.decode(errors="replace"): v for k, v in found.items()
                }
                return
            break
        seen = 0
        for key, value in walk(memoryview(packed), name):
            seen += 1
            self._values.setdefault(key, value)
        if len(self._values) < seen:
            notes["maps with duplicate keys"] += 1

    def find(self, name: str) -> Packed | None:
        """A value by its exact key, else by a path of keys joined by ``/``; None if there is none."""
        if name in self._values:
            return self._values[name]
        parts = name.split("/")
        for cut in range(1, len(parts)):
            key, rest = "/".join(parts[:cut]), "/".join(parts[cut:])
            if key == "":
                found = self.find(rest)
            elif key in self._values and kind_of(self._values[key]) == "a map":
                if key not in self._inner:
                    self._inner[key] = Fields(self._values[key], f"'{key}'", self.notes)
                found = self._inner[key].find(rest)
            else:
                found = None
            if found is not None:
                return found
        return None

    def get(self, name: str) -> Packed:
        """Like `find`; a missing value is a reason to reject the frame."""
        found = self.find(name)
        if found is None:
            there = what_there_is(name, self._values)
            raise Rejected("missing key", f"'{name}' is not in {self.name}, which has {there}")
        return found


def walk(data: memoryview, name: str) -> Iterator[tuple[str, memoryview]]:
    """The entries of a map in order, keys that are neither text nor binary left out."""
    with _reported(name, len(data)):
        unpacker = _unpacker(data)
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            start = unpacker.tell()
            unpacker.skip()
            if isinstance(key, bytes):
                yield key.decode(errors="replace"), data[start : unpacker.tell()]


def first_element(data: memoryview, notes: Counter[str]) -> Packed:
    """The first element of an array; the others are counted."""
    count = count_of(data)
    if count == 0:
        raise Rejected("not a map", "the message is an empty array")
    first = _first_of_few(data) if count <= FEW_ELEMENTS else None
    if first is None:
        first = _first_of_many(data)
    if count > 1:
        notes["further maps in a message, ignored"] += count - 1
    return first


def _first_of_few(data: memoryview) -> Packed | None:
    """The first element, quickly; None if that fails, for whatever reason."""
    with suppress(*_FAILURES):
        return _ARRAY.decode(data)[0]
    return None


def _first_of_many(data: memoryview) -> Packed:
    with _reported("the message", len(data)):
        _unpacker(data).skip()  # the rest must be whole, though it is ignored
        unpacker = _unpacker(data)
        unpacker.read_array_header()
        start = unpacker.tell()
        unpacker.skip()
    return data[start : unpacker.tell()]


def _unpacker(data: memoryview) -> Any:
    """The reader of `msgpack`, which takes any key and stops where the object ends; it copies the message."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=max(len(data), 1))
    unpacker.feed(data)
    return unpacker


@contextmanager
def _reported(name: str, size: int) -> Iterator[None]:
    """Turn the errors of `msgpack` into reasons."""
    try:
        yield
    except msgpack.OutOfData as error:
        raise Rejected("truncated message", f"{name} ends after {size} bytes") from error
    except (ValueError, TypeError) as error:
        raise Rejected("malformed message", f"{name}: {type(error).__name__} {error}".strip()) from error


def decode(packed: Packed, name: str) -> Any:
    """One object as Python sees it; call it only for what is small.

    Raises
    ------
    Rejected
        If it is malformed.
    """
    try:
        return msgspec.msgpack.decode(packed)
    except _FAILURES as error:
        raise Rejected("malformed message", f"'{name}': {error}") from error


def scalar(packed: Packed, name: str, notes: Counter[str]) -> HeaderValue:
    """A number or text; msgpack-numpy's form of a NumPy scalar counts as one.

    Raises
    ------
    Rejected
        If it is anything else.
    """
    kind = kind_of(packed)
    if kind in _SCALARS:
        return check_value(name, decode(packed, name))
    if kind == "a map":
        array = array_of(packed, name, notes)
        if array.size == 1:
            return check_value(name, array.item())
        kind = f"an array of {array.size} numbers"
    raise Rejected("bad header value", f"'{name}' is {kind}; expected a number or text")


def text(packed: Packed, name: str) -> str:
    """Text, sent as text or as binary."""
    if kind_of(packed) not in ("text", "binary"):
        raise Rejected("wrong type", f"'{name}' is {kind_of(packed)}; expected text")
    found = decode(packed, name)
    return found if isinstance(found, str) else found.decode(errors="replace")


def array_of(packed: Packed, name: str, notes: Counter[str]) -> NDArray[Any]:
    """A serialised NumPy array, as a view into the message: a map with ``type``, ``data`` and ``shape``.

    Keys may be text or binary.  A map with ``nd = false`` needs no shape (msgpack-numpy's scalars).
    More data than the shape needs is ignored, as by CrystFEL 0.12.

    Returns
    -------
    array
        Read-only, perhaps unaligned, of one of the types in `DTYPE_OF`.

    Raises
    ------
    Rejected
        If a part is missing or of the wrong type, or if there are fewer bytes than the shape needs.
    """
    fields = Fields(packed, f"'{name}'", notes)
    letters = text(fields.get("type"), f"{name}/type")
    if letters not in DTYPE_OF:
        raise Rejected(
            "unknown pixel type",
            f"'{name}/type' is {letters!r:.40}; expected for instance '<i4', '>u2' or '|u1'",
        )
    dtype, shape = DTYPE_OF[letters], _shape(fields, name)
    content = fields.get("data")
    if kind_of(content) != "binary":
        raise Rejected("wrong type", f"'{name}/data' is {kind_of(content)}; expected binary")
    packed_data = memoryview(content)
    data = packed_data[(2, 3, 5)[packed_data[0] - 0xC4] :]
    count = 1
    for extent in shape:
        count *= extent
    if count * dtype.itemsize > len(data):
        raise Rejected(
            "short data",
            f"'{name}/data' has {len(data)} bytes; "
            f"shape {tuple(shape)} of {letters} needs {count * dtype.itemsize}",
        )
    return np.frombuffer(data, dtype, count).reshape(shape)


def _shape(fields: Fields, name: str) -> list[int]:
    nd = fields.find("nd")
    if nd is not None and bytes(nd) == _FALSE and fields.find("shape") is None:
        return []
    packed = fields.get("shape")
    if kind_of(packed) != "an array" or count_of(packed) > MOST_DIMENSIONS:
        raise Rejected("wrong shape", f"'{name}/shape' is {kind_of(packed)}; expected [slow, fast]")
    try:
        shape = _SHAPE.decode(packed)
    except _FAILURES as error:
        raise Rejected("wrong shape", f"'{name}/shape': {error}") from error
    if not all(extent > 0 for extent in shape):
        raise Rejected("wrong shape", f"'{name}/shape' is {shape!r:.60}; expected integers above 0")
    return shape
