# SPDX-License-Identifier: GPL-3.0-or-later
"""MsgPack messages to frames: what `indexamajig --data-format=msgpack` reads, and what OM sends.

A message is a map, or an array of maps of which the first is used.  Header values, images and the peak list
are found by the names in the geometry.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.formats.frame import check_shape, slab, without_bad
from gpuidx.formats.msgpack import Fields, array_of, first_element, kind_of, scalar
from gpuidx.formats.peaks import PeakReader
from gpuidx.formats.setting import Setting
from gpuidx.model import Frame, Message


class MsgPackDecoder:
    """Decodes the messages of one run.

    Parameters
    ----------
    setting
        Of the run.
    """

    def __init__(self, setting: Setting) -> None:
        options = setting.options
        self.geometry, self.headers, self.masks = setting.geometry, setting.headers, setting.masks
        self.buffers, self.notes = setting.buffers, setting.notes
        self.with_image = options.image_data
        self.peaks: PeakReader | None = None
        if options.peaks == "msgpack":
            self.peaks = PeakReader(setting.geometry, options.half_pixel_shift, setting.notes)

    def decode(self, message: Message) -> Frame:
        """The frame of a message; its image lies in the message where that is possible.

        Raises
        ------
        Rejected
            If anything that is needed is missing, malformed or absurd.
        """
        data = message.data
        packed = first_element(data, self.notes) if kind_of(data) == "an array" else data
        fields = Fields(packed, "the message", self.notes)
        values = self.headers.read(lambda name: scalar(fields.get(name), name, self.notes))
        return Frame(
            serial=message.serial,
            filename=message.filename,
            event=message.event,
            stream=message.stream,
            image=self._image(fields, data) if self.with_image else None,
            wavelength=values.wavelength,
            photon_energy=values.photon_energy,
            detector=values.detector,
            headers=values.headers,
            peaks=self.peaks.read(fields) if self.peaks else None,
        )

    def _image(self, fields: Fields, data: memoryview) -> NDArray[Any]:
        arrays = []
        for place in self.geometry.arrays:
            array = array_of(fields.get(place.data), place.data, self.notes)
            check_shape(place.data, array.shape, place.shape)
            arrays.append((place, _writable(array, data)))
        image = slab(arrays, self.geometry.slab_shape, self.buffers)
        bad = self.masks.flagged(image) if self.masks is not None else None
        return without_bad(image, bad, self.buffers)


def _writable(array: NDArray[Any], data: memoryview) -> NDArray[Any]:
    """The same view into a message, writable if the message is: `msgspec` gives read-only memory."""
    start = array.__array_interface__["data"][0]
    offset = start - np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    return np.frombuffer(data, array.dtype, array.size, offset).reshape(array.shape)
