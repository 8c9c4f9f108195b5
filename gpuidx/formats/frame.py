# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays as they were sent, made into the slab of a `Frame`; nothing here knows a format.

An array that already is what the kernels want (one of `PIXEL_TYPES`, native byte order, aligned, writable,
C-contiguous, of the right width) stays where it is; any other is copied once.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.geometry import DataArray
from gpuidx.model import BYTE_TYPES, PIXEL_TYPES, Frame

PIXEL_OF = {
    "u1": "u2", "i1": "i2", "u2": "u2", "i2": "i2", "u4": "u4", "i4": "i4",
    "u8": "f4", "i8": "f4", "f2": "f4", "f4": "f4", "f8": "f4",
}  # fmt: skip
"""dtype of the slab for each kind and size that may be sent."""

DTYPE_OF = {
    order + name: np.dtype(order + name)
    for name in PIXEL_OF
    for order in ("<", ">", "|")
    if (order == "|") <= name.endswith("1")
}
"""Every dtype string that is accepted from a message; nothing else from a sender becomes a dtype."""

assert set(PIXEL_OF.values()) == set(PIXEL_TYPES)


class Buffers:
    """Slabs to copy into, used again once nobody holds them: fresh memory costs more than the copy.

    A slab is free when this list has the only reference; views of it count as references.

    Parameters
    ----------
    arrays
        Those that fill the slab; where they are narrower than it nothing is ever written.

    Attributes
    ----------
    room
        Memory that the next slab shall lie in if it fits, aligned as it is; used once.
    types
        dtypes that a slab may have; all else is converted.
    packs
        Whether pixels may be left compressed where a device can decode them, see `gpuidx.formats.packed`.
    """

    def __init__(self, arrays: Sequence[DataArray] = ()) -> None:
        self.room: memoryview | None = None
        self.types: tuple[str, ...] = PIXEL_TYPES
        self.packs = False
        self._arrays = tuple(arrays)
        self._kept: dict[tuple[tuple[int, ...], str], list[NDArray[Any]]] = {}

    def get(self, shape: tuple[int, int], dtype: str) -> NDArray[Any]:
        """A slab with the values of its last use, zero where no array reaches."""
        if self.room is not None:
            room, self.room = self.room, None
            if shape[0] * shape[1] * np.dtype(dtype).itemsize <= len(room):
                return self._in(room, shape, dtype)
        kept = self._kept.setdefault((shape, dtype), [])
        for i in range(len(kept)):
            if sys.getrefcount(kept[i]) == 2:  # the list and the argument
                return kept[i]
        kept.append(np.zeros(shape, dtype))
        return kept[-1]

    def _in(self, room: memoryview, shape: tuple[int, int], dtype: str) -> NDArray[Any]:
        slab = np.frombuffer(room, dtype, shape[0] * shape[1]).reshape(shape)
        for array in self._arrays:
            height, width = array.shape
            slab[array.row : array.row + height, width:] = 0
        return slab


def check_shape(name: str, shape: Sequence[int], needed: tuple[int, int]) -> None:
    """See whether a two-dimensional array holds all pixels of its panels.

    Raises
    ------
    Rejected
        If it is too small or has another number of dimensions.
    """
    if len(shape) != 2:
        raise Rejected(
            "wrong shape", f"'{name}' has {len(shape)} dimensions, {tuple(shape)}; expected (slow, fast)"
        )
    if shape[0] < needed[0] or shape[1] < needed[1]:
        raise Rejected("wrong shape", f"'{name}' has shape {tuple(shape)}, the geometry needs {needed}")


def slab(
    arrays: Sequence[tuple[DataArray, NDArray[Any]]], shape: tuple[int, int], buffers: Buffers
) -> NDArray[Any]:
    """All panels in one array.

    Parameters
    ----------
    arrays : (ss, fs) each
        Checked by `check_shape`; may be larger than needed, unaligned, or of foreign byte order.
    shape : (ss, fs)
        Of the slab.
    buffers
        To copy into where that is necessary.

    Returns
    -------
    image : (ss, fs)
        As `Frame.image`; shares memory with the only array if that fits.
    """
    if len(arrays) == 1:
        place, array = arrays[0]
        image = array[: shape[0]]
        if place.row == 0 and image.shape == shape and _usable(image, buffers.types):
            return image
    names = {array.dtype.str[1:] for _, array in arrays}
    kinds = {name if name in buffers.types else PIXEL_OF[name] for name in names}
    image = buffers.get(shape, kinds.pop() if len(kinds) == 1 else "f4")
    with np.errstate(over="ignore", invalid="ignore"):  # too large for f4: infinite, so bad
        for place, array in arrays:
            height, width = place.shape
            np.copyto(image[place.row : place.row + height, :width], array[:height, :width], casting="unsafe")
    return image


def _usable(image: NDArray[Any], types: Sequence[str]) -> bool:
    flags = image.flags
    return (
        image.dtype.isnative
        and image.dtype.str[1:] in types
        and flags.c_contiguous
        and flags.aligned
        and flags.writeable
    )


def widened(frame: Frame) -> Frame:
    """The frame as the CPU wants it: single bytes become two."""
    image = frame.image
    if image is None or image.dtype.str[1:] not in BYTE_TYPES:
        return frame
    return replace(frame, image=image.astype(PIXEL_OF[image.dtype.str[1:]]))


def without_bad(image: NDArray[Any], bad: NDArray[np.bool_] | None, buffers: Buffers) -> NDArray[Any]:
    """The image with NaN where pixels are bad in this frame only; the image itself without any."""
    if bad is None:
        return image
    if image.dtype != np.float32:
        converted = buffers.get((image.shape[0], image.shape[1]), "f4")
        np.copyto(converted, image, casting="unsafe")
        image = converted
    image[bad] = np.nan
    return image
