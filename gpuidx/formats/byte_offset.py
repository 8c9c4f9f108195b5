# SPDX-License-Identifier: GPL-3.0-or-later
"""The byte-offset compression of CBF files: differences between pixels, in as few bytes as they need.

A difference is one byte; if that is -128, two bytes follow; if these are -32768, four; if these are
-2147483648, eight; all little-endian (International Tables for Crystallography G, 2.3.3.3).

The loop is our own: fabio's decoder is as fast, but reads beyond the end of truncated data.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.loops import as_bytes, sum_differences

LONGEST = 15
"""Bytes of a difference."""


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
    pixels = np.empty(count, np.int32)
    n_pixel, n_byte = sum_differences(as_bytes(data), pixels)
    if n_pixel < count:
        raise Rejected("damaged image", f"its {len(data)} bytes have {n_pixel} pixels; {count} are expected")
    if n_byte < len(data):
        raise Rejected("damaged image", f"its {len(data)} bytes have more than {count} pixels")
    return pixels
