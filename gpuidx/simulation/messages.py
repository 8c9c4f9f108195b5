# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames as MsgPack messages, in the layout that their geometry asks for.

Image maps are those of msgpack-numpy, as OM sends them.
"""

import struct
from typing import Any

import msgpack
import numpy as np
import zmq

from gpuidx.errors import GeometryError
from gpuidx.geometry.detector import DataArray, Geometry
from gpuidx.simulation.frames import SimulatedFrame

NUMBER_KEY = "frame_number"
TRUTH_KEY = "truth_id"


class EncodedFrame:
    """A message whose frame number can be changed in place, so that frames may be sent again.

    Attributes
    ----------
    data
        The message.
    """

    __slots__ = ("_number_at", "_under_way", "data")

    def __init__(self, data: bytearray, number_at: int) -> None:
        self.data, self._number_at = data, number_at
        self._under_way: zmq.MessageTracker | None = None

    def parts(self, number: int) -> list[zmq.Frame]:
        """The message with this frame number, to be sent; a copy if it has not left since the last time."""
        if self._under_way is not None and not self._under_way.done:
            return EncodedFrame(bytearray(self.data), self._number_at).parts(number)
        frame = zmq.Frame(self.numbered(number), copy=False, track=True)
        self._under_way = frame.tracker
        return [frame]

    @property
    def n_byte(self) -> int:
        """Of the message."""
        return len(self.data)

    def numbered(self, number: int) -> bytearray:
        """The message with this frame number; the same buffer each time."""
        struct.pack_into(">Q", self.data, self._number_at, number)
        return self.data

    def numbered_copy(self, number: int) -> bytearray:
        """The message with this frame number, in a buffer of its own; safe in any thread."""
        data = bytearray(self.data)
        struct.pack_into(">Q", data, self._number_at, number)
        return data


def encode(
    frame: SimulatedFrame,
    geometry: Geometry,
    *,
    with_image: bool = True,
    least_photons: int = 60,
    bin_keys: bool = False,
) -> EncodedFrame:
    """A frame as a message.

    Parameters
    ----------
    frame, geometry
        The frame and the names under which its parts are looked up.
    with_image
        Whether pixels are sent.
    least_photons
        Spots with fewer are not in the peak list.
    bin_keys
        Keys of the image maps are bytes, as msgpack-numpy has it.

    Raises
    ------
    GeometryError
        If the layout cannot be sent in MsgPack.
    """
    items: dict[str, Any] = dict(frame.headers)
    items[TRUTH_KEY] = frame.truth.number
    items["event_id"] = f"simulated//{frame.truth.number}"
    if geometry.peak_list is not None:
        items[geometry.peak_list] = peak_list(frame, geometry, least_photons)
    if with_image:
        check_arrays(geometry)
        for array in geometry.arrays:
            items[array.data] = _image_map(frame, array, bin_keys)
    packer = msgpack.Packer(use_bin_type=True)
    data = bytearray(packer.pack_map_header(len(items) + 1))
    data += packer.pack(NUMBER_KEY) + b"\xcf"  # an unsigned number of always eight bytes
    number_at = len(data)
    data += bytes(8)
    for key, value in items.items():
        data += packer.pack(key)
        data += packer.pack(value)
    message = EncodedFrame(data, number_at)
    message.numbered(frame.truth.number)
    return message


def check_arrays(geometry: Geometry) -> None:
    """Refuse layouts that MsgPack messages cannot have.

    Raises
    ------
    GeometryError
        Naming what.
    """
    for array in geometry.arrays:
        if "%" in array.data or any(dim not in ("ss", "fs") for dim in array.dims):
            raise GeometryError(
                geometry.file,
                None,
                f"{array.data} has dimensions {array.dims}; a message holds ss and fs only",
            )


def peak_list(frame: SimulatedFrame, geometry: Geometry, least_photons: int) -> dict[str, Any]:
    """The bright spots as a peak finder would give them, without the half pixel that receivers add."""
    spots = [crystal.spots for crystal in frame.truth.crystals]
    origin, gain = frame.detector.origin, geometry.gain(frame.truth.photon_energy)
    rows = [
        (spot.panel[i], ss + origin[spot.panel[i], 1], fs + origin[spot.panel[i], 0], count)
        for spot in spots
        for i, (fs, ss, count) in enumerate(zip(spot.fs, spot.ss, spot.counts, strict=True))
        if count >= least_photons
    ]
    rows.sort(key=lambda row: (row[0], row[1]))
    return {
        "num_peaks": len(rows),
        "fs": [float(row[2]) - 0.5 for row in rows],
        "ss": [float(row[1]) - 0.5 for row in rows],
        "intensity": [float(row[3] * gain[row[0]]) for row in rows],
    }


def _image_map(frame: SimulatedFrame, array: DataArray, bin_keys: bool) -> dict[str | bytes, Any]:
    height, width = array.shape
    pixels = np.ascontiguousarray(frame.image[array.row : array.row + height, :width])
    items = {
        "nd": True,
        "type": pixels.dtype.str,
        "kind": b"",
        "shape": [height, width],
        "data": pixels.tobytes(),
    }
    return {(key.encode() if bin_keys else key): value for key, value in items.items()}
