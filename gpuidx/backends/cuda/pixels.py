# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels of a batch on their way to the peak search: sent as they are, or compressed and decoded there.

See ``kernels/bslz4.cu`` for how they are decoded.  Nothing here waits for the device.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import PACKED_BLOCK
from gpuidx.backends.cuda.batch import Part
from gpuidx.backends.cuda.buffers import ImageBuffer, packed_stride
from gpuidx.backends.cuda.kernels import Kernels
from gpuidx.backends.cuda.peakfinder8 import DeviceTables
from gpuidx.backends.values import check_image
from gpuidx.model import BYTE_TYPES, NO_LIMITS, PIXEL_TYPES, Frame, Packed, block_count

FILE = "bslz4.cu"

TYPES = (*PIXEL_TYPES, *BYTE_TYPES)
"""dtypes of images that devices take."""


def defines() -> dict[str, str | int]:
    """What the source of the kernel expects to be defined, besides the type of the pixels."""
    return {"BLOCK_BYTES": PACKED_BLOCK}


def pixel_type(frame: Frame, shape: tuple[int, int]) -> np.dtype[Any] | None:
    """Dtype of a frame's pixels; None if it has none.

    Raises
    ------
    TypeError
        If a device cannot take them as they are.
    """
    if frame.packed is not None:
        check_packed(frame.packed, shape[0] * shape[1])
        return frame.packed.dtype
    if frame.image is None:
        return None
    check_image(frame.image, shape, TYPES)
    return frame.image.dtype


def check_packed(packed: Packed, n_pixel: int) -> None:
    """Refuse compressed pixels for which a device has no room; raises as `pixel_type`."""
    dtype, block, size = packed.dtype, packed.block, packed.data.nbytes + packed.starts.nbytes
    if dtype.str[1:] not in TYPES or dtype.kind not in "ui" or not dtype.isnative:
        raise TypeError(f"compressed pixels are {dtype}; expected integers, one of {TYPES}")
    if not 0 < block <= PACKED_BLOCK // dtype.itemsize or block % 8 or size > packed_stride(n_pixel):
        raise TypeError(f"compressed pixels have {size} bytes, in blocks of {block} pixels")
    if packed.starts.dtype != np.int32 or len(packed.starts) != block_count(n_pixel, block) + 1:
        raise TypeError(f"compressed pixels have {len(packed.starts)} places of blocks")


class PixelUpload:
    """Sends pixels, and has them decoded; compiles a kernel for each width of pixels when it is needed."""

    def __init__(self) -> None:
        self._kernels: dict[int, Kernels] = {}

    def kernels_for(self, dtype: Any) -> Kernels:
        """The kernel for pixels as wide as those of a type."""
        width = np.dtype(dtype).itemsize
        if width not in self._kernels:
            self._kernels[width] = Kernels(FILE, f"u{width}", defines())
        return self._kernels[width]

    def send(
        self, room: ImageBuffer, frames: Sequence[Frame], first: int, n_packed: int, tables: DeviceTables,
        stream: Any,
    ) -> Part:  # fmt: skip
        """Begin to copy the pixels of frames that are searched together; of one type.

        Parameters
        ----------
        room
            On the device.
        frames
            With pixels, whose `pixel_type` was seen; of the same `limits_of`.
        first
            Row of the first one in the batch.
        n_packed
            Frames of the batch with compressed pixels before these.
        tables
            For the search.
        stream
            That copies.
        """
        dtype = pixels_of(frames[0]).dtype
        images = room.images(first, first + len(frames), dtype)
        end_packed, most = n_packed, 0
        for row, frame in enumerate(frames):
            packed, arrays = frame.packed, arrays_of(frame)
            place = (images[row] if packed is None else room.packed[end_packed]).data.ptr
            for array in arrays:
                _copy(place, array, stream)
                place += array.nbytes
            if packed is None:
                continue
            room.host_about[end_packed] = end_packed, row, packed.data.nbytes, packed.block
            most = max(most, len(packed.starts))
            end_packed += 1
        limits = limits_of(frames[0])
        return Part(first, first + len(frames), images, tables, limits, n_packed, end_packed, most)

    def decode(self, room: ImageBuffer, part: Part, damaged: Any, stream: Any) -> None:
        """Have the compressed pixels of a part decoded, and the frames marked in which some are damaged.

        Parameters
        ----------
        room
            That they were sent to.
        part
            From `send`.
        damaged : (frame,) int32
            On the device, of the frames of the part.
        stream
            That the kernel runs on.
        """
        damaged.data.memset_async(0, damaged.nbytes, stream)
        n_packed = part.end_packed - part.first_packed
        if not n_packed:
            return
        kernels, dtype = self.kernels_for(part.images.dtype), np.dtype(f"u{part.images.dtype.itemsize}")
        kernels.launch(
            "decode_bslz4", (part.n_start, n_packed), stream,
            packed=room.packed, about=room.about[part.first_packed : part.end_packed],
            images=part.images.view(dtype), damaged=damaged,
            n_pixel=part.images.shape[1], stride=room.packed.shape[1],
        )  # fmt: skip


def pixels_of(frame: Frame) -> Any:
    """What has the dtype of a frame's pixels."""
    return frame.image if frame.packed is None else frame.packed


def arrays_of(frame: Frame) -> tuple[NDArray[Any], ...]:
    """What is copied of a frame's pixels, in this order."""
    if frame.packed is not None:
        return frame.packed.starts, frame.packed.data
    assert frame.image is not None
    return (frame.image,)


def limits_of(frame: Frame) -> tuple[float, float]:
    """Least and greatest value of a pixel that has one, as far as nobody has looked yet."""
    return NO_LIMITS if frame.packed is None else frame.packed.limits


def _copy(target: int, array: Any, stream: Any) -> None:
    from cupy.cuda import runtime

    runtime.memcpyAsync(target, array.ctypes.data, array.nbytes, runtime.memcpyHostToDevice, stream.ptr)
