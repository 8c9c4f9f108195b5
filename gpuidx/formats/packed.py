# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed pixels that stay so on their way to a device, and those of a frame whose pixels a worker needs.

A chunk stays compressed if a device can decode it and nobody has to look at its pixels before: bitshuffle
with LZ4, all panels in one array that is the slab, integers.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import PACKED_BLOCK, PACKED_PIXEL
from gpuidx.formats.chunks import HEAD_BYTES, Chunk, decompressed
from gpuidx.formats.loops import as_bytes, starts_of_blocks
from gpuidx.formats.no_data import NoData
from gpuidx.geometry import DataArray
from gpuidx.model import BYTE_TYPES, NO_LIMITS, PIXEL_TYPES, Frame, Packed, block_count

TYPES = tuple(f"<{name}" for name in PIXEL_TYPES if name != "f4") + tuple(f"|{name}" for name in BYTE_TYPES)
"""dtypes of pixels that devices decode."""


def left_packed(
    chunk: object,
    arrays: Sequence[DataArray],
    shape: tuple[int, int],
    masked: NDArray[np.bool_] | None = None,
    limits: tuple[float, float] | None = NO_LIMITS,
) -> Packed | None:
    """The pixels of a chunk, left to a device; None if one could not decode them.

    Parameters
    ----------
    chunk
        A checked `Chunk`, or pixels in another form.
    arrays
        Where the geometry's panels lie.
    shape : (ss, fs)
        Of the slab.
    masked : (ss, fs)
        Pixels that are bad in the whole series.
    limits
        Of the values of pixels, see `Packed`; None if those without a value cannot be told so.
    """
    if limits is None or not isinstance(chunk, Chunk):
        return None
    if chunk.compression != "bslz4" or chunk.dtype.str not in TYPES:
        return None
    n_pixel, itemsize = shape[0] * shape[1], chunk.dtype.itemsize
    is_slab = len(arrays) == 1 and arrays[0].shape == shape and chunk.shape[-2:] == shape
    if not is_slab or chunk.size != n_pixel * itemsize or chunk.block > PACKED_BLOCK:
        return None
    block = chunk.block // itemsize
    n_block = block_count(n_pixel, block)
    if len(chunk.data) + 4 * (n_block + 1) > PACKED_PIXEL * n_pixel:
        return None
    data = as_bytes(chunk.data)
    starts = np.empty(n_block + 1, np.int32)
    starts_of_blocks(data, HEAD_BYTES, starts)
    return Packed(data=data, starts=starts, dtype=chunk.dtype, block=block, masked=masked, limits=limits)


def with_pixels(frame: Frame, shape: tuple[int, int], no_data: NoData) -> Frame:
    """The frame with its pixels decoded if they are not yet, without those that are bad in its whole series.

    Raises
    ------
    Rejected
        If they are damaged.
    """
    packed = frame.packed
    if packed is None:
        return frame
    dtype: np.dtype[Any] = packed.dtype
    chunk = Chunk(
        data=packed.data.data, compression="bslz4", dtype=dtype, shape=shape,
        size=shape[0] * shape[1] * dtype.itemsize, block=packed.block * dtype.itemsize,
    )  # fmt: skip
    image, bad, (low, high) = decompressed(chunk), packed.masked, packed.limits
    if low > -math.inf:
        bad = _united(bad, image < math.ceil(low))
    if high < math.inf:
        bad = _united(bad, image > math.floor(high))
    return replace(frame, image=no_data.taken_out(image, None, bad), packed=None)


def _united(some: NDArray[np.bool_] | None, others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return others if some is None else some | others
