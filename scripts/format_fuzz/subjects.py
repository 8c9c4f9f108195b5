# SPDX-License-Identifier: GPL-3.0-or-later
"""What is fuzzed: for each format some good messages, and a decoder for them.

To add a format, write a function that gives a `Subject` and name it in `SUBJECTS`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpuidx.errors import Rejected
from gpuidx.formats.cbf import CbfDecoder
from gpuidx.formats.chunks import COMPRESSIONS, unpack
from gpuidx.formats.frame import Buffers
from gpuidx.formats.lookup import HeaderLookup
from gpuidx.formats.one_image import OneImage
from gpuidx.formats.seedee import SeedeeDecoder
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, Message
from gpuidx.options import Options
from gpuidx.simulation.compress import compress
from gpuidx.simulation.encode_cbf import encode_cbf
from gpuidx.simulation.encode_seedee import encode_seedee

GEOMETRY = """\
wavelength = {wavelength}
clen = {clen}
res = 10000
adu_per_photon = 1
data = image
flag_lessthan = 0
p0/min_fs = 0
p0/max_fs = 47
p0/min_ss = 0
p0/max_ss = 39
p0/fs = x
p0/ss = y
p0/corner_x = -24
p0/corner_y = -20
"""

IMAGE = np.random.default_rng(1).poisson(3, (40, 48)).astype("<i4")
"""Good pixels for `GEOMETRY`."""


class Decodes(Protocol):
    """A decoder of one format."""

    def decode(self, message: Message) -> Frame:
        """The frame, or `gpuidx.errors.Rejected`."""


def whole_message(parts: list[bytes]) -> Message:
    """A message of these parts, in memory that may be written to, as in a slot."""
    slots = [memoryview(bytearray(part)) for part in parts]
    several = tuple(slots) if len(slots) > 1 else ()
    return Message(serial=1, filename="fuzz", event="//1", data=slots[-1], parts=several)


@dataclass(frozen=True)
class Subject:
    """A format.

    Attributes
    ----------
    messages
        Good ones: their parts.
    decoder
        For all of them.
    message_of
        Makes a message of parts; another one for formats with a start message.
    cases
        Without ``--cases``: a million for code of ours, a tenth of it where a library does most.
    """

    messages: list[list[bytes]]
    decoder: Decodes
    message_of: Callable[[list[bytes]], Message] = whole_message
    cases: int = 1_000_000


def decoder_of(
    kind: Callable[..., Decodes],
    wavelength: str = "Wavelength A",
    clen: str = "Detector_distance m",
    **options: Any,
) -> Decodes:
    """A decoder as a run makes it, for `GEOMETRY` with these values."""
    geometry = parse_geometry(GEOMETRY.format(wavelength=wavelength, clen=clen), "fuzz.geom")
    given: dict[str, Any] = {"peaks": "peakfinder8", "zmq_input": ("tcp://h:1",), "zmq_subscribe": ("",)}
    run = Options(geometry="fuzz.geom", output="fuzz.stream", indexing="none", **(given | options))
    notes = Counter[str]()
    headers = HeaderLookup(geometry, run.copy_header, notes, run)
    return kind(geometry, run, headers, Masks(geometry), Buffers(geometry.arrays), notes)


def seedee() -> Subject:
    values: dict[str, object] = {"Wavelength": 1.1, "Detector_distance": 0.1, "run": {"name": "r7"}}
    messages = [
        encode_seedee(IMAGE.astype(letters), values, compression, as_text=letters == "<f4")
        for compression in ("none", "gzip", "lz4", "bslz4")
        for letters in ("<u2", "<i4", "<f4", ">i2")
    ]
    return Subject(messages, decoder_of(SeedeeDecoder, copy_header=("run/name",)))


def cbf() -> Subject:
    values: dict[str, object] = {
        "Wavelength": "1.1 A",
        "Detector_distance": "0.1 m",
        "Beam_xy": "(24, 20) px",
    }
    bright = np.random.default_rng(2).poisson(40_000, IMAGE.shape).astype("<i4")
    messages = [
        encode_cbf(image, values, gzipped=zip_) for image in (IMAGE, bright) for zip_ in (False, True)
    ]
    return Subject(messages, decoder_of(CbfDecoder, copy_header=("Beam_x",)))


class Chunks:
    """Decodes nothing but compressed pixels: a byte for their compression, and a chunk."""

    def __init__(
        self,
        geometry: Geometry,
        options: Options,
        headers: HeaderLookup,
        masks: Masks | None,
        buffers: Buffers,
        notes: Counter[str],
    ) -> None:
        self._frames = OneImage(geometry, options, headers, masks, buffers)

    def decode(self, message: Message) -> Frame:
        """The frame, with the geometry's own header values."""
        if not message.data:
            raise Rejected("empty")
        compression = COMPRESSIONS[message.data[0] % len(COMPRESSIONS)]
        return self._frames.frame(
            message, lambda name: 0, lambda: unpack(message.data[1:], compression, IMAGE.dtype, IMAGE.shape)
        )


def chunks() -> Subject:
    messages = [
        [bytes([i]) + compress(IMAGE, compression, block)]
        for i, compression in enumerate(COMPRESSIONS)
        for block in (0, 8, 256)
    ]
    return Subject(messages, decoder_of(Chunks, "1 A", "0.1 m"))


SUBJECTS: dict[str, Callable[[], Subject]] = {"cbf": cbf, "chunks": chunks, "seedee": seedee}
