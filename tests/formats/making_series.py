# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoders of detectors' own protocols, and messages for them as a source hands them over."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from formats.making import IMAGE, PANELS

from gpuidx.errors import Rejected
from gpuidx.formats.setting import Setting
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, Message
from gpuidx.options import Options

FIXED = "photon_energy = 9500\nclen = 0.05\n" + PANELS
"""Needs nothing of a message but pixels."""

COUNTS = IMAGE.astype("<u2")


def making(kind: Any, text: str = FIXED, extra: str = "", masked: bool = False, **options: Any) -> Any:
    """A decoder of the class *kind*; its counters of what was ignored are `notes`."""
    geometry = parse_geometry(text.replace("{extra}", extra), "test.geom")
    given = {"peaks": "peakfinder8", "zmq_input": ("tcp://h:1",), "zmq_subscribe": ("",)} | options
    run = Options(geometry="test.geom", output="test.stream", indexing="none", **given)
    setting = Setting.of(geometry, run, Masks(geometry) if masked else None)
    decoder = kind(setting)
    decoder.notes = setting.notes
    return decoder


def message(parts: Sequence[bytes], start: Sequence[bytes] = ()) -> Message:
    """A message in memory that may be written to, as in a slot."""
    views = tuple(memoryview(bytearray(part)) for part in parts)
    series = tuple(memoryview(bytes(part)) for part in start)
    return Message(
        serial=7,
        filename="ZMQdata",
        event="//7",
        data=views[-1],
        parts=views if len(views) > 1 else (),
        series=series,
    )


def decoded(decoder: Any, parts: Sequence[bytes], start: Sequence[bytes] = ()) -> Frame:
    frame: Frame = decoder.decode(message(parts, start))
    return frame


def pixels(decoder: Any, parts: Sequence[bytes], start: Sequence[bytes] = ()) -> Any:
    image = decoded(decoder, parts, start).image
    assert image is not None
    return image


def why(decoder: Any, parts: Sequence[bytes], start: Sequence[bytes] = ()) -> tuple[str, str]:
    """Why a message is rejected; anything but `Rejected` fails the test."""
    with pytest.raises(Rejected) as caught:
        decoded(decoder, parts, start)
    assert "\n" not in caught.value.detail
    return caught.value.reason, caught.value.detail


def bad_at(*places: tuple[int, int], shape: tuple[int, int] = (64, 64)) -> Any:
    """A pixel mask with the bit for dead pixels at (ss, fs) *places*."""
    mask = np.zeros(shape, "<u4")
    for place in places:
        mask[place] = 2
    return mask
