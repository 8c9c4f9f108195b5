# SPDX-License-Identifier: GPL-3.0-or-later
"""Seedee messages to frames: metadata in the first part, one compressed array in the second.

The metadata are JSON: Seedee's own, or a map that has them under ``_data_format`` as ASAP::O sends it, as
text or as a map, beside header values of any other name.  The `seedee` library is not used: it ends the
process on damaged messages.  What it writes is an HDF5 chunk, which `gpuidx.formats.chunks` reads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gpuidx.errors import Rejected
from gpuidx.formats.chunks import Chunk, checked
from gpuidx.formats.frame import DTYPE_OF
from gpuidx.formats.named_values import header_value
from gpuidx.formats.one_image import OneImage
from gpuidx.formats.setting import Setting
from gpuidx.model import Frame, Message

KEY = "_data_format"

MOST_METADATA = 1 << 20
"""Bytes; Seedee's own are about 230."""

MOST_DIMENSIONS = 8

COMPRESSIONS = {0: "none", 1: "gzip", 32004: "lz4", 32008: "bslz4"}
"""By HDF5's numbers of filters."""

_ORDERS = {ord(order): order for order in "<>|"}
_KINDS = {ord(kind): kind for kind in "uif"}
_MARKS = (b"_data_format", b"hdf5_chunk")


class ArrayForm(NamedTuple):
    """What Seedee's metadata say of an array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    compression: str


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be Seedee: several parts, of which the first is such JSON."""
    if len(parts) < 2:
        return False
    head = bytes(parts[0][:MOST_METADATA])
    return head[:1] == b"{" and any(mark in head for mark in _MARKS)


class SeedeeDecoder:
    """Decodes the messages of one run; made from the run's setting."""

    def __init__(self, setting: Setting) -> None:
        self._frames = OneImage(setting)

    def decode(self, message: Message) -> Frame:
        """The frame of a message; pixels that are not compressed lie in it where that is possible.

        Raises
        ------
        Rejected
            If anything that is needed is missing, malformed or absurd.
        """
        if len(message.parts) < 2:
            raise Rejected(
                "no metadata", "a Seedee message has two parts: metadata in JSON, pixels; this one has one"
            )
        metadata = read_map(message.parts[0], "the metadata")
        form = array_form(seedee_map(metadata))

        def image() -> Chunk:
            shape = self._frames.checked(form.shape)
            return checked(message.data, form.compression, form.dtype, shape)

        return self._frames.frame(message, lambda name: header_value((metadata,), name), image)


def read_map(text: memoryview | bytes, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    Rejected
        If it is none, or too long.
    """
    if len(text) > MOST_METADATA:
        raise Rejected(
            "malformed metadata", f"{name} has {len(text)} bytes; expected at most {MOST_METADATA}"
        )
    try:
        found = json.loads(str(text, "utf-8"))  # bytes could be any of Unicode's encodings
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError as well
        raise Rejected("malformed metadata", f"{name}: not JSON: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise Rejected("malformed metadata", f"{name}: not an object but {found!r:.40}")
    return found


def seedee_map(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Seedee's own metadata within those of a message.

    Raises
    ------
    Rejected
        If there are none.
    """
    found = metadata.get(KEY, metadata)
    if isinstance(found, str):
        return read_map(found.encode(errors="replace"), f"'{KEY}'")
    if not isinstance(found, dict):
        _wrong(KEY, found, "text or an object")
    return found


def array_form(own: Mapping[str, Any]) -> ArrayForm:
    """Type, shape and compression of an array, of Seedee's own metadata.

    Raises
    ------
    Rejected
        If they are not understood, or contradict each other.
    """
    for key, value in (("protocol", "seedee"), ("version_major", 1), ("data_format", "hdf5_chunk")):
        if own.get(key) != value or isinstance(own.get(key), bool):
            _wrong(key, own.get(key), repr(value))
    array = own.get("array")
    if not isinstance(array, dict):
        _wrong("array", array, "an object")
    numbers = {
        key: _integer(key, array.get(key)) for key in ("datatype", "byteorder", "itemsize", "ndims", "size")
    }
    if array.get("stride") is not None:
        _wrong("stride", array["stride"], "null, rows behind each other")
    shape = array.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= MOST_DIMENSIONS or numbers["ndims"] != len(shape):
        _wrong("shape", shape, f"{numbers['ndims']} integers, as 'ndims' says")
    extents = tuple(_integer("shape", extent) for extent in shape)
    dtype = _dtype(numbers)
    if min(extents) <= 0 or math.prod(extents) * dtype.itemsize != numbers["size"]:
        _wrong("size", numbers["size"], f"that of {shape} of {dtype.str}")
    number = _integer("compression", own.get("compression"))
    if number not in COMPRESSIONS:
        _wrong("compression", number, f"one of {', '.join(map(str, COMPRESSIONS))}")
    return ArrayForm(dtype, extents, COMPRESSIONS[number])


def _dtype(numbers: Mapping[str, int]) -> np.dtype[Any]:
    """The dtype of letters given as their ASCII codes; single bytes may have any byte order."""
    kind, order = _KINDS.get(numbers["datatype"]), _ORDERS.get(numbers["byteorder"])
    if kind is None or order is None:
        key = "datatype" if kind is None else "byteorder"
        _wrong(key, numbers[key], "the code of u, i or f" if kind is None else "the code of < or >")
    letters = f"{'|' if numbers['itemsize'] == 1 else order}{kind}{numbers['itemsize']}"
    if letters not in DTYPE_OF:
        _wrong("itemsize", numbers["itemsize"], f"the bytes of a pixel of kind {kind}")
    return DTYPE_OF[letters]


def _integer(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 1 << 62:
        _wrong(key, value, "an integer")
    return value


def _wrong(key: str, value: object, expected: str) -> NoReturn:
    raise Rejected("malformed metadata", f"'{key}' is {value!r:.60}; expected {expected}")
