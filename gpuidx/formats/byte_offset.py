# SPDX-License-Identifier: GPL-3.0-or-later
"""The byte-offset compression of CBF files: differences between pixels, in as few bytes as they need.

A difference is one byte; if that is -128, two bytes follow; if these are -32768, four; if these are
-2147483648, eight; all little-endian (International Tables for Crystallography G, 2.3.3.3).

NumPy takes 4 to 5 ns a pixel, up to 60 where most differences are long; a loop compiled by Numba would take
1 to 6, but a compiler is not needed here, and of a ``.cbf.gz`` deflate alone takes more.  fabio's decoder is
as fast as that loop, but reads beyond the end of truncated data.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected

PIECE = 1 << 18
"""Bytes taken at a time: room for what goes with them is needed as often."""

LONGEST = 15
"""Bytes of a difference."""

_ESCAPE, _ESCAPE_2, _ESCAPE_4 = -128, -(1 << 15), -(1 << 31)
_LENGTHS = (3, 7, LONGEST)


def unpack_byte_offset(data: memoryview, count: int) -> NDArray[np.int32]:
    """The pixels, modulo 2^32.

    Parameters
    ----------
    data
        All of it.
    count
        Pixels that are expected, at least 1.

    Raises
    ------
    Rejected
        If it has more or fewer.
    """
    if len(data) < count:
        raise Rejected("damaged image", f"{len(data)} bytes are too few for {count} pixels")
    raw = np.frombuffer(data, np.int8)
    pixels = np.empty(count, np.int32)
    begin = done = 0
    while begin < len(raw):
        differences, begin = _piece(raw, begin)
        part = pixels[done : done + len(differences)]
        if len(part) < len(differences):
            raise Rejected("damaged image", f"its {len(raw)} bytes have more than {count} pixels")
        part[:] = differences
        if done:
            part[:1] += pixels[done - 1 : done]  # as arrays, which may overflow
        np.cumsum(part, out=part)
        done += len(part)
    if done < count:
        raise Rejected("damaged image", f"its {len(raw)} bytes have {done} pixels; {count} are expected")
    return pixels


def _piece(raw: NDArray[np.int8], begin: int) -> tuple[NDArray[np.int8] | NDArray[np.int32], int]:
    """Differences from a place on, and where the next ones begin.

    Raises
    ------
    Rejected
        If the data end within one.
    """
    piece = raw[begin : begin + PIECE]
    marks = np.flatnonzero(piece == _ESCAPE)
    if not len(marks):
        return piece, begin + len(piece)
    # Marks at the end of the piece reach beyond it; beyond the end of the data stand zeros.
    reach = np.zeros(len(piece) + LONGEST, np.uint8)
    beyond = raw[begin : begin + len(reach)].view(np.uint8)
    reach[: len(beyond)] = beyond
    value, length = _escaped(reach, marks)
    if len(marks) > 1:
        own = _own(marks, marks + length)
        marks, value, length = marks[own], value[own], length[own]
    end = int(marks[-1] + length[-1])
    if end > len(beyond):
        raise Rejected("damaged image", f"its {len(raw)} bytes end within a pixel")
    differences = piece.astype(np.int32)
    differences[marks] = value
    kept = np.ones(len(reach), np.bool_)
    least = 1
    for most in _LENGTHS:
        longer = marks[length >= most]
        for offset in range(least, most) if len(longer) else ():
            kept[longer + offset] = False
        least = most
    return differences[kept[: len(piece)]], begin + max(end, len(piece))


def _escaped(reach: NDArray[np.uint8], marks: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Difference at each mark, modulo 2^32, and the bytes it takes."""
    value = _integers(reach, marks + 1, "<i2").astype(np.int32)
    length = np.full(len(marks), _LENGTHS[0])
    wide = np.flatnonzero(value == _ESCAPE_2)
    if len(wide):
        value[wide] = _integers(reach, marks[wide] + 3, "<i4")
        length[wide] = _LENGTHS[1]
        wide = wide[value[wide] == _ESCAPE_4]
        value[wide] = _integers(reach, marks[wide] + 7, "<i4")
        length[wide] = _LENGTHS[2]
    return value, length


def _integers(reach: NDArray[np.uint8], places: NDArray[np.intp], dtype: str) -> NDArray[np.int32]:
    """Integers at any places."""
    size = np.dtype(dtype).itemsize
    columns = np.empty((len(places), size), np.uint8)
    for i in range(size):
        columns[:, i] = reach[places + i]
    found: NDArray[np.int32] = columns.view(dtype)[:, 0]
    return found


def _own(marks: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which marks are not inside the difference of another.

    One behind the ends of all before it stands for itself; the others are gone through in order.
    """
    own = np.ones(len(marks), np.bool_)
    own[1:] = marks[1:] >= np.maximum.accumulate(ends)[:-1]
    doubtful = np.flatnonzero(~own)
    if not len(doubtful):
        return own
    begins, stops = marks.tolist(), ends.tolist()
    last = before = -1
    for i in doubtful.tolist():
        if i - 1 != before:
            last = i - 1
        before = i
        if begins[i] >= stops[last]:
            own[i] = True
            last = i
    return own
