# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames as messages of ASAP::O: a payload, and metadata beside it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuidx.errors import GeometryError
from gpuidx.geometry import Geometry
from gpuidx.simulation.encode_seedee import encode_seedee
from gpuidx.simulation.frames import SimulatedFrame
from gpuidx.simulation.messages import NUMBER_KEY, TRUTH_KEY, EncodedFrame, check_arrays


@dataclass(frozen=True, slots=True)
class AsapoFrame:
    """A message that may be sent several times.

    Attributes
    ----------
    data
        The payload as it is kept.
    payload
        The payload with a frame number, where the format has one; called in any thread.
    meta
        Metadata, but for the frame number.
    """

    data: bytes | bytearray
    payload: Callable[[int], bytes | bytearray]
    meta: Mapping[str, Any]

    def numbered_meta(self, number: int) -> dict[str, Any]:
        """Metadata of the message with this frame number."""
        return {**self.meta, NUMBER_KEY: number}


def as_msgpack(message: EncodedFrame) -> AsapoFrame:
    """All values are in the MsgPack message; its frame number is written into a copy."""
    return AsapoFrame(message.data, message.numbered_copy, {})


def as_seedee(frame: SimulatedFrame, geometry: Geometry) -> AsapoFrame:
    """Pixels as Seedee has them; header values and Seedee's own are metadata.

    Raises
    ------
    GeometryError
        If the pixels are not in one array.
    """
    check_arrays(geometry)
    if len(geometry.arrays) != 1:
        names = ", ".join(array.data for array in geometry.arrays)
        raise GeometryError(geometry.file, None, f"pixels are in {names}; a Seedee message has one array")
    (array,) = geometry.arrays
    height, width = array.shape
    pixels = np.ascontiguousarray(frame.image[array.row : array.row + height, :width])
    meta, payload = encode_seedee(pixels, {**frame.headers, TRUTH_KEY: frame.truth.number})
    return AsapoFrame(payload, lambda _: payload, json.loads(meta))
