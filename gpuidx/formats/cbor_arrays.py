# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays of numbers in CBOR: typed arrays with a shape (RFC 8746), compressed as by DECTRIS (tag 56500)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats import cbor
from gpuidx.formats.blobs import found
from gpuidx.formats.chunks import Chunk, decompressed
from gpuidx.formats.frame import DTYPE_OF

ROW_MAJOR = 40
COMPRESSED = 56500

TYPED = {
    64: "|u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "|u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "|i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
"""Tags of typed arrays; those of numbers that are not read (128 bits) are left out."""

COMPRESSIONS = ("bslz4", "bszstd", "lz4")

MOST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array in a message, found but not decompressed.

    Attributes
    ----------
    data
        Its bytes, as an HDF5 chunk has them if they are compressed.
    compression, element
        As in `gpuidx.formats.chunks`; bytes of the elements whose bits are shuffled.
    dtype, shape
        Of the array; row-major.
    """

    data: memoryview
    compression: str
    element: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def stored(self) -> NDArray[Any] | Chunk:
        """The same, as a checked chunk if it is stored like one; errors as `pixels`."""
        return found(self.data, self.compression, self.element, self.dtype, self.shape)

    def pixels(self) -> NDArray[Any]:
        """The array, decompressed, or as it lies in the message.

        Raises
        ------
        Rejected
            If it is damaged.
        """
        array = self.stored()
        return decompressed(array) if isinstance(array, Chunk) else array


def array_of(item: memoryview, name: str) -> Array:
    """A multi-dimensional typed array.

    Raises
    ------
    Rejected
        If the item is none.
    """
    tag, inner = cbor.untagged(item)
    parts = cbor.elements(inner, 2)
    if tag != ROW_MAJOR or parts is None or len(parts) != 2:
        raise Rejected("wrong type", f"'{name}' is {cbor.kind_of(item)}; expected an array (tag 40)")
    shape = cbor.decode(parts[0], name)
    if not isinstance(shape, list) or not 0 < len(shape) <= MOST_DIMENSIONS or not all(map(_extent, shape)):
        raise Rejected("wrong shape", f"'{name}' has the shape {shape!r:.60}; expected [rows, columns]")
    dtype, compression, element, data = _typed(parts[1], name)
    return Array(data, compression, element, dtype, tuple(shape))


def _extent(extent: object) -> bool:
    return type(extent) is int and extent > 0


def numbers_of(item: memoryview, name: str) -> NDArray[Any] | None:
    """The numbers of a typed array without a shape, uncompressed; None for any other item."""
    tag, _ = cbor.untagged(item)
    if tag not in TYPED:
        return None
    dtype, compression, _, data = _typed(item, name)
    if compression != "none":
        return None
    return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)


def _typed(item: memoryview, name: str) -> tuple[np.dtype[Any], str, int, memoryview]:
    """dtype, compression, shuffled element, and bytes of a typed array."""
    tag, inner = cbor.untagged(item)
    if tag not in TYPED:
        raise Rejected("unknown pixel type", f"'{name}' has the tag {tag}; expected a typed array, 64 to 86")
    dtype = DTYPE_OF[TYPED[tag]]
    data = cbor.binary(inner)
    if data is not None:
        return dtype, "none", dtype.itemsize, data
    tag, inner = cbor.untagged(inner)
    parts = cbor.elements(inner, 3) if tag == COMPRESSED else None
    if parts is None or len(parts) != 3:
        raise Rejected(
            "wrong type", f"'{name}' holds {cbor.kind_of(inner)}; expected bytes or tag {COMPRESSED}"
        )
    algorithm, element = cbor.decode(parts[0], name), cbor.decode(parts[1], name)
    data = cbor.binary(parts[2])
    if algorithm not in COMPRESSIONS:
        raise Rejected(
            "unknown compression", f"'{name}': {algorithm!r:.40}; expected one of {', '.join(COMPRESSIONS)}"
        )
    if data is None or type(element) is not int or (algorithm != "lz4" and element not in (1, 2, 4, 8)):
        raise Rejected("malformed message", f"'{name}': elements of {element!r:.40} bytes")
    return dtype, algorithm, element, data
