# SPDX-License-Identifier: GPL-3.0-or-later
"""What is fuzzed: for each format some good messages, and a decoder for them; parsers are in `texts`.

To add a format, write a function that gives a `Subject` and name it in `SUBJECTS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from msgpack import packb as pack

from format_fuzz.texts import Receives, cells, geometries, lists, streams
from gpuidx.errors import Rejected
from gpuidx.formats.cbf import CbfDecoder
from gpuidx.formats.chunks import COMPRESSIONS, unpack
from gpuidx.formats.dectris_v1 import DectrisV1Decoder
from gpuidx.formats.dectris_v2 import DectrisV2Decoder
from gpuidx.formats.hdf5_messages import Hdf5Messages
from gpuidx.formats.jungfraujoch import JungfraujochDecoder
from gpuidx.formats.lclstreamer import LclstreamerDecoder
from gpuidx.formats.messages import MsgPackDecoder
from gpuidx.formats.one_image import OneImage
from gpuidx.formats.seedee import SeedeeDecoder
from gpuidx.formats.setting import Setting
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, Message
from gpuidx.options import Options
from gpuidx.simulation import encode_dectris as dectris
from gpuidx.simulation import encode_jungfraujoch as jfjoch
from gpuidx.simulation import encode_lclstreamer as lcls
from gpuidx.simulation.compress import compress
from gpuidx.simulation.encode_cbf import encode_cbf
from gpuidx.simulation.encode_hdf5 import COMPRESSIONS as HDF5_COMPRESSIONS
from gpuidx.simulation.encode_hdf5 import encode as encode_hdf5
from gpuidx.simulation.encode_seedee import encode_seedee

GEOMETRY = """\
data = image
wavelength = {wavelength}
clen = {clen}
res = 10000
adu_per_photon = 1
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
    """A decoder of one format, or something else that reads a message."""

    def decode(self, message: Message) -> Frame | None:
        """The frame, None if there is none to be checked, or `gpuidx.errors.Rejected`."""


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
    kind: Callable[[Setting], Decodes],
    wavelength: str = "Wavelength A",
    clen: str = "Detector_distance m",
    **options: Any,
) -> Decodes:
    """A decoder as a run makes it, for `GEOMETRY` with these values."""
    geometry = parse_geometry(GEOMETRY.format(wavelength=wavelength, clen=clen), "fuzz.geom")
    given: dict[str, Any] = {"peaks": "peakfinder8", "zmq_input": ("tcp://h:1",), "zmq_subscribe": ("",)}
    run = Options(geometry="fuzz.geom", output="fuzz.stream", indexing="none", **(given | options))
    return kind(Setting.of(geometry, run, Masks(geometry)))


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

    def __init__(self, setting: Setting) -> None:
        self._frames = OneImage(setting)

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


def in_series(n_start: int) -> Callable[[list[bytes]], Message]:
    """Makes messages of which the first parts are those of the start of a series."""

    def message_of(parts: list[bytes]) -> Message:
        start = tuple(memoryview(part) for part in parts[:n_start])
        return replace(whole_message(parts[n_start:] or [b""]), series=start)

    return message_of


BAD = np.eye(40, 48, dtype="<u4")
"""A pixel mask."""


def dectris_v1() -> Subject:
    start = dectris.v1_start(1, {"wavelength": 1.0332, "detector_distance": 0.1}, BAD)
    messages = [
        [
            *start,
            *dectris.v1_image(IMAGE.astype(letters), encoding=encoding, appendix=b'{"run": {"name": 5}}'),
        ]
        for encoding in (*dectris.V1_ENCODINGS, "bs-lz4>")
        for letters in ("u1", "u2", "u4")
    ]
    decoder = decoder_of(DectrisV1Decoder, "wavelength A", "detector_distance m", copy_header=("run/name",))
    return Subject(messages, decoder, in_series(len(start)))


def dectris_v2() -> Subject:
    values = {"incident_wavelength": 1.0332, "detector_translation": [0.0, 0.0, 0.1]}
    start = dectris.v2_start(values, pixel_mask={"threshold_1": BAD})
    messages = [
        [*start, *dectris.v2_image({"threshold_1": image, "threshold_2": image}, compression=compression)]
        for compression in dectris.V2_COMPRESSIONS
        for image in (IMAGE.astype("u1"), IMAGE.astype("<u2"), IMAGE.astype("<u4"))
    ]
    clen, copied = "detector_translation/2 m", ("start_time", "user_data/run")
    decoder = decoder_of(DectrisV2Decoder, "incident_wavelength A", clen, copy_header=copied)
    return Subject(messages, decoder, in_series(len(start)))


