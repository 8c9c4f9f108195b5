# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in HDF5 files: pixels and header values by the paths in the geometry, the frame by its event.

An event is ``PATHS//INDICES``: what the ``%`` in paths stand for, joined by ``/``, then the frame's index
along each dimension that the geometry calls ``%``.  Files are the user's own, so external links and virtual
datasets are followed; a file that comes in a message is another matter and not read here.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.frame import PIXEL_OF, Buffers, check_shape, without_bad
from gpuidx.formats.hdf5_masks import FrameMasks
from gpuidx.formats.lookup import HeaderLookup, check_value
from gpuidx.geometry import DataArray, Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, HeaderValue, Message
from gpuidx.options import Options

OPEN_FILES = 2
"""Files that a worker keeps open: opening one costs as much as reading a small frame."""

OWN_FILTERS = 256
"""Filters with numbers from here on are not HDF5's own; hdf5plugin has them."""


def parse_event(event: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Path parts and indices of an event; ``//`` and the empty event have none.

    Raises
    ------
    Rejected
        If it has no ``//`` or an index is no number.
    """
    paths, slashes, indices = event.partition("//")
    try:
        numbers = tuple(int(word) for word in indices.split("/") if word)
    except ValueError:
        numbers = (-1,)
    if (event and not slashes) or any(number < 0 for number in numbers):
        raise Rejected("bad event", f"'{event}' is not understood; expected for instance //3 or entry//3")
    return tuple(word for word in paths.split("/") if word), numbers


def fill_path(path: str, parts: Sequence[str]) -> str:
    """A path with its ``%`` replaced, in order.

    Raises
    ------
    Rejected
        If there are more of them than parts.
    """
    if path.count("%") > len(parts):
        raise Rejected("bad event", f"the event has too few parts for the % in '{path}'")
    for part in parts[: path.count("%")]:
        path = path.replace("%", part, 1)
    return path


def one_line(error: Exception) -> str:
    """What an exception says, fit for a log: HDF5's texts are long and may hold line breaks."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def open_file(filename: str) -> Any:
    """An `h5py.File` for reading; a file that is being written is no obstacle.

    Raises
    ------
    Rejected
        If it cannot be opened.
    """
    try:
        return h5py.File(filename, "r", locking=False)
    except Exception as error:  # whatever HDF5 makes of a damaged file
        foreign = os.path.isfile(filename) and not h5py.is_hdf5(filename)  # noqa: PTH113  (never raises)
        why = "not an HDF5 file" if foreign else one_line(error)
        raise Rejected("file cannot be read", f"{filename}: {why}") from error


def dataset(file: Any, path: str) -> Any:
    """A dataset by its path.

    Raises
    ------
    Rejected
        If there is none.
    """
    found = file.get(path)
    if not isinstance(found, h5py.Dataset):
        what = "is not there" if found is None else "is a group"
        raise Rejected("missing key", f"'{path}' {what} in {file.filename}")
    return found


def frame_counts(filename: str, geometry: Geometry) -> list[int]:
    """How many frames a file holds along each ``%`` of the data's dimensions; empty if there is none.

    Raises
    ------
    Rejected
        If the file cannot be read, or the paths have ``%`` too.
    """
    array = geometry.arrays[0]
    if "%" in array.data:
        raise Rejected(
            "file cannot be read",
            f"{filename}: the frames of '{array.data}' cannot be listed; give each with its event",
        )
    if "%" not in array.dims:
        return []
    with open_file(filename) as file:
        try:
            shape = dataset(file, array.data).shape
        except Rejected as missing:
            raise Rejected("file cannot be read", missing.detail) from missing
        except Exception as error:
            raise Rejected("file cannot be read", f"{filename}: {one_line(error)}") from error
    if len(shape) != len(array.dims):
        raise Rejected(
            "file cannot be read", f"{filename}: '{array.data}' has shape {shape}; {_wants(array)}"
        )
    counts = [extent for extent, dim in zip(shape, array.dims, strict=True) if dim == "%"]
    if 0 in counts:
        raise Rejected("file cannot be read", f"{filename}: '{array.data}' has shape {shape}, so no frame")
    return counts


def _wants(array: DataArray) -> str:
    return f"the geometry has {len(array.dims)} dimensions ({', '.join(map(str, array.dims))})"


class Hdf5Files:
    """Reads the frames of files; keeps the last files open.

    Parameters
    ----------
    geometry, options
        Of the run.
    headers
        Looks up header values.
    masks
        Tells pixels that are bad in single frames.
    buffers
        Slabs to read into.
    """

    def __init__(
        self,
        geometry: Geometry,
        options: Options,
        headers: HeaderLookup,
        masks: Masks | None,
        buffers: Buffers,
    ) -> None:
        self.geometry, self.headers, self.masks = geometry, headers, masks
        self.buffers, self.with_image = buffers, options.image_data
        self._frame_masks = FrameMasks(masks) if masks is not None and masks.has_masks_in_frames else None
        self._open: OrderedDict[str, Any] = OrderedDict()

    def decode(self, message: Message) -> Frame:
        """The frame that the message names.

        Raises
        ------
        Rejected
            If it cannot be read, or anything in it does not fit the geometry.
        """
        parts, index = parse_event(message.event)
        for array in self.geometry.arrays:
            if array.dims.count("%") != len(index):
                raise Rejected(
                    "bad event", f"the event has {len(index)} indices for '{array.data}'; {_wants(array)}"
                )
        file = self._file(message.filename)
        try:
            values = self.headers.read(lambda name: self._value(file, fill_path(name, parts), index))
            image = self._image(file, parts, index) if self.with_image else None
        except Rejected:
            raise
        except Exception as error:  # whatever HDF5 makes of a damaged file
            self.close()
            raise Rejected("file cannot be read", f"{message.filename}: {one_line(error)}") from error
        return Frame(
            serial=message.serial,
            filename=message.filename,
            event=message.event,
            image=image,
            wavelength=values.wavelength,
            photon_energy=values.photon_energy,
            detector=values.detector,
            headers=values.headers,
        )

    def _file(self, filename: str) -> Any:
        if filename not in self._open:
            file = open_file(filename)
            while len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[filename] = file
        self._open.move_to_end(filename)
        return self._open[filename]

    def close(self) -> None:
        """Close the files."""
        while self._open:
            with suppress(Exception):  # a damaged file may not even close
                self._open.popitem()[1].close()

    def _value(self, file: Any, path: str, index: tuple[int, ...]) -> HeaderValue:
        """A header value: the only one there, or that of the frame."""
        found = dataset(file, path)
        if found.size == 1:
            value = found[()]
        elif index and found.shape[len(index) :] == (1,) * (found.ndim - len(index)):
            if any(i >= extent for i, extent in zip(index, found.shape, strict=False)):
                raise Rejected("bad header value", f"'{path}' has shape {found.shape}, the frame is {index}")
            value = found[index]
        else:
            raise Rejected(
                "bad header value", f"'{path}' has shape {found.shape}; expected one value per frame"
            )
        if isinstance(value, np.ndarray):
            value = value.reshape(-1)[0]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bytes):
            value = value.decode(errors="replace").rstrip("\0")
        return check_value(path, value)

    def _image(self, file: Any, parts: Sequence[str], index: tuple[int, ...]) -> NDArray[Any]:
        """All panels, read straight into the slab; HDF5 converts types as a C cast does."""
        found = []
        for array in self.geometry.arrays:
            data = dataset(file, fill_path(array.data, parts))
            found.append((array, data, self._selection(array, data, index)))
        kinds = {PIXEL_OF[data.dtype.str[1:]] for _, data, _ in found}
        image = self.buffers.get(self.geometry.slab_shape, kinds.pop() if len(kinds) == 1 else "f4")
        for array, data, selection in found:
            height, width = array.shape
            _load_filters(data)
            data.read_direct(image, selection, np.s_[array.row : array.row + height, :width])
        bad = self.masks.flagged(image) if self.masks is not None else None
        if self._frame_masks is not None:
            beside = self._frame_masks.bad(
                file.filename, lambda path: dataset(file, fill_path(path, parts)), parts, index
            )
            bad = beside if bad is None else bad | beside
        return without_bad(image, bad, self.buffers)

    def _selection(self, array: DataArray, data: Any, index: tuple[int, ...]) -> tuple[int | slice, ...]:
        """The part of a dataset that is this frame's, checked."""
        path, shape = data.name, data.shape
        if data.dtype.str[1:] not in PIXEL_OF or data.dtype.kind not in "uif":
            raise Rejected(
                "unknown pixel type", f"'{path}' has type {data.dtype}; expected integers or floats"
            )
        if len(shape) != len(array.dims):
            raise Rejected("wrong shape", f"'{path}' has shape {shape}; {_wants(array)}")
        check_shape(path, [shape[array.dims.index(d)] for d in ("ss", "fs")], array.shape)
        frame = iter(index)
        chosen: list[int | slice] = []
        for dim, extent in zip(array.dims, shape, strict=True):
            if dim in ("ss", "fs"):
                chosen.append(slice(0, array.shape[dim == "fs"]))
                continue
            at = next(frame) if dim == "%" else int(dim)
            if at >= extent:
                raise Rejected("wrong shape", f"'{path}' has shape {shape}; there is no index {at}")
            chosen.append(at)
        return tuple(chosen)


def _load_filters(data: Any) -> None:
    """Load hdf5plugin, which registers its filters, before data that need one are read."""
    pipeline = data.id.get_create_plist()
    if any(pipeline.get_filter(i)[0] >= OWN_FILTERS for i in range(pipeline.get_nfilters())):
        import hdf5plugin  # noqa: F401
