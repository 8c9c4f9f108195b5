# SPDX-License-Identifier: GPL-3.0-or-later
"""Loops over the bytes of images that go from one element to the next, compiled.

They are given bytes as a read-only array and never look beyond its end; what is wrong is said by callers.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.jit import jit

ESCAPE_1, ESCAPE_2, ESCAPE_4 = -128, -(1 << 15), -(1 << 31)
"""Differences of one, two and four bytes that say that a longer one follows."""

LENGTH_BYTES = 4


def as_bytes(data: memoryview) -> NDArray[np.uint8]:
    """Bytes as these loops take them: read-only, so that they are compiled once."""
    found: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
    found.flags.writeable = False
    return found


@jit
def end_of_blocks(data: NDArray[np.uint8], offset: int, count: int, least: int) -> tuple[int, int]:
    """Go over blocks, each behind its length, four big-endian bytes.

    Parameters
    ----------
    data : (n,)
    offset
        Where the first one begins.
    count
        Of blocks.
    least
        Length of a block.

    Returns
    -------
    n_block
        Those gone over: less than *count* if the next one's length is missing or below *least*.
    end
        Where they end, perhaps beyond the data.
    """
    end = len(data)
    for n_block in range(count):
        if offset + LENGTH_BYTES > end:
            return n_block, offset
        length = 0
        for i in range(LENGTH_BYTES):
            length = length << 8 | int(data[offset + i])
        if length < least:
            return n_block, offset
        offset += LENGTH_BYTES + length
    return count, offset


@jit
def starts_of_blocks(data: NDArray[np.uint8], offset: int, starts: NDArray[np.int32]) -> None:
    """Write where blocks stand that were gone over by `end_of_blocks`.

    Parameters
    ----------
    data : (n,)
    offset
        Where the length of the first one stands.
    starts : (block + 1,)
        Filled with where each one's length stands, and where the last one ends.
    """
    for i_block in range(len(starts)):
        starts[i_block] = offset
        if offset + LENGTH_BYTES <= len(data):
            length = 0
            for i in range(LENGTH_BYTES):
                length = length << 8 | int(data[offset + i])
            offset += LENGTH_BYTES + length


@jit
def two_bytes(data: NDArray[np.uint8], at: int) -> int:
    """A signed little-endian integer."""
    bits = int(data[at]) | int(data[at + 1]) << 8
    return bits - ((bits & 0x8000) << 1)


@jit
def four_bytes(data: NDArray[np.uint8], at: int) -> int:
    """A signed little-endian integer."""
    low = int(data[at]) | int(data[at + 1]) << 8
    bits = low | int(data[at + 2]) << 16 | int(data[at + 3]) << 24
    return bits - ((bits & 0x80000000) << 1)


@jit
def sum_differences(data: NDArray[np.uint8], pixels: NDArray[np.int32]) -> tuple[int, int]:
    """Pixels from differences of 1, 3, 7 or 15 bytes, as `byte_offset` says; modulo 2^32.

    Parameters
    ----------
    data : (n,)
    pixels : (n,)
        Filled.

    Returns
    -------
    n_pixel
        Those filled: less than there are if the data end.
    n_byte
        Of the data that they took.
    """
    offset, end, value = 0, len(data), 0
    for n_pixel in range(len(pixels)):
        begin, size = offset, 1
        if begin + size > end:
            return n_pixel, offset
        difference = int(np.int8(data[begin]))
        if difference == ESCAPE_1:
            begin, size = begin + size, 2
            if begin + size > end:
                return n_pixel, offset
            difference = two_bytes(data, begin)
            if difference == ESCAPE_2:
                begin, size = begin + size, 4
                if begin + size > end:
                    return n_pixel, offset
                difference = four_bytes(data, begin)
                if difference == ESCAPE_4:
                    begin, size = begin + size, 8
                    if begin + size > end:
                        return n_pixel, offset
                    difference = four_bytes(data, begin)  # of eight: the others count multiples of 2^32
        value += difference
        pixels[n_pixel] = np.int32(value)
        offset = begin + size
    return len(pixels), offset
