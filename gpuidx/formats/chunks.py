# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed pixels of all formats: checked first, decompressed then.

The bytes are those of an HDF5 chunk, which DECTRIS, Seedee and the CBOR formats send as well.  What their
heads claim is compared with what the pixels need before a library sees them: no memory is asked for on the
word of a sender, and no library is trusted with a length that leads out of the message.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dectris.compression import decompress
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.loops import as_bytes, end_of_blocks

COMPRESSIONS = ("none", "bslz4", "bszstd", "lz4", "gzip", "gzip+shuffle")
"""none; bitshuffle with LZ4 or Zstandard (HDF5 filter 32008); LZ4 (32004); deflate (1), shuffled (2)."""

MOST_BYTES = 1 << 30
"""Of one array, as in Seedee; the greatest detectors have a tenth of that."""

LZ4_RATIO = 255
"""LZ4 makes no more bytes of one."""

_HEAD = struct.Struct(">QI")
HEAD_BYTES = _HEAD.size
"""Of bslz4, bszstd and lz4, in front of the blocks: bytes of the array, bytes of a block."""

_LENGTH = struct.Struct(">I")
_REASON = "damaged image"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Compressed pixels whose heads hold together.

    Attributes
    ----------
    data
        As an HDF5 chunk is stored.
    compression
        One of `COMPRESSIONS`.
    dtype, shape
        Of the array.
    size
        Bytes of the array.
    block
        Bytes that each block of ``bslz4``, ``bszstd`` and ``lz4`` makes, the last one fewer; else `size`.
    """

    data: memoryview
    compression: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int
    block: int


def unpack(data: memoryview, compression: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The array that a sender compressed.

    Parameters
    ----------
    data
        Contiguous; as an HDF5 chunk is stored.
    compression
        One of `COMPRESSIONS`.
    dtype, shape
        Of the array.

    Returns
    -------
    array : shape
        Writable, unless the pixels are not compressed and `data` is read-only: they stay where they are.

    Raises
    ------
    Rejected
        If the bytes are not those of such an array.
    """
    return decompressed(checked(data, compression, dtype, shape))


def checked(data: memoryview, compression: str, dtype: np.dtype[Any], shape: Sequence[int]) -> Chunk:
    """The same bytes, once their heads are found to fit an array; parameters and errors as `unpack`."""
    if compression not in COMPRESSIONS:
        raise Rejected(
            "unknown compression", f"{compression!r:.60}; expected one of {', '.join(COMPRESSIONS)}"
        )
    shape = tuple(shape)
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) <= 0 or size > MOST_BYTES:
        raise Rejected(_REASON, f"an array of shape {_short(shape)} is empty or above {MOST_BYTES} bytes")
    data = data.cast("B")
    block = size
    if compression == "none":
        if len(data) != size:
            raise Rejected(_REASON, f"it has {len(data)} bytes; {_needs(size, dtype, shape)}")
    elif not compression.startswith("gzip"):
        if len(data) < _HEAD.size:
            raise Rejected(_REASON, f"{compression}: {len(data)} bytes, less than its head has")
        claimed, block = _HEAD.unpack_from(data)
        if claimed != size:
            raise Rejected(_REASON, f"its head says {claimed} bytes; {_needs(size, dtype, shape)}")
        if compression == "lz4":
            block = _check_lz4(data, size, block)
        else:
            _check_bitshuffle(data, compression, size, block, dtype.itemsize)
    return Chunk(data=data, compression=compression, dtype=dtype, shape=shape, size=size, block=block)


def _short(shape: Sequence[int]) -> str:
    return f"{tuple(shape)}"[:60]


def _needs(size: int, dtype: np.dtype[Any], shape: Sequence[int]) -> str:
    return f"{_short(shape)} of {dtype.str} needs {size}"


def _check_lz4(data: memoryview, size: int, block: int) -> int:
    """See whether the blocks of HDF5's LZ4 filter fill the message; gives the size of a block.

    After the head (size u64, block u32, both big-endian): for each block its length, u32, and so many bytes,
    which are not compressed if they are as many as the block makes.
    """
    block = min(block, size)
    if block == 0:
        raise Rejected(_REASON, "lz4: blocks of no bytes")
    offset, left = _HEAD.size, size
    while left > 0:
        makes = min(block, left)
        length = _length(data, offset)
        if not 0 < length <= makes <= LZ4_RATIO * length:
            raise Rejected(_REASON, f"lz4: a block of {makes} bytes cannot be {length} bytes long")
        offset += _LENGTH.size + length
        left -= makes
    _check_end(data, offset, "lz4")
    return block


