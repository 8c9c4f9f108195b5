# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages as Jungfraujoch sends them: its superset of DECTRIS Stream V2, and the CBOR of early 2023."""

from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from gpuidx.simulation.compress import compress
from gpuidx.simulation.encode_dectris import array

MAGIC = 0x52320000 | 0x0A
CHANNEL = "default"

Spot = tuple[float, float, float]
"""x, y in pixels, intensity in photons."""


def _dumps(values: Mapping[str, Any]) -> bytes:
    """A map of indefinite length, as streaming encoders make them."""
    pairs = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in values.items())
    return b"\xbf" + pairs + b"\xff"


def start(values: Mapping[str, Any], error_value: int | None = None, series: int = 1) -> list[bytes]:
    """The start of a series.

    Parameters
    ----------
    values
        ``incident_energy`` (eV), ``detector_distance`` (m), …
    error_value
        Of pixels in error or missing.
    series
        Its number.
    """
    about: dict[str, Any] = {"type": "start", "magic_number": MAGIC}
    if error_value is not None:
        about["error_value"] = error_value
    return [_dumps({**about, "series_id": series, "series_unique_id": f"S{series}", **values})]


def image(
    pixels: NDArray[Any],
    image_id: int = 0,
    series: int = 1,
    compression: str = "bslz4",
    spots: Sequence[Spot] = (),
) -> list[bytes]:
    """An image.

    Parameters
    ----------
    pixels : (ss, fs)
        Integers.
    image_id, series
        Numbers from 0 and 1.
    compression
        none, bslz4 or bszstd.
    spots
        That were found.
    """
    message = {
        "type": "image",
        "magic_number": MAGIC,
        "image_id": image_id,
        "series_id": series,
        "series_unique_id": f"S{series}",
        "spots": [{"x": x, "y": y, "I": intensity, "indexed": False} for x, y, intensity in spots],
        "data": {CHANNEL: array(pixels, compression)},
    }
    return [_dumps(message)]


def end(series: int = 1) -> list[bytes]:
    """The end of a series."""
    return [_dumps({"type": "end", "magic_number": MAGIC, "series_id": series})]


def early_start() -> list[bytes]:
    """The start of a series in 2023; it says nothing else."""
    return [cbor2.dumps({"type": "start"})]


def early_image(
    pixels: NDArray[Any], number: int = 0, compression: str = "bslz4", spots: Sequence[Spot] = ()
) -> list[bytes]:
    """An image of 2023: a chunk of HDF5, and spots as numbers one after the other."""
    numbers = [float(np.float32(number)) for spot in spots for number in spot]
    chunk = compress(np.ascontiguousarray(pixels), compression)
    return [cbor2.dumps({"type": "image", "data": chunk, "image_number": number, "spots": numbers})]


def early_end() -> list[bytes]:
    """The end of a series in 2023."""
    return [cbor2.dumps({"type": "end"})]
