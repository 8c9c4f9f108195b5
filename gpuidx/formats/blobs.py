# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels in the forms that DECTRIS' protocols add to those of HDF5 chunks; see `gpuidx.formats.chunks`."""

import math
import struct
from typing import Any

import numpy as np
from dectris.compression import decompress
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.chunks import LZ4_RATIO, MOST_BYTES, Chunk, checked, decompressed, unpack

BARE_LZ4 = "bare lz4"
"""One LZ4 block with no size in front, besides `gpuidx.formats.chunks.COMPRESSIONS`."""


def unpacked(
    data: memoryview, compression: str, element: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """An array of pixels; parameters and errors as `found`."""
    array = found(data, compression, element, dtype, shape)
    return decompressed(array) if isinstance(array, Chunk) else array


def found(
    data: memoryview, compression: str, element: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any] | Chunk:
    """An array of pixels, as a checked chunk if it is stored like one.

    Parameters
    ----------
    data
        As sent.
    compression
        One of `gpuidx.formats.chunks.COMPRESSIONS`, or `BARE_LZ4`.
    element
        Bytes of the elements whose bits are shuffled, mostly those of a pixel.
    dtype, shape
        Of the array.

    Raises
    ------
    Rejected
        If the bytes are not those of such an array.
    """
    if compression == BARE_LZ4:
        return _bare_lz4(data, dtype, shape)
    if compression in ("none", "lz4") or element == dtype.itemsize:
        return checked(data, compression, dtype, shape)
    size = math.prod(shape) * dtype.itemsize
    whole, rest = divmod(size, element)
    if rest:
        raise Rejected("damaged image", f"{size} bytes are no elements of {element} bytes")
    raw = unpack(data, compression, np.dtype(f"u{element}"), (whole,))
    return raw.view(dtype).reshape(shape)


def _bare_lz4(data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    fits = size // LZ4_RATIO <= len(data) <= size + size // 255 + 16
    # A block as long as its pixels would pass for pixels that are not compressed, in HDF5's framing.
    if not fits or len(data) == size or size > MOST_BYTES:
        raise Rejected("damaged image", f"lz4: {len(data)} bytes cannot make the {size} of {shape} {dtype}")
    framed = b"".join((struct.pack(">QII", size, size, len(data)), data))
    if len(data) < size:
        return unpack(memoryview(framed), "lz4", dtype, shape)
    # An image of noise takes more room than before, which HDF5's framing does not allow for.
    try:
        raw = decompress(framed, "lz4")
    except (RuntimeError, ValueError, MemoryError, SystemError) as error:
        raise Rejected("damaged image", f"lz4: {type(error).__name__}: {error}") from error
    if len(raw) != size:
        raise Rejected("damaged image", f"lz4: {len(raw)} bytes came out; {size} are needed")
    return np.frombuffer(bytearray(raw), dtype).reshape(shape)
