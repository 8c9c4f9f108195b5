# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of formats whose messages have one image without a name: all panels lie in it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.chunks import Chunk, decompressed
from gpuidx.formats.frame import slab, without_bad
from gpuidx.formats.lookup import ReadValue
from gpuidx.formats.packed import left_packed
from gpuidx.formats.planes import plane, plane_shape
from gpuidx.formats.setting import Setting
from gpuidx.model import NO_LIMITS, Frame, Message
from gpuidx.options import PEAKS_SENT

NAME = "the image"
"""What it is called in texts."""


class OneImage:
    """Makes frames of header values and an image.

    Parameters
    ----------
    setting
        Of the run; the names of its geometry's data arrays mean nothing here.
    """

    def __init__(self, setting: Setting) -> None:
        self.geometry, self.headers = setting.geometry, setting.headers
        self.masks, self.buffers = setting.masks, setting.buffers
        self.with_image = setting.options.image_data
        self.missing = setting.options.peaks if setting.options.peaks in PEAKS_SENT else ""

    def checked(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of an image that has all panels, seen before room is made for its pixels.

        A first dimension of 1 is left out where the geometry has no such dimension.

        Raises
        ------
        Rejected
            If it is too small, much too large, or has other dimensions than the geometry.
        """
        least = min(len(place.dims) for place in self.geometry.arrays)
        while len(shape) > least and shape[0] == 1:
            shape = shape[1:]
        for place in self.geometry.arrays:
            plane_shape(shape, place, NAME)
        return tuple(shape)

    def frame(
        self,
        message: Message,
        value_of: ReadValue,
        image_of: Callable[[], NDArray[Any] | Chunk],
        without_bad: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        source_id: str = "",
        masked: NDArray[np.bool_] | None = None,
        limits: tuple[float, float] | None = NO_LIMITS,
    ) -> Frame:
        """The frame of a message.

        Parameters
        ----------
        message
            What came.
        value_of
            Gives header values.
        image_of
            Gives the pixels, called if they are needed, after the header values were found good; a chunk
            may be left as it is.
        without_bad
            Takes bad pixels out of the slab, those of the geometry's flags too; None: only these are known.
        source_id
            Of the frame.
        masked : (ss, fs)
            Pixels that are bad in the whole series.
        limits
            Of the values of pixels, see `Packed`: what *without_bad* takes out besides.  None if a device
            cannot be told what that is.

        Raises
        ------
        Rejected
            If header values or image are not what the geometry needs, or a peak list is wanted.
        """
        if self.missing:
            raise Rejected(
                "no peak list", f"this format has none for --peaks={self.missing}; give --peaks=peakfinder8"
            )
        values = self.headers.read(value_of)
        image = image_of() if self.with_image else None
        packed = None
        if self.buffers.packs:
            packed = left_packed(image, self.geometry.arrays, self.geometry.slab_shape, masked, limits)
        if isinstance(image, Chunk):
            image = decompressed(image) if packed is None else None
        return Frame(
            serial=message.serial,
            filename=message.filename,
            event=message.event,
            stream=message.stream,
            image=None if image is None else self._slab(image, without_bad or self._without_flagged),
            packed=packed,
            wavelength=values.wavelength,
            photon_energy=values.photon_energy,
            detector=values.detector,
            headers=values.headers,
            source_id=source_id,
        )

    def _slab(self, image: NDArray[Any], without_bad: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        arrays = [(place, plane(image, place, NAME)) for place in self.geometry.arrays]
        return without_bad(slab(arrays, self.geometry.slab_shape, self.buffers))

    def _without_flagged(self, whole: NDArray[Any]) -> NDArray[Any]:
        bad = self.masks.flagged(whole) if self.masks is not None else None
        return without_bad(whole, bad, self.buffers)
