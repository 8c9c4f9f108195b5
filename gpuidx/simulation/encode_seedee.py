# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as Seedee messages, byte for byte as the `seedee` library 0.3 writes them."""

import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from gpuidx.simulation.compress import compress

NUMBERS: dict[str, tuple[int, list[int] | None]] = {
    "none": (0, None),
    "gzip": (1, [4]),
    "lz4": (32004, [0]),
    "bslz4": (32008, [0, 2]),
}
"""HDF5's number of each filter, and the options that stand beside it."""


def seedee_metadata(image: NDArray[Any], compression: str) -> str:
    """What Seedee says of an array, as JSON."""
    number, options = NUMBERS[compression]
    array = {
        "byteorder": ord("<" if image.dtype.isnative else ">"),
        "datatype": ord(image.dtype.kind),
        "itemsize": image.itemsize,
        "ndims": image.ndim,
        "shape": list(image.shape),
        "size": image.nbytes,
        "stride": None,
    }
    whole = {
        "array": array,
        "compression": number,
        "compression_opts": options,
        "data_format": "hdf5_chunk",
        "protocol": "seedee",
        "version_major": 1,
        "version_minor": 0,
    }
    return json.dumps(whole, separators=(",", ":"))


def encode_seedee(
    image: NDArray[Any], values: Mapping[str, object], compression: str = "bslz4", *, as_text: bool = True
) -> list[bytes]:
    """An image and header values as a message.

    Parameters
    ----------
    image : (ss, fs)
        C-contiguous.
    values
        Header values by name; stand beside Seedee's own metadata.
    compression
        One of `NUMBERS`.
    as_text
        Seedee's metadata are JSON within JSON, as ASAP::O has them; else an object.

    Returns
    -------
    parts
        Metadata, pixels.
    """
    own = seedee_metadata(image, compression)
    metadata = {**values, "_data_format": own if as_text else json.loads(own)}
    return [json.dumps(metadata).encode(), compress(image, compression)]
