# SPDX-License-Identifier: GPL-3.0-or-later
"""A decoder of one format, a message of several parts, and the geometry of a single panel."""

from typing import Any, TypeVar

from formats.making import Slot

from gpuidx.formats.setting import Setting
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Message
from gpuidx.options import Options

AnyDecoder = TypeVar("AnyDecoder")

GEOMETRY_OF = """\
photon_energy = 9000
clen = 0.1
res = 10000
adu_per_photon = 1
p0/min_fs = 0
p0/max_fs = {fs}
p0/min_ss = 0
p0/max_ss = {ss}
p0/fs = x
p0/ss = y
p0/corner_x = 0
p0/corner_y = 0
"""


def made(kind: type[AnyDecoder], text: str, masks: bool = False, **options: Any) -> AnyDecoder:
    """A decoder of a run; options as on the command line."""
    given = {"peaks": "peakfinder8", "zmq_input": ("tcp://h:1",), "zmq_subscribe": ("",)} | options
    geometry = parse_geometry(text.replace("{extra}", ""), "test.geom")
    run = Options(geometry="test.geom", output="test.stream", indexing="none", **given)
    create: Any = kind
    decoder: AnyDecoder = create(Setting.of(geometry, run, Masks(geometry) if masks else None))
    return decoder


def message(parts: list[bytes]) -> Message:
    """A message of these parts; a single one is no part but all of it."""
    slots = [Slot(part).message.data for part in parts]
    several = tuple(slots) if len(slots) > 1 else ()
    return Message(serial=7, filename="ZMQdata", event="//7", data=slots[-1], parts=several)
