# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages as LCLStreamer's "Simplon" serializer makes them: a letter, then a CBOR map."""

from collections.abc import Mapping
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from gpuidx.simulation.compress import compress

BLOCK = 4096
"""Elements that are shuffled and compressed together."""

_HDF5_HEAD = 12


def start(shape: tuple[int, ...], dtype: str, run: str = "7", **values: Any) -> list[bytes]:
    """The start of a run.

    Parameters
    ----------
    shape, dtype
        Of the images.
    run
        Its number, as text.
    values
        Further ones.
    """
    about = {
        "type": "start",
        "run_number": run,
        "datatype": dtype,
        "shape": "x".join(map(str, shape)),
        "algorithm": "bitshuffle-lz4",
    }
    return [b"c" + cbor2.dumps(about | values)]


def image(
    pixels: NDArray[Any], number: int = 1, run: str = "7", values: Mapping[str, Any] | None = None
) -> list[bytes]:
    """An image.

    Parameters
    ----------
    pixels
        Of any shape, which is not sent along.
    number, run
        Of the message, and of the run.
    values
        ``photon_energy`` (eV) and others.
    """
    blocks = compress(np.ascontiguousarray(pixels), "bslz4", BLOCK)[_HDF5_HEAD:]
    message = {"type": "image", "run": run, "compressed_data": blocks, **(values or {})}
    message |= {"dtype": pixels.dtype.name, "sum": float(pixels.sum()), "message_id": number}
    return [b"m" + cbor2.dumps(message)]


def stop(run: str = "7") -> list[bytes]:
    """The end of a run."""
    return [b"c" + cbor2.dumps({"type": "stop", "run": run})]
