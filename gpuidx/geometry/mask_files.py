# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks and saturation maps read from files of their own, and cut to panels.

Those that lie in the image files are read with the images, by `gpuidx.formats`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import GeometryError
from gpuidx.geometry.description import MaskSource, Panel
from gpuidx.geometry.streaming import missing_file

Reader = Callable[[str, str], NDArray[Any]]
"""Gives a whole data set by file name and path within the file."""


def read_dataset(file: str, data: str) -> NDArray[Any]:
    """A whole HDF5 data set.

    Raises
    ------
    OSError
        If the file cannot be read.
    KeyError
        If there is no such data set.
    """
    import h5py  # only workers with masks need it

    import gpuidx.hdf5_filters  # noqa: F401  (masks are compressed, too)

    with h5py.File(file, "r") as opened:
        found = opened[data]
        if not isinstance(found, h5py.Dataset):
            raise KeyError(f"'{data}' is no data set")
        values: NDArray[Any] = np.asarray(found[()])
        return values


class MaskFiles:
    """Data sets by file and path, each read once."""

    def __init__(self, geometry_file: str, reader: Reader) -> None:
        self._geometry_file, self._reader = geometry_file, reader
        self._known: dict[tuple[str, str], NDArray[Any]] = {}

    def panel_part(self, file: str, data: str, panel: Panel, line: int | None) -> NDArray[Any]:
        """The part of a data set that belongs to a panel; (ss, fs), dtype as in the file.

        Raises
        ------
        GeometryError
            If the file cannot be read, or the data set does not suit the panel.
        """
        name = f"'{data}' in '{file}'"
        if "%" in data:
            text = f"{name}: which mask is meant depends on the frame; give a path without %"
            raise GeometryError(self._geometry_file, line, text)
        if (file, data) not in self._known:
            try:
                self._known[file, data] = self._reader(file, data)
            except FileNotFoundError as error:
                raise missing_file(self._geometry_file, line, file) from error
            except (OSError, KeyError, ValueError) as error:
                text = f"{name} cannot be read ({_first_line(error)}); expected a data set of an HDF5 file"
                raise GeometryError(self._geometry_file, line, text) from error
        try:
            return cut_to_panel(self._known[file, data], panel)
        except ValueError as error:
            raise GeometryError(self._geometry_file, line, f"{name}: {error}") from error


def cut_to_panel(array: NDArray[Any], panel: Panel) -> NDArray[Any]:
    """The part of an array, with dimensions as the panel's data have, that is the panel; (ss, fs).

    The dimension of the frames may be missing, as in CrystFEL, or have the size 1.

    Raises
    ------
    ValueError
        If the array has other dimensions or does not hold the panel.
    """
    dims = panel.dims
    if array.ndim != len(dims):
        dims = tuple(dim for dim in dims if dim != "%")
    if array.ndim != len(dims) or dims.count("fs") != 1 or dims.count("ss") != 1:
        shown = ", ".join(map(str, panel.dims))
        raise ValueError(f"has {array.ndim} dimensions; expected those of panel {panel.name}: {shown}")
    index: list[slice | int] = []
    for dim, size in zip(dims, array.shape, strict=True):
        if dim == "%":
            if size != 1:
                raise ValueError(f"holds {size} masks, one for each frame; expected one for all")
            index.append(0)
            continue
        ends = {"fs": (panel.min_fs, panel.max_fs), "ss": (panel.min_ss, panel.max_ss)}
        first, last = ends[dim] if isinstance(dim, str) else (dim, dim)
        if last >= size:
            raise ValueError(f"has the shape {array.shape}, which does not hold panel {panel.name}")
        index.append(slice(first, last + 1) if isinstance(dim, str) else dim)
    part: NDArray[Any] = array[tuple(index)]
    return part


def bad_by_bits(values: NDArray[Any], mask: MaskSource) -> NDArray[np.bool_]:
    """Where a mask says that a pixel is bad: a good bit is missing or a bad bit is set.

    Raises
    ------
    ValueError
        If the mask does not hold numbers.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"has values of type {values.dtype}; expected numbers")
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    with np.errstate(invalid="ignore"):
        bits = values.astype(np.int64)
    bad = (bits & mask.bad_bits) != 0 if mask.bad_bits else np.zeros(bits.shape, bool)
    if mask.good_bits:
        bad |= (bits & mask.good_bits) != mask.good_bits
    return bad


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:100].strip("'\"")
