# SPDX-License-Identifier: GPL-3.0-or-later
"""DECTRIS Stream V2: one CBOR map per message, ``start``, ``image`` or ``end``.

As in DECTRIS' public description (stream_v2 and tag 56500).  An image has an array for each channel
(threshold).  Header values are found by the names in the image message, then by those of the start message:
``incident_energy`` (eV), ``incident_wavelength`` (Å), ``detector_translation/2`` (m), …
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats import cbor
from gpuidx.formats.cbor import Entries, shown
from gpuidx.formats.cbor_arrays import Array, array_of
from gpuidx.formats.frame import slab
from gpuidx.formats.named_values import header_value
from gpuidx.formats.no_data import NoData, unused_value
from gpuidx.formats.packed import left_packed
from gpuidx.formats.planes import plane, plane_shape
from gpuidx.formats.setting import Setting
from gpuidx.formats.starts import Start, Starts, masked_pixels, saturation
from gpuidx.geometry import DataArray
from gpuidx.model import Frame, Message, Packed, PeakList, source_id_of
from gpuidx.options import PEAKS_SENT

_TYPE = re.compile(rb"dtype[\x60-\x77](start|image|end)")
_MAP = re.compile(rb"(?:\xd9\xd9\xf7)?[\xa1-\xbb\xbf]")


def begins(parts: Sequence[memoryview]) -> bool:
    """Whether a message can be of this format, by its first bytes: a CBOR map with ``type`` in front."""
    first = bytes(parts[-1][:256]) if parts else b""
    return _MAP.match(first) is not None and _TYPE.search(first) is not None


class DectrisV2Decoder:
    """Decodes the messages of one run; made from the run's setting."""

    def __init__(self, setting: Setting) -> None:
        options = setting.options
        self.geometry, self.headers = setting.geometry, setting.headers
        self.buffers, self.notes = setting.buffers, setting.notes
        self.with_image, self.with_masks = options.image_data, options.mask_data and setting.masks is not None
        self.wants_peaks, self.half_pixel_shift = options.peaks in PEAKS_SENT, options.half_pixel_shift
        self._no_data = NoData(setting)
        self._starts = Starts(self._read_start, setting.notes)

    def decode(self, message: Message) -> Frame:
        """The frame of a message.

        Raises
        ------
        Rejected
            If it is none, or anything that is needed is missing, malformed or absurd.
        """
        fields = Entries(message.data, "the message", self.notes)
        kind = fields.get("type")
        if kind != "image":
            raise Rejected("not an image", f"the message is of type {kind!r:.40}; expected 'image'")
        series = series_of(fields)
        start = self._starts.of(message, series)
        maps = (fields, *start.values)
        values = self.headers.read(lambda name: header_value(maps, name))
        image = self._image(fields, start) if self.with_image else None
        return Frame(
            serial=message.serial,
            filename=message.filename,
            event=message.event,
            stream=message.stream,
            image=None if isinstance(image, Packed) else image,
            packed=image if isinstance(image, Packed) else None,
            wavelength=values.wavelength,
            photon_energy=values.photon_energy,
            detector=values.detector,
            headers=values.headers,
            peaks=self._peaks(fields) if self.wants_peaks else None,
            source_id=source_id_of(next(iter(series.values()), None), fields.get("image_id")),
        )

    def _peaks(self, fields: Entries) -> PeakList:
        raise Rejected("no peak list", "this format has none; give --peaks=peakfinder8")

    def _image(self, fields: Entries, start: Start) -> NDArray[Any] | Packed:
        """The slab; a channel that is all of it is left to a device where that is possible."""
        channels = Entries(fields.get_item("data"), "'data'", self.notes)
        found: dict[str, NDArray[Any]] = {}
        chosen = [(place, self._channel(place, channels, start.values)) for place in self.geometry.arrays]
        for place, channel in chosen:
            array = array_of(channels.items_of[channel], f"data/{shown(channel)}")
            plane_shape(array.shape, place, f"channel '{shown(channel)}'")
            if self.buffers.packs and len(chosen) == 1:
                unused = unused_value(array.dtype) if start.unused is None else start.unused
                limits = self._no_data.limits(array.dtype, unused, start.greatest)
                packed = left_packed(
                    array.stored(), self.geometry.arrays, self.geometry.slab_shape, start.masked, limits
                )
                if packed is not None:
                    return packed
            if channel not in found:
                found[channel] = array.pixels()
        arrays = [(place, plane(found[name], place, f"channel '{shown(name)}'")) for place, name in chosen]
        image = slab(arrays, self.geometry.slab_shape, self.buffers)
        unused = start.unused
        if unused is None:
            values = {unused_value(array.dtype) for array in found.values()}
            unused = values.pop() if len(values) == 1 else None
        return self._no_data.taken_out(image, unused, start.masked, start.greatest)

    def _channel(
        self, place: DataArray, channels: Mapping[str, Any], start: Sequence[Mapping[str, Any]]
    ) -> str:
        """The channel that ``data`` of the geometry names, else the first of the detector's own order."""
        wanted = channel_name(place.data)
        if wanted in channels:
            return wanted
        if not channels:
            raise Rejected("missing key", "'data' has no channel")
        if len(channels) == 1:
            return next(iter(channels))
        order = next((one["channels"] for one in start if "channels" in one), None)
        named = [name for name in order if isinstance(name, str)] if isinstance(order, list) else []
        first = next(name for name in (*named, *channels) if name in channels)
        self.notes[f"frames with {len(channels)} channels, of which '{shown(first)}' was taken"] += 1
        return first

    def _read_start(self, parts: Sequence[memoryview]) -> Start:
        fields = Entries(parts[-1], "the start message", self.notes)
        if fields.get("type") != "start":
            raise Rejected("not a start message", "its type is another one")
        unused = fields.get("error_value")
        masked = self._mask(fields) if self.with_masks and "pixel_mask" in fields else None
        unused = unused if type(unused) is int else None
        return Start((fields,), series_of(fields), unused, saturation(fields), masked)

    def _mask(self, fields: Entries) -> NDArray[np.bool_] | None:
        item = fields.get_item("pixel_mask")
        if item[0] >> 5 != cbor.MAP:
            return None
        masks = Entries(item, "'pixel_mask'", self.notes)
        if not masks:
            return None
        opened: dict[str, NDArray[Any]] = {}

        def mask_of(place: DataArray) -> tuple[NDArray[Any], str]:
            channel = self._channel(place, masks, (fields,))
            name = f"pixel mask '{shown(channel)}'"
            if channel not in opened:
                array: Array = array_of(masks.items_of[channel], name)
                plane_shape(array.shape, place, name)
                opened[channel] = array.pixels()
            return opened[channel], name

        return masked_pixels(self.geometry, mask_of)


def series_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a series from others, as far as the message says."""
    return {key: fields[key] for key in ("series_unique_id", "series_id") if key in fields}


def channel_name(data: str) -> str:
    """The channel that ``data = …`` of a geometry means: ``/data/threshold_1``, ``threshold_1``."""
    return data.strip("/").rpartition("data/")[2]
