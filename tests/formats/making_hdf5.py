# SPDX-License-Identifier: GPL-3.0-or-later
"""HDF5 files as messages, and a decoder of them."""

import io
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
from formats.making import IMAGE, Slot
from formats.making_files import FILE

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_messages import Hdf5Messages
from gpuidx.formats.setting import Setting
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, Message
from gpuidx.options import Options
from gpuidx.simulation.encode_hdf5 import encode

HEADERS = {"/beam/energy": 9500.0, "/det/clen": 50.0}
DATA = "/entry/data"


def messages(text: str = FILE, extra: str = "", with_masks: bool = False, **options: Any) -> Hdf5Messages:
    """A decoder of a run; options as on the command line."""
    given = {"peaks": "peakfinder8", "zmq_input": "tcp://h:1", "zmq_subscribe": ("",)} | options
    geometry = parse_geometry(text.replace("{extra}", extra), "test.geom")
    run = Options(geometry="test.geom", output="test.stream", indexing="none", **given)
    return Hdf5Messages(Setting.of(geometry, run, Masks(geometry) if with_masks else None))


def message(data: bytes, number: int = 0) -> Message:
    """A message in the middle of memory that must not be touched."""
    whole = Slot(data).message
    return Message(serial=7, filename="ZMQdata", event="//7", data=whole.data, number=number)


def sent(images: Any = IMAGE, compression: str = "none", headers: Any = HEADERS, **more: Any) -> bytes:
    return encode(images, headers, data=DATA, compression=compression, **more)


def made(fill: Callable[[Any], object], headers: Any = HEADERS) -> bytes:
    """A file that a function has filled, with good headers."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, value in headers.items():
            file[path] = value
        fill(file)
    return buffer.getvalue()


def decode(data: bytes, using: Hdf5Messages | None = None, number: int = 0) -> Frame:
    return (using or messages()).decode(message(data, number))


def reason(data: bytes, using: Hdf5Messages | None = None, number: int = 0) -> tuple[str, str]:
    """Why a message is rejected, by frame count and decoding; anything but `Rejected` fails the test."""
    with pytest.raises(Rejected) as caught:
        decode(data, using, number)
    assert "\n" not in caught.value.detail
    return caught.value.reason, caught.value.detail


FRAMES = np.stack([IMAGE + 100 * i for i in range(5)])
