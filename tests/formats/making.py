# SPDX-License-Identifier: GPL-3.0-or-later
"""A small detector, messages of it as a sender makes them, and a decoder."""

from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats import Decoder
from gpuidx.geometry import parse_geometry
from gpuidx.model import Frame, Message
from gpuidx.options import Options

PANELS = """\
res = 10000
adu_per_photon = 1
data = image
{extra}
p0/min_fs = 0
p0/max_fs = 63
p0/min_ss = 0
p0/max_ss = 31
p0/fs = x
p0/ss = y
p0/corner_x = -32
p0/corner_y = -32
p1/min_fs = 0
p1/max_fs = 63
p1/min_ss = 32
p1/max_ss = 63
p1/fs = x
p1/ss = y
p1/corner_x = -32
p1/corner_y = 0
"""
"""Two panels, one above the other; no header value."""

GEOMETRY = "photon_energy = photon_energy eV\nclen = clen_mm mm\npeak_list = peaks\n" + PANELS

RNG = np.random.default_rng(7)
IMAGE = RNG.poisson(10, (64, 64)).astype("<i4")

WIDE = np.pad(IMAGE, ((0, 10), (0, 6)), constant_values=99)
"""The image with more pixels around it, as a sender may have it."""

PEAKS = {"fs": [40.0, 20.5], "ss": [40.0, 10.25], "intensity": [100.0, 50.0]}

GUARD = 64


def decoder(text: str = GEOMETRY, extra: str = "", masks: Any = None, **options: Any) -> Decoder:
    """A decoder of a run; options as on the command line."""
    given = {
        "peaks": "peakfinder8",
        "zmq_input": ("tcp://h:1",),
        "zmq_subscribe": ("",),
        "data_format": "msgpack",
    }
    given |= options
    geometry = parse_geometry(text.replace("{extra}", extra), "test.geom")
    run = Options(geometry="test.geom", output="test.stream", indexing="none", **given)
    return Decoder(geometry, run, masks)


def array_map(image: NDArray[Any], letters: str | None = None, **changes: Any) -> dict[str, Any]:
    """An array as senders serialise it; a part that is changed to None is left out."""
    parts = {
        "type": letters or image.dtype.str,
        "shape": list(image.shape),
        "data": image.tobytes(),
    } | changes
    return {key: value for key, value in parts.items() if value is not None}


def fields(image: Any = IMAGE, **changes: Any) -> dict[str, Any]:
    """The map of a good message; a key that is changed to None is left out."""
    if isinstance(image, np.ndarray):
        image = array_map(image)
    whole = {"photon_energy": 9500.0, "clen_mm": 50.0, "image": image} | changes
    return {key: value for key, value in whole.items() if value is not None}


def pack(thing: Any, **options: Any) -> bytes:
    packed: bytes = msgpack.packb(thing, **options)
    return packed


def image_with(**changes: Any) -> bytes:
    """A message with some parts of its image changed."""
    return pack(fields(array_map(IMAGE, **changes)))


class Slot:
    """Memory with a message in its middle; what lies around must never be seen in a frame."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self.memory = np.full(len(data) + 2 * GUARD, 0x7F, np.uint8)
        begin = GUARD + start - self.memory.__array_interface__["data"][0] % 16
        self.begin, self.end = begin, begin + len(data)
        self.memory[begin : self.end] = np.frombuffer(data, np.uint8)

    @property
    def message(self) -> Message:
        data = memoryview(self.memory)[self.begin : self.end]
        return Message(serial=7, filename="ZMQdata", event="//7", data=data)


def decode(data: bytes, using: Decoder | None = None) -> Frame:
    return (using or decoder()).decode(Slot(data).message)


def reason(data: bytes, using: Decoder | None = None) -> tuple[str, str]:
    """Why a message is rejected; anything but `Rejected` fails the test."""
    with pytest.raises(Rejected) as caught:
        decode(data, using)
    return caught.value.reason, caught.value.detail


def image_of(frame: Frame) -> NDArray[Any]:
    assert frame.image is not None
    return frame.image
