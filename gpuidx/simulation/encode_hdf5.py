# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as HDF5 files in memory, as senders make them: each compression, one or several frames in a file."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

import gpuidx.hdf5_filters  # noqa: F401  (registers them)
from gpuidx.formats.hdf5_peaks import COLUMNS, COUNT

COMPRESSIONS: dict[str, Mapping[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "gzip+shuffle": {"compression": "gzip", "shuffle": True},
    "lz4": hdf5plugin.LZ4(),
    "bslz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bszstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "zstd": hdf5plugin.Zstd(),
    "lzf": {"compression": "lzf"},
    "gzip+fletcher32": {"compression": "gzip", "fletcher32": True},
}
"""Arguments of ``create_dataset``; the last three are those that HDF5 itself has to read."""

Peaks = tuple[Sequence[float], Sequence[float], Sequence[float]]
"""fs, ss and intensity; positions without the half pixel that readers add."""


def encode(
    images: NDArray[Any],
    headers: Mapping[str, Any],
    *,
    data: str = "/entry/data/data",
    compression: str = "none",
    chunks: tuple[int, ...] | None = None,
    masks: Mapping[str, NDArray[Any]] | None = None,
    cxi: tuple[str, Sequence[Peaks]] | None = None,
    table: tuple[str, Peaks] | None = None,
) -> bytes:
    """A file as a message.

    Parameters
    ----------
    images : (ss, fs) or (frame, ss, fs)
        The pixels.
    headers
        Values by path: of the whole file, or one for each frame.
    data
        Path of the pixels.
    compression
        One of `COMPRESSIONS`.
    chunks
        Shape of the chunks; a frame each if not given.  With ``none`` and no chunks the data are contiguous.
    masks
        Arrays by path.
    cxi
        Path of a peak list in CXI layout, and the peaks of each frame.
    table
        Path of a peak list of one frame as a table.

    Raises
    ------
    KeyError
        If there is no such compression.
    """
    how = COMPRESSIONS[compression]
    if chunks is None and compression != "none":
        chunks = (1,) * (images.ndim - 2) + images.shape[-2:]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset(data, data=images, chunks=chunks, **how)
        for path, value in (*headers.items(), *(masks or {}).items()):
            file[path] = value
        if cxi is not None:
            put_cxi(file, *cxi)
        if table is not None:
            file[table[0]] = np.array(table[1], np.float32).T.reshape(-1, len(table[1]))
    return buffer.getvalue()


def put_cxi(file: h5py.File, path: str, lists: Sequence[Peaks], room: int = 0) -> None:
    """Write peak lists in CXI layout.

    Parameters
    ----------
    file
        Open for writing.
    path
        Of the group.
    lists
        Of each frame.
    room
        Peaks for which each row has room; as many as the longest list needs, if that is more.
    """
    room = max([room, *(len(one[0]) for one in lists)])
    file[f"{path}/{COUNT}"] = np.array([len(one[0]) for one in lists], np.int32)
    for column, name in enumerate(COLUMNS):
        values = np.zeros((len(lists), room), np.float32)
        for row, one in zip(values, lists, strict=True):
            row[: len(one[column])] = one[column]
        file[f"{path}/{name}"] = values