def jungfraujoch() -> Subject:
    spots = [(float(i), 2.5, 100.0) for i in range(20)]
    start = jfjoch.start({"incident_wavelength": 1.0332}, -32768)
    messages = [
        [*start, *encode(IMAGE.astype(letters), compression=compression, spots=spots)]
        for encode in (jfjoch.image, jfjoch.early_image)
        for compression in ("none", "bslz4", "bszstd")
        for letters in ("<i2", "<i4")
    ]
    decoder = decoder_of(JungfraujochDecoder, "incident_wavelength A", "0.1 m", peaks="msgpack")
    return Subject(messages, decoder, in_series(len(start)))


def lclstreamer() -> Subject:
    start = lcls.start(IMAGE.shape, "float64", detector={"distance": 0.1})
    messages = [
        [*start, *lcls.image(IMAGE.astype(letters), values={"photon_wavelength": 1.0332})]
        for letters in ("<f8", "<i8", "<u2")
    ]
    decoder = decoder_of(LclstreamerDecoder, "photon_wavelength A", "detector/distance m")
    return Subject(messages, decoder, in_series(len(start)))


class LastFrame:
    """Decodes the last frame of an HDF5 message, once it has said how many there are."""

    def __init__(self, setting: Setting) -> None:
        self._messages = Hdf5Messages(setting)

    def decode(self, message: Message) -> Frame:
        """As `Hdf5Messages.decode`."""
        return self._messages.decode(replace(message, number=self._messages.frame_count(message) - 1))


def hdf5() -> Subject:
    lists = [([1.0, 30.5], [2.0, 20.5], [100.0, 50.0])] * 3
    values = {"/run/wavelength": [1.1, 1.2, 1.3], "/run/clen": 0.1, "/run/name": b"r7"}
    messages = [
        [
            encode_hdf5(
                np.stack([IMAGE.astype(letters)] * 3),
                values,
                data="/image",
                compression=compression,
                chunks=None if i % 2 else (2, 40, 48),
                masks={"/mask": np.zeros((40, 48), np.uint8)},
                cxi=("/peaks", lists),
            )
        ]
        for i, compression in enumerate(("none", *HDF5_COMPRESSIONS))
        for letters in ("<u2", "<i4", "<f4")
    ]
    more = "peak_list = /peaks\nmask0_data = /mask\nmask0_badbits = 1\ndata = /image"
    decoder = decoder_of(
        LastFrame, "/run/wavelength A", f"/run/clen m\n{more}", peaks="cxi", copy_header=("/run/name",)
    )
    return Subject(messages, decoder, cases=100_000)


def msgpack() -> Subject:
    def packed(image: Any, text: bool, **image_keys: Any) -> bytes:
        pixels = {"type": image.dtype.str, "shape": list(image.shape), "data": image.tobytes()}
        spots = {"fs": [1.0, 20.5], "ss": [2.0, 30.5], "intensity": [100.0, 50]}
        values = {"Wavelength": 1.1, "Detector_distance": 0.1, "image": pixels | image_keys, "peaks": spots}
        return bytes(pack(values if text else {key.encode(): value for key, value in values.items()}))

    kinds = [IMAGE.astype(letters) for letters in ("<u2", ">i4", "<f4", "<i8")]
    messages = [[packed(image, text)] for image in kinds for text in (True, False)]
    messages += [[b"\x92" + messages[0][0] + messages[1][0]], [packed(IMAGE, text=True, nd=True, kind=b"")]]
    more = "m\npeak_list = peaks"
    return Subject(messages, decoder_of(MsgPackDecoder, clen=f"Detector_distance {more}", peaks="msgpack"))


def receiving() -> Subject:
    """One message of each format, with a tag in front and without, and the start messages of series."""
    single = [make().messages[0] for make in (cbf, lclstreamer, msgpack, seedee)]
    starts = dectris.v1_start(1, {}, BAD), dectris.v2_start({}), jfjoch.start({})
    images = dectris.v1_image(IMAGE.astype("u2")), dectris.v2_image({"1": IMAGE.astype("u2")})
    messages = [parts[-1:] if len(parts) > 2 else parts for parts in single]
    tagged = [[b"ondadata", parts[-1]] for parts in messages] + [[b"ondadata" + messages[2][0]]]
    return Subject([*messages, *map(list, starts), *map(list, images), *tagged], Receives())


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "cbf": cbf,
    "chunks": chunks,
    "dectris-v1": dectris_v1,
    "dectris-v2": dectris_v2,
    "hdf5": hdf5,
    "jungfraujoch": jungfraujoch,
    "lclstreamer": lclstreamer,
    "msgpack": msgpack,
    "seedee": seedee,
    "receiving": receiving,
    "cell-files": lambda: Subject(*cells()),
    "geometry-files": lambda: Subject(*geometries()),
    "lists": lambda: Subject(*lists()),
    "streams": lambda: Subject(*streams()),
}