def _check_bitshuffle(data: memoryview, compression: str, size: int, block: int, itemsize: int) -> None:
    """See whether the blocks of HDF5's bitshuffle filter fill the message.

    After the head (size u64, block u32, both big-endian): for each block its length, u32, and so many bytes;
    the last block is as many times eight elements as are left; fewer than eight stand behind, as they are.
    """
    if block == 0 or block % (8 * itemsize):
        raise Rejected(
            _REASON, f"{compression}: blocks of {block} bytes; expected a multiple of 8 × {itemsize}"
        )
    tail = size % (8 * itemsize)
    whole, last = divmod(size - tail, block)
    least = max(1, block // LZ4_RATIO) if compression == "bslz4" else 1
    n_block, offset = end_of_blocks(as_bytes(data), _HEAD.size, whole, least)
    if n_block < whole:
        length = _length(data, offset)
        raise Rejected(_REASON, f"{compression}: a block of {block} bytes cannot be {length} bytes long")
    if last:
        offset += _LENGTH.size + _length(data, offset)
    _check_end(data, offset + tail, compression)


def _length(data: memoryview, offset: int) -> int:
    """Length of a block, by the word in front of it."""
    if offset + _LENGTH.size > len(data):
        raise Rejected(_REASON, f"truncated; it has {len(data)} bytes")
    length = int(_LENGTH.unpack_from(data, offset)[0])
    if length == 0:
        raise Rejected(_REASON, "a block is 0 bytes long")
    return length


def _check_end(data: memoryview, end: int, compression: str) -> None:
    if end != len(data):
        raise Rejected(_REASON, f"{compression}: its blocks end at byte {end}, but it has {len(data)} bytes")


def decompressed(chunk: Chunk) -> NDArray[Any]:
    """The array of a chunk, as `unpack` gives it.

    Raises
    ------
    Rejected
        If the bytes between the heads are damaged.
    """
    if chunk.compression == "none":
        return np.frombuffer(chunk.data, chunk.dtype).reshape(chunk.shape)
    if chunk.compression.startswith("gzip"):
        raw = _inflated(chunk)
    else:
        try:
            raw = decompress(chunk.data, chunk.compression, elem_size=chunk.dtype.itemsize)
        except (RuntimeError, ValueError, MemoryError, SystemError) as error:
            raise Rejected(_REASON, f"{chunk.compression}: {type(error).__name__}: {error}") from error
    if len(raw) != chunk.size:
        raise Rejected(_REASON, f"{chunk.compression}: {len(raw)} bytes came out; {chunk.size} are needed")
    if chunk.compression == "gzip+shuffle" and chunk.dtype.itemsize > 1:
        planes = np.frombuffer(raw, np.uint8).reshape(chunk.dtype.itemsize, -1)
        return np.ascontiguousarray(planes.T).view(chunk.dtype).reshape(chunk.shape)
    return np.asarray(_Fresh(raw, chunk.dtype)).reshape(chunk.shape)


def _inflated(chunk: Chunk) -> bytes:
    """The bytes of a zlib stream, at most one more than are needed."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(chunk.data, chunk.size + 1)
    except (zlib.error, MemoryError) as error:
        raise Rejected(_REASON, f"gzip: {error}") from error
    if not inflater.eof and len(raw) <= chunk.size:
        raise Rejected(_REASON, f"gzip: truncated; {len(raw)} bytes came out, {chunk.size} are needed")
    if inflater.unused_data:
        raise Rejected(_REASON, f"gzip: {len(inflater.unused_data)} bytes behind its end")
    return raw


class _Fresh:
    """Bytes that a decompressor has just made, for NumPy as memory that may be written to.

    Nobody else has them, so nobody can see them change, and a copy of the frame is spared.  Single bytes are
    the exception: Python keeps one object for each.
    """

    def __init__(self, data: bytes, dtype: np.dtype[Any]) -> None:
        self.data = np.frombuffer(data, np.uint8)
        if len(data) == 1:
            self.data = self.data.copy()
        start = self.data.__array_interface__["data"][0]
        self.__array_interface__ = {
            "version": 3,
            "shape": (len(data) // dtype.itemsize,),
            "typestr": dtype.str,
            "data": (start, False),
        }
