# SPDX-License-Identifier: GPL-3.0-or-later
"""One frame of an open HDF5 file: pixels and header values by the paths in the geometry, and the peak list.

Where the file comes from is the business of `hdf5` and `hdf5_messages`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.frame import PIXEL_OF, check_shape, slab, without_bad
from gpuidx.formats.hdf5_masks import FrameMasks, FrameSaturation
from gpuidx.formats.hdf5_opened import Opened, fill_path, wants
from gpuidx.formats.hdf5_peaks import METHODS, Hdf5Peaks
from gpuidx.formats.hdf5_stored import Chosen, Located, Stored
from gpuidx.formats.lookup import FrameValues, check_value
from gpuidx.formats.packed import left_packed
from gpuidx.formats.setting import Setting
from gpuidx.geometry import DataArray
from gpuidx.model import Frame, HeaderValue, Message, Packed, PeakList

LONGEST_VALUE = 1 << 16
"""Bytes of one header value."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says of a frame.

    Attributes
    ----------
    values
        Of the headers.
    pixels
        Where the arrays lie, not decompressed, or the slab; None without image.
    masked : (ss, fs)
        Bad pixels by masks in the file.
    saturation : (ss, fs)
        Saturation of each pixel by maps in the file, ADU.
    peaks
        Sent along.
    """

    values: FrameValues
    pixels: list[tuple[DataArray, Located]] | NDArray[Any] | None
    masked: NDArray[np.bool_] | None
    saturation: NDArray[np.float32] | None
    peaks: PeakList | None


class FrameReader:
    """Reads frames of open files.

    Parameters
    ----------
    setting
        Of the run.

    Attributes
    ----------
    peaks
        Reads peak lists; None if none are wanted.
    """

    def __init__(self, setting: Setting) -> None:
        geometry, masks = setting.geometry, setting.masks
        self.geometry, self.headers, self.masks = geometry, setting.headers, masks
        self.buffers, self.with_image = setting.buffers, setting.options.image_data
        self.stored = Stored()
        self.peaks: Hdf5Peaks | None = None
        if setting.options.peaks in METHODS:
            self.peaks = Hdf5Peaks(setting, self.stored)
        self._frame_masks = self._saturation = None
        if masks is not None and masks.has_masks_in_frames:
            self._frame_masks = FrameMasks(masks, self.stored, geometry)
        if masks is not None and masks.has_saturation_in_frames:
            self._saturation = FrameSaturation(masks, self.stored, geometry)

    def find(self, opened: Opened) -> Found:
        """All that an open file says of a frame; it may be closed then.

        Raises
        ------
        Rejected
            If anything in it does not fit the geometry.
        Exception
            Whatever HDF5 makes of a damaged file.
        """
        self.stored.place = opened.place
        values = self.headers.read(lambda name: self._value(opened, name))
        peaks = self.peaks.read(opened) if self.peaks is not None else None
        pixels = self._pixels(opened) if self.with_image else None
        masked = self._frame_masks.bad(opened) if self._frame_masks is not None and self.with_image else None
        limits = self._saturation.limits(opened) if self._saturation is not None and self.with_image else None
        return Found(values, pixels, masked, limits, peaks)

    def frame(self, message: Message, found: Found) -> Frame:
        """The frame of a message; its image lies there if it can.

        Raises
        ------
        Rejected
            If its pixels are damaged.
        """
        values, image = found.values, found.pixels
        packed = self._left_packed(found)
        if packed is not None:
            image = None
        elif isinstance(image, list):
            arrays = [(array, self.stored.array(located)) for array, located in image]
            image = slab(arrays, self.geometry.slab_shape, self.buffers)
        if image is not None:
            bad = self.masks.flagged(image) if self.masks is not None else None
            if found.masked is not None:
                bad = found.masked if bad is None else bad | found.masked
            image = without_bad(image, bad, self.buffers)
        return Frame(
            serial=message.serial,
            filename=message.filename,
            event=message.event,
            stream=message.stream,
            image=image,
            packed=packed,
            wavelength=values.wavelength,
            photon_energy=values.photon_energy,
            detector=values.detector,
            headers=values.headers,
            peaks=found.peaks,
            saturation=found.saturation,
        )

    def _left_packed(self, found: Found) -> Packed | None:
        """The pixels as they are stored, if they are a chunk of this frame alone that a device can decode."""
        if not self.buffers.packs or not isinstance(found.pixels, list) or found.masked is not None:
            return None
        sources = [located.source for _, located in found.pixels if located.key is None]
        if len(sources) != 1:
            return None
        return left_packed(sources[0], self.geometry.arrays, self.geometry.slab_shape)

    def _value(self, opened: Opened, name: str) -> HeaderValue:
        """A header value: the only one there, or that of the frame."""
        found, index = opened.dataset(name), opened.index
        path, shape, dtype = fill_path(name, opened.parts), found.shape, found.dtype
        if dtype.itemsize > LONGEST_VALUE:
            raise Rejected("bad header value", f"'{path}' has values of {dtype.itemsize} bytes")
        if found.size == 1:
            index = (0,) * found.ndim
        elif not index or shape is None or shape[len(index) :] != (1,) * (found.ndim - len(index)):
            raise Rejected("bad header value", f"'{path}' has shape {shape}; expected one value per frame")
        elif any(i >= extent for i, extent in zip(index, shape, strict=False)):
            raise Rejected("bad header value", f"'{path}' has shape {shape}, the frame is {index}")
        index += (0,) * (found.ndim - len(index))
        value: object
        if dtype.kind in "uifS":
            value = self.stored.read(found, index)
        elif h5py.check_string_dtype(dtype) is not None:
            value = self.stored.text(found, index)
        else:
            raise Rejected("bad header value", f"'{path}' has type {dtype}; expected numbers or text")
        if isinstance(value, np.ndarray | np.generic):
            value = value.item()
        if isinstance(value, bytes):
            value = value.decode(errors="replace").rstrip("\0")
        return check_value(path, value)

    def _pixels(self, opened: Opened) -> list[tuple[DataArray, Located]] | NDArray[Any]:
        """Where all arrays lie; the image, if they have to be put together."""
        parts: list[tuple[DataArray, Any, Chosen, Located | None]] = []
        for array in self.geometry.arrays:
            data = opened.dataset(array.data)
            chosen = select(array, opened.dims(array.dims), data, opened.index)
            parts.append((array, data, chosen, self.stored.locate(data, chosen)))
        whole = [(array, located) for array, _, _, located in parts if located is not None]
        if len(whole) == len(parts):
            return whole
        names, types = {data.dtype.str[1:] for _, data, _, _ in parts}, self.buffers.types
        kinds = {name if name in types else PIXEL_OF[name] for name in names}
        image = self.buffers.get(self.geometry.slab_shape, kinds.pop() if len(kinds) == 1 else "f4")
        for array, data, chosen, located in parts:
            target = image[array.row : array.row + array.shape[0], : array.shape[1]]
            if located is None:
                self.stored.into(data, chosen, target)
            else:
                with np.errstate(over="ignore", invalid="ignore"):
                    np.copyto(target, self.stored.array(located), casting="unsafe")
        return image


def select(array: DataArray, dims: Sequence[str | int], data: Any, index: Sequence[int]) -> Chosen:
    """The part of a data set that is a frame's.

    Raises
    ------
    Rejected
        If it holds no pixels, or not all that the geometry needs.
    """
    path, shape, dtype = array.data, data.shape, data.dtype
    if dtype.str[1:] not in PIXEL_OF or dtype.kind not in "uif":
        raise Rejected("unknown pixel type", f"'{path}' has type {dtype}; expected integers or floats")
    if shape is None or len(shape) != len(dims):
        raise Rejected("wrong shape", f"'{path}' has shape {shape}; {wants(dims)}")
    check_shape(path, [shape[dims.index(d)] for d in ("ss", "fs")], array.shape)
    frame = iter(index)
    chosen: list[int | slice] = []
    for dim, extent in zip(dims, shape, strict=True):
        if dim in ("ss", "fs"):
            chosen.append(slice(0, array.shape[dim == "fs"]))
            continue
        at = next(frame) if dim == "%" else int(dim)
        if at >= extent:
            raise Rejected("wrong shape", f"'{path}' has shape {shape}; there is no index {at}")
        chosen.append(at)
    return tuple(chosen)
