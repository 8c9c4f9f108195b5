# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats that simulated frames are sent in: one table, an encoder for each.

Header values go where the format has them, under the names that the geometry looks up.  Formats with series
tell some or all of them once, in the message that begins the series.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuidx.arguments import option
from gpuidx.errors import OptionError
from gpuidx.geometry.detector import Geometry
from gpuidx.model import HeaderValue
from gpuidx.options.source import DATA_FORMATS
from gpuidx.serving import SERVING
from gpuidx.simulation import encode_dectris, encode_jungfraujoch, encode_lclstreamer, encode_seedee
from gpuidx.simulation.encode_cbf import encode_cbf
from gpuidx.simulation.encode_hdf5 import COMPRESSIONS as HDF5_COMPRESSIONS
from gpuidx.simulation.files import frame_file
from gpuidx.simulation.frames import SimulatedFrame
from gpuidx.simulation.messages import TRUTH_KEY, EncodedFrame, encode, peak_list

Parts = list[bytes]

CHANNEL = "threshold_1"

MOST_DIGITS = 3
"""Of a position in a list."""

INTEGERS = ("u1", "i2", "u2", "i4", "u4")
ALL_TYPES = (*INTEGERS, "f4", "f8")

V1_ENCODINGS = dict(zip(("bslz4", "none", "lz4"), ("bs-lz4<", "<", "lz4<"), strict=True))


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """What messages look like."""

    format: str = option(
        "msgpack", group=SERVING, metavar="FORMAT", choices=DATA_FORMATS[1:],
        help=f"format of messages: {', '.join(DATA_FORMATS[1:])}",
    )  # fmt: skip
    compression: str = option(
        "", group=SERVING, metavar="NAME",
        help="of pixels, where the format has several: none, gzip, lz4, bslz4, bszstd, …",
    )  # fmt: skip
    image: bool = option(True, group=SERVING, off=True, help="send peak lists only (msgpack)")
    bin_keys: bool = option(
        False, group=SERVING,
        help="keys of the image map are bytes, as msgpack-numpy has them, not text (msgpack)",
    )  # fmt: skip
    peak_photons: int = option(
        60, group=SERVING, metavar="N", help="photons of the weakest spot in the peak lists that are sent"
    )


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame to be encoded."""

    frame: SimulatedFrame
    geometry: Geometry
    settings: EncodeSettings
    compression: str

    @property
    def number(self) -> int:
        """Of the frame, from 0."""
        return self.frame.truth.number

    @property
    def headers(self) -> dict[str, HeaderValue]:
        """What the geometry looks up, and the number in the file of the truth."""
        return {**self.frame.headers, TRUTH_KEY: self.number}


@dataclass(frozen=True, slots=True)
class Format:
    """A format of messages.

    Attributes
    ----------
    encode
        A frame's message.
    compressions
        Their names, the usual one first.
    types
        Of pixels.
    start
        Parts of the message that begins a series, from a shot of its first frame and the header values.
    end
        Parts of the message that ends it.
    once
        Options that spread a value which the format tells only once for a series.
    has_arrays
        A message can hold several arrays of pixels.
    """

    encode: Callable[[Shot], Parts | EncodedFrame]
    compressions: Sequence[str] = ("none",)
    types: Sequence[str] = ALL_TYPES
    start: Callable[[Shot, Mapping[str, HeaderValue]], Parts] | None = None
    end: Callable[[], Parts] | None = None
    once: Sequence[str] = ()
    has_arrays: bool = False


def nested(headers: Mapping[str, HeaderValue]) -> dict[str, Any]:
    """Values by path as maps within maps, and lists where the path has a position: ``translation/2``.

    Raises
    ------
    OptionError
        If one is a part of another.
    """
    tree: dict[str, Any] = {}
    for name, value in headers.items():
        path = name.strip("/").split("/")
        told: Any = value
        if len(path) > 1 and path[-1].isdecimal() and len(path[-1]) <= MOST_DIGITS:
            told = [0.0] * int(path.pop()) + [value]
        branch: Any = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {}) if isinstance(branch, dict) else None
        if not isinstance(branch, dict) or path[-1] in branch:
            raise OptionError(
                f"no message can have the value '{name}' and the others that the geometry asks for"
            )
        branch[path[-1]] = told
    return tree


def _msgpack(shot: Shot) -> EncodedFrame:
    s = shot.settings
    return encode(
        shot.frame, shot.geometry, with_image=s.image, least_photons=s.peak_photons, bin_keys=s.bin_keys
    )


def _hdf5(shot: Shot) -> Parts:
    peaks = None
    if shot.geometry.peak_list is not None:
        found = peak_list(shot.frame, shot.geometry, shot.settings.peak_photons)
        peaks = found["fs"], found["ss"], found["intensity"]
    return [frame_file(shot.frame, shot.geometry, HDF5_COMPRESSIONS[shot.compression], peaks)]


def _seedee(shot: Shot) -> Parts:
    return encode_seedee.encode_seedee(shot.frame.image, nested(shot.headers), shot.compression)


def _cbf(shot: Shot) -> Parts:
    image = shot.frame.image
    image = image if image.dtype == np.uint32 else image.astype(np.int32)
    return encode_cbf(image, shot.headers, gzipped=shot.compression == "gzip")


def _v1(shot: Shot) -> Parts:
    appendix = json.dumps({TRUTH_KEY: shot.number}).encode()
    encoding = V1_ENCODINGS[shot.compression]
    return encode_dectris.v1_image(shot.frame.image, shot.number, encoding=encoding, appendix=appendix)


def _v2(shot: Shot) -> Parts:
    channels = {CHANNEL: shot.frame.image}
    about = {"user_data": {TRUTH_KEY: shot.number}}
    return encode_dectris.v2_image(channels, shot.number, compression=shot.compression, values=about)


def _jungfraujoch(shot: Shot) -> Parts:
    found = peak_list(shot.frame, shot.geometry, shot.settings.peak_photons)
    spots = list(zip(found["fs"], found["ss"], found["intensity"], strict=True))
    return encode_jungfraujoch.image(shot.frame.image, shot.number, compression=shot.compression, spots=spots)


def _lclstreamer(shot: Shot) -> Parts:
    energy = shot.geometry.wavelength.header
    told = {name: value for name, value in shot.headers.items() if name in (energy, TRUTH_KEY)}
    return encode_lclstreamer.image(shot.frame.image, shot.number, values=nested(told))


def _lclstreamer_start(shot: Shot, headers: Mapping[str, HeaderValue]) -> Parts:
    told = {name: value for name, value in headers.items() if name != shot.geometry.wavelength.header}
    image = shot.frame.image
    return encode_lclstreamer.start(image.shape, image.dtype.name, **nested(told))


BOTH = ("energy_spread", "clen_spread")

FORMATS: dict[str, Format] = {
    "msgpack": Format(_msgpack, has_arrays=True),
    "hdf5": Format(_hdf5, tuple(HDF5_COMPRESSIONS), has_arrays=True),
    "seedee": Format(_seedee, ("bslz4", "none", "gzip", "lz4")),
    "cbf": Format(_cbf, ("none", "gzip"), INTEGERS),
    "dectris-v1": Format(
        _v1, tuple(V1_ENCODINGS), INTEGERS, once=BOTH, end=encode_dectris.v1_end,
        start=lambda _, headers: encode_dectris.v1_start(configuration=nested(headers)),
    ),
    "dectris-v2": Format(
        _v2, ("bslz4", "none", "bszstd", "lz4"), once=BOTH, end=encode_dectris.v2_end,
        start=lambda _, headers: encode_dectris.v2_start(nested(headers), (CHANNEL,)),
    ),
    "jungfraujoch": Format(
        _jungfraujoch, ("bslz4", "none", "bszstd"), INTEGERS, once=BOTH, end=encode_jungfraujoch.end,
        start=lambda _, headers: encode_jungfraujoch.start(nested(headers)),
    ),
    "lclstreamer": Format(
        _lclstreamer, ("bslz4",), once=("clen_spread",), end=encode_lclstreamer.stop,
        start=_lclstreamer_start,
    ),
}  # fmt: skip
"""By the names that ``--data-format`` has for them."""
