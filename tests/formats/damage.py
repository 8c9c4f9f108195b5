# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid messages of detectors' own protocols, ways to damage them, and what must hold for any bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from formats.making import IMAGE, PANELS
from formats.making_series import FIXED, bad_at, making, message

from gpuidx.errors import Rejected
from gpuidx.formats.dectris_v1 import DectrisV1Decoder
from gpuidx.formats.dectris_v2 import DectrisV2Decoder
from gpuidx.formats.jungfraujoch import JungfraujochDecoder
from gpuidx.formats.lclstreamer import LclstreamerDecoder
from gpuidx.model import PIXEL_TYPES
from gpuidx.simulation import encode_dectris as dectris
from gpuidx.simulation import encode_jungfraujoch as jungfraujoch
from gpuidx.simulation import encode_lclstreamer as lclstreamer

COUNTS, PHOTONS, FLOATS = IMAGE.astype("<u2"), IMAGE.astype("<i2"), IMAGE.astype("<f8")
MASK = bad_at((3, 5), (40, 63))
SPOTS = [(40.0, 40.0, 100.0), (20.5, 10.25, 50.0)]

_V1 = {"photon_energy": 12000.0, "detector_distance": 0.25}
_V2 = {"incident_energy": 12000.0, "detector_translation": [0.0, 0.0, 0.25], "error_value": 65535}
_V1_TEXT = "photon_energy = photon_energy eV\nclen = detector_distance m\n" + PANELS
_V2_TEXT = "photon_energy = incident_energy eV\nclen = detector_translation/2 m\n" + PANELS
_LCLS_TEXT = "photon_energy = photon_energy eV\nclen = 0.1\n" + PANELS


@dataclass(frozen=True, eq=False)
class Case:
    """A decoder, a message that it reads, and the start of its series."""

    decoder: Any
    parts: list[bytes]
    start: list[bytes]


def cases() -> dict[str, Case]:
    """Cases by name; decoders are made here, so each call has its own."""
    made: dict[str, Case] = {}
    for encoding in dectris.V1_ENCODINGS:
        decoder = making(DectrisV1Decoder, _V1_TEXT, masked=True)
        parts = dectris.v1_image(COUNTS, encoding=encoding, appendix=b'{"run": 3}')
        made[f"dectris v1 {encoding}"] = Case(decoder, parts, dectris.v1_start(1, _V1, MASK))
    for compression in dectris.V2_COMPRESSIONS:
        decoder = making(DectrisV2Decoder, _V2_TEXT, masked=True)
        start = dectris.v2_start(_V2, pixel_mask={"threshold_1": MASK})
        channels = {"threshold_1": COUNTS, "threshold_2": COUNTS}
        made[f"dectris v2 {compression}"] = Case(
            decoder, dectris.v2_image(channels, compression=compression), start
        )
    for compression in ("none", "bslz4", "bszstd"):
        decoder = making(JungfraujochDecoder, FIXED, masked=True, peaks="msgpack")
        start = jungfraujoch.start({}, -32768)
        parts = jungfraujoch.image(PHOTONS, compression=compression, spots=SPOTS)
        made[f"jungfraujoch {compression}"] = Case(decoder, parts, start)
        parts = jungfraujoch.early_image(PHOTONS, compression=compression, spots=SPOTS)
        made[f"early jungfraujoch {compression}"] = Case(decoder, parts, jungfraujoch.early_start())
    decoder = making(LclstreamerDecoder, _LCLS_TEXT, masked=True)
    parts = lclstreamer.image(FLOATS, values={"photon_energy": 9000.0})
    made["lclstreamer"] = Case(decoder, parts, lclstreamer.start((64, 64), "float64"))
    return made


def damaged(parts: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """Some bytes of a part changed, inserted or left out, mostly near its ends; or parts changed places."""
    parts = list(parts)
    if len(parts) > 1 and rng.random() < 0.05:
        order = rng.integers(0, len(parts), rng.integers(1, len(parts) + 2))
        return [parts[i] for i in order]
    which = int(rng.integers(len(parts)))
    data = bytearray(parts[which])
    for _ in range(int(rng.integers(1, 9))):
        if not data:
            break
        window = min(len(data), 200) if rng.random() < 0.8 else len(data)
        at = int(rng.integers(window))
        at = len(data) - 1 - at if rng.random() < 0.3 else at
        choice = rng.random()
        if choice < 0.8:
            data[at] = int(rng.integers(256)) if choice < 0.5 else data[at] ^ (1 << int(rng.integers(8)))
        elif choice < 0.9:
            data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        else:
            del data[at : at + int(rng.integers(1, 40))]
    parts[which] = bytes(data)
    return parts


def check_any(decoder: Any, parts: list[bytes], start: list[bytes]) -> str:
    """Decode, or reject, saying why (``""`` for a frame); a frame is as the rest of the program wants it."""
    frame = _attempt(decoder, parts, start)
    if isinstance(frame, Rejected):
        assert frame.reason
        assert "\n" not in frame.detail
        assert frame.detail.encode()
        return frame.reason
    image = frame.image
    assert image.shape == (64, 64)
    assert image.dtype.str[1:] in PIXEL_TYPES
    assert image.flags.c_contiguous
    assert image.flags.aligned
    assert image.flags.writeable
    assert frame.wavelength > 0
    assert np.isfinite(frame.wavelength)
    assert frame.peaks is None or np.isfinite(frame.peaks.fs).all()
    return ""


def _attempt(decoder: Any, parts: list[bytes], start: list[bytes]) -> Any:
    try:
        return decoder.decode(message(parts, start))
    except Rejected as rejected:
        return rejected
