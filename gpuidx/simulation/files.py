# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames as HDF5 files, in the layout that their geometry asks for, and the list of them."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import GeometryError
from gpuidx.geometry.detector import Geometry
from gpuidx.simulation.detector import MASK_PATH
from gpuidx.simulation.encode_hdf5 import COMPRESSIONS, Peaks, put_cxi
from gpuidx.simulation.frames import SimulatedFrame

NOT_COMPRESSED = COMPRESSIONS["none"]


def write_frames(
    frames: Iterable[SimulatedFrame],
    n_frame: int,
    prefix: Path,
    geometry: Geometry,
    compression: Mapping[str, Any] = NOT_COMPRESSED,
) -> list[Path]:
    """Write frames: all into one file if the arrays have a dimension for frames, else one file each.

    Parameters
    ----------
    frames, n_frame
        The frames, and how many there are.
    prefix
        ``PREFIX.h5`` or ``PREFIX_00000.h5`` and so on, and ``PREFIX.lst`` are written.
    geometry
        Names and dimensions of the arrays.
    compression
        Arguments of ``create_dataset``.

    Returns
    -------
    files
        In order; the list file names the same.

    Raises
    ------
    GeometryError
        If the layout needs more than one dimension for frames, or a placeholder in a path.
    """
    stacked = _is_stacked(geometry)
    files = []
    if stacked:
        files.append(prefix.with_name(prefix.name + ".h5"))
        with h5py.File(files[0], "w") as file:
            for number, frame in enumerate(frames):
                if number == 0:
                    _create(file, geometry, frame, n_frame, compression)
                _put(file, geometry, frame, number)
    else:
        for number, frame in enumerate(frames):
            files.append(prefix.with_name(f"{prefix.name}_{number:05d}.h5"))
            with h5py.File(files[-1], "w") as file:
                _create(file, geometry, frame, None, compression)
                _put(file, geometry, frame, None)
    listed = "".join(f"{file.resolve()}\n" for file in files)  # whole paths: good from any folder
    prefix.with_name(prefix.name + ".lst").write_text(listed)
    return files


def frame_file(
    frame: SimulatedFrame,
    geometry: Geometry,
    compression: Mapping[str, Any],
    peaks: Peaks | None = None,
) -> bytes:
    """A file of one frame, in the layout that the geometry asks for, as a message.

    Parameters
    ----------
    frame, geometry
        The frame, names and dimensions of the arrays.
    compression
        Arguments of ``create_dataset``.
    peaks
        Its peak list, for a geometry that asks for one; in CXI layout.

    Raises
    ------
    GeometryError
        As `write_frames`.
    """
    number = 0 if _is_stacked(geometry) else None
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _create(file, geometry, frame, None if number is None else 1, compression)
        _put(file, geometry, frame, number)
        if peaks is not None and geometry.peak_list is not None:
            put_cxi(file, geometry.peak_list, [peaks])
    return buffer.getvalue()


def write_mask(bad: NDArray[np.bool_], path: Path) -> None:
    """Write a mask as big as the slab, 1 = bad, for ``mask0_file`` of a geometry."""
    with h5py.File(path, "w") as file:
        file.create_dataset(MASK_PATH, data=bad.astype(np.uint8), compression="gzip")


def _is_stacked(geometry: Geometry) -> bool:
    """Whether the arrays have a dimension for frames."""
    counts = {array.dims.count("%") for array in geometry.arrays}
    if any("%" in array.data for array in geometry.arrays) or counts not in ({0}, {1}):
        raise GeometryError(
            geometry.file,
            None,
            "simulation writes arrays with one %, or none, among their dimensions, no % in paths",
        )
    return counts == {1}


def _create(
    file: h5py.File,
    geometry: Geometry,
    frame: SimulatedFrame,
    n_frame: int | None,
    compression: Mapping[str, Any] = NOT_COMPRESSED,
) -> None:
    """Make the data sets; *n_frame* is None for a file of one frame."""
    shapes: dict[str, list[int]] = {}
    for array in geometry.arrays:
        sizes = {"ss": array.shape[0], "fs": array.shape[1], "%": n_frame or 1}
        shape = [sizes[dim] if isinstance(dim, str) else dim + 1 for dim in array.dims]
        known = shapes.setdefault(array.data, shape)
        shapes[array.data] = [max(pair) for pair in zip(known, shape, strict=True)]
    for array in geometry.arrays:
        if array.data not in file:
            chunks = tuple(
                size if dim in ("ss", "fs") else 1
                for dim, size in zip(array.dims, shapes[array.data], strict=True)
            )
            file.create_dataset(
                array.data, shapes[array.data], frame.image.dtype, chunks=chunks, **compression
            )
    for name, value in (*frame.headers.items(), ("truth_id", frame.truth.number)):
        kind = np.int64 if isinstance(value, int) else np.float64
        file.create_dataset(name, () if n_frame is None else (n_frame,), kind)


def _put(file: h5py.File, geometry: Geometry, frame: SimulatedFrame, number: int | None) -> None:
    for array in geometry.arrays:
        height, width = array.shape
        place: tuple[Any, ...] = tuple(
            {"ss": slice(height), "fs": slice(width), "%": number}[dim] if isinstance(dim, str) else dim
            for dim in array.dims
        )
        file[array.data][place] = frame.image[array.row : array.row + height, :width]
    for name, value in (*frame.headers.items(), ("truth_id", frame.truth.number)):
        file[name][() if number is None else number] = value
