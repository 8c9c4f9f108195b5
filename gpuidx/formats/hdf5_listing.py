# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames a file of the user's holds, and whether it is complete enough to be read."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import h5py

from gpuidx.errors import Rejected
from gpuidx.formats import cbf
from gpuidx.formats.hdf5 import open_file
from gpuidx.formats.hdf5_opened import fill_path, one_line, parse_event, wants
from gpuidx.geometry import DataArray, Geometry

UNREADABLE = "file cannot be read"


def frames_in(filename: str, geometry: Geometry) -> list[tuple[str, list[int]]]:
    """The frames of a file, as CrystFEL 0.12 finds them: by the data of the first panel.

    Returns
    -------
    For each data set what stands for the ``%`` of its path, joined by slashes, in the order of the names; and
    how many frames there are along each ``%`` of its dimensions.  A CBF image is one frame.

    Raises
    ------
    Rejected
        If the file cannot be read, or has no frame.
    """
    array = geometry.arrays[0]
    if ("%" not in array.data and "%" not in array.dims) or cbf.file_begins(filename):
        return [("", [])]
    with open_file(filename) as file:
        try:
            found = list(_datasets(file, array.data.strip("/").split("/"), ()))
            counted = [("/".join(parts), _counts(data, array)) for parts, data in found]
        except Rejected as rejected:
            raise Rejected(UNREADABLE, f"{filename}: {rejected.detail}") from rejected
        except Exception as error:  # whatever HDF5 makes of a damaged file
            raise Rejected(UNREADABLE, f"{filename}: {one_line(error)}") from error
    frames = [(paths, counts) for paths, counts in counted if 0 not in counts]
    if not frames:
        what = f"the shape of '{array.data}' leaves no frame" if counted else f"no data set at '{array.data}'"
        raise Rejected(UNREADABLE, f"{filename}: {what}")
    return frames


def _datasets(
    group: Any, names: Sequence[str], parts: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Data sets on a path with ``%``, and what stands for these; what does not fit is left out."""
    name, *rest = names
    for child, filled in _fitting(group, name):
        found = group.get(child)  # None: a link to nothing
        if rest and isinstance(found, h5py.Group):
            yield from _datasets(found, rest, parts + filled)
        elif not rest and isinstance(found, h5py.Dataset):
            yield parts + filled, found


def _fitting(group: Any, name: str) -> list[tuple[str, tuple[str, ...]]]:
    if "%" not in name:
        return [(name, ())]
    pattern = re.compile("(.+)".join(map(re.escape, name.split("%"))), re.DOTALL)
    children = sorted(group, key=lambda child: child.encode("utf-8", "surrogateescape"))
    return [(child, fits.groups()) for child in children if (fits := pattern.fullmatch(child))]


def _counts(data: Any, array: DataArray) -> list[int]:
    shape = data.shape or ()  # None: the data set holds nothing at all
    if len(shape) != len(array.dims):
        raise Rejected(UNREADABLE, f"'{data.name}' has shape {shape}; {wants(array.dims)}")
    return [extent for extent, dim in zip(shape, array.dims, strict=True) if dim == "%"]


def check_complete(filename: str, event: str, geometry: Geometry) -> None:
    """See whether a file can be read already: its writer may be at it.

    Raises
    ------
    Rejected
        If it cannot.
    """
    if cbf.file_begins(filename):
        cbf.check_complete(filename)
        return
    path = fill_path(geometry.arrays[0].data, parse_event(event)[0])
    with open_file(filename) as file:
        if not isinstance(file.get(path), h5py.Dataset):
            raise Rejected(UNREADABLE, f"{filename}: no data set at '{path}'")
