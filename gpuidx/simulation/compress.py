# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays compressed as senders do: the other side of `gpuidx.formats.chunks`, by HDF5's own filters."""

import io
import zlib
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

import gpuidx.hdf5_filters  # noqa: F401  (registers them)

GZIP_LEVEL = 4


def compress(array: NDArray[Any], compression: str, block: int = 0) -> bytes:
    """The bytes of an HDF5 chunk that holds the whole array.

    Parameters
    ----------
    array
        Not empty.
    compression
        One of `gpuidx.formats.chunks.COMPRESSIONS`.
    block
        Elements of a block of bitshuffle, a multiple of eight; bytes of a block of LZ4; 0: the filter's
        own choice.

    Raises
    ------
    ValueError
        If the compression is another one.
    """
    if compression == "none":
        return array.tobytes()
    if compression in ("gzip", "gzip+shuffle"):
        data = array.tobytes()
        if compression == "gzip+shuffle":
            data = np.frombuffer(data, np.uint8).reshape(-1, array.itemsize).T.tobytes()
        return zlib.compress(data, GZIP_LEVEL)
    options: Any
    if compression == "lz4":
        options = hdf5plugin.LZ4(nbytes=block or array.nbytes)
    elif compression == "bslz4":
        options = hdf5plugin.Bitshuffle(nelems=block, cname="lz4")
    elif compression == "bszstd":
        options = hdf5plugin.Bitshuffle(nelems=block, cname="zstd")
    else:
        raise ValueError(f"no compression is called '{compression}'")
    # The filters do not care for the byte order, and HDF5 would not change it.
    with h5py.File(io.BytesIO(), "w") as file:
        stored = file.create_dataset("image", data=array, chunks=array.shape, **options)
        skipped, chunk = stored.id.read_direct_chunk((0,) * array.ndim)
    if skipped:
        raise ValueError(f"{compression} of {array.dtype} failed")
    return bytes(chunk)
