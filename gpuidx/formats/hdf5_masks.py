# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks and saturation maps in the files of frames; those in files of their own: `geometry.masks`."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import DataSet
from gpuidx.formats.hdf5_opened import Opened
from gpuidx.formats.hdf5_stored import Chosen, Stored
from gpuidx.geometry import Geometry, Panel
from gpuidx.geometry.masks import Masks

ReadPart = Callable[[str, Panel], NDArray[Any]]
"""Gives a panel's part (ss, fs) of the data set at a path."""


MOST_COMPARED = 2
"""Times the size of a plane; one whose bytes lie among more, as those of all frames, is read anew."""


class _Seen(NamedTuple):
    """What was read of a data set in a message: for which panel, what it was like, the bytes as stored."""

    path: str
    panel: Panel
    form: tuple[Any, ...]
    raw: bytes


class _OfFile:
    """Makes an array from data sets beside the frames, and keeps it while the frames have the same.

    Those of a file have if the data sets are for all its frames; those of messages if their bytes are equal.

    Parameters
    ----------
    stored
        Reads data sets.
    geometry
        Says how much of them is needed.
    make
        Makes the array, with a function that reads parts.
    word
        What it is, for texts.
    """

    def __init__(
        self, stored: Stored, geometry: Geometry, make: Callable[[ReadPart], NDArray[Any]], word: str
    ) -> None:
        self._stored, self._make, self._word = stored, make, word
        self._ends = {
            "ss": max(panel.max_ss for panel in geometry.panels) + 1,
            "fs": max(panel.max_fs for panel in geometry.panels) + 1,
        }
        self._key: Hashable = None
        self._seen: list[_Seen] = []
        self._kept: NDArray[Any] | None = None

    def array(self, opened: Opened) -> NDArray[Any]:
        """The array of a frame, not to be written.

        Raises
        ------
        Rejected
            If a data set is missing or does not suit the panels.
        """
        key = opened.masks_key
        if self._kept is not None and (self._is_same(opened) if key is None else key == self._key):
            return self._kept
        self._kept = None
        planes: dict[Any, NDArray[Any]] = {}
        seen: list[_Seen] = []
        varies, reason = False, f"bad {self._word}"

        def read(path: str, panel: Panel) -> NDArray[Any]:
            nonlocal varies
            data, dims = opened.dataset(path), opened.dims(panel.dims)
            chosen = _plane(data, panel, dims, opened.index, self._ends, reason)
            known = (data.name, str(chosen))
            if known not in planes:
                planes[known] = self._stored.read(data, chosen)
                raw = self._stored.raw(data, chosen) if key is None else b""
                if raw is None or len(raw) > MOST_COMPARED * planes[known].nbytes:
                    varies = True
                else:
                    seen.append(_Seen(path, panel, _form(data, chosen), bytes(raw)))
                if key is not None and "%" in dims and data.ndim == len(dims):
                    varies = True
            plane = planes[known]
            if panel.max_ss >= plane.shape[0] or panel.max_fs >= plane.shape[1]:
                raise Rejected(reason, f"'{data.name}' has shape {data.shape}; panel {panel.name} is larger")
            return plane[panel.min_ss : panel.max_ss + 1, panel.min_fs : panel.max_fs + 1]

        try:
            array = self._make(read)
        except ValueError as error:
            raise Rejected(reason, f"{opened.name}: a {self._word} {error}") from error
        if not varies:
            self._key, self._seen, self._kept = key, seen, array
        return array

    def _is_same(self, opened: Opened) -> bool:
        """Whether a message has the same data sets as the last one."""
        for path, panel, form, kept in self._seen:
            data = opened.dataset(path)
            chosen = _plane(
                data, panel, opened.dims(panel.dims), opened.index, self._ends, f"bad {self._word}"
            )
            raw = self._stored.raw(data, chosen) if _form(data, chosen) == form else None
            if raw is None or len(raw) != len(kept) or not np.array_equal(_bytes(raw), _bytes(kept)):
                return False
        return bool(self._seen)


def _form(data: DataSet, chosen: Chosen) -> tuple[Any, ...]:
    """What tells how bytes are to be read."""
    return data.dtype, data.shape, str(chosen), data.filters if data.chunk is not None else ()


def _bytes(raw: memoryview | bytes) -> NDArray[np.uint8]:
    return np.frombuffer(raw, np.uint8)


class FrameMasks:
    """Reads the masks that lie in the files of frames.

    Parameters
    ----------
    masks
        Says which masks those are.
    stored
        Reads data sets.
    geometry
        Says how much of them is needed.
    """

    def __init__(self, masks: Masks, stored: Stored, geometry: Geometry) -> None:
        def make(read: ReadPart) -> NDArray[np.bool_]:
            return masks.in_frame(lambda mask, panel: read(mask.data, panel))

        self._of_file = _OfFile(stored, geometry, make, "mask")

    def bad(self, opened: Opened) -> NDArray[np.bool_]:
        """Bad pixels of a frame by the masks in its file; (ss, fs), not to be written.

        Raises
        ------
        Rejected
            If a mask is missing or does not suit the panels.
        """
        return self._of_file.array(opened)


class FrameSaturation:
    """Reads the saturation maps that lie in the files of frames; parameters as those of `FrameMasks`."""

    def __init__(self, masks: Masks, stored: Stored, geometry: Geometry) -> None:
        self._of_file = _OfFile(stored, geometry, masks.saturation_in_frame, "saturation map")

    def limits(self, opened: Opened) -> NDArray[np.float32]:
        """Saturation of each pixel of a frame, ADU; (ss, fs), not to be written.

        Raises
        ------
        Rejected
            If a map is missing or does not suit the panels.
        """
        return self._of_file.array(opened)


def _plane(
    data: DataSet,
    panel: Panel,
    dims: tuple[str | int, ...],
    index: tuple[int, ...],
    ends: Mapping[str, int],
    reason: str,
) -> Chosen:
    """The part of a mask's plane that holds all panels, which end at *ends*.

    The dimensions that count frames may be missing, or have the size 1: then the mask is for all frames.
    """
    if data.dtype.kind not in "buif":
        raise Rejected(reason, f"'{data.name}' has type {data.dtype}; expected numbers")
    with_frames = data.ndim == len(dims)
    wanted = dims if with_frames else tuple(dim for dim in dims if dim != "%")
    if len(wanted) != data.ndim or data.shape is None:
        shown = ", ".join(map(str, dims))
        raise Rejected(reason, f"'{data.name}' has shape {data.shape}; panel {panel.name} has ({shown})")
    frame = iter(index)
    chosen: list[int | slice] = []
    for dim, extent in zip(wanted, data.shape, strict=True):
        if dim in ("ss", "fs"):
            chosen.append(slice(0, min(extent, ends[str(dim)])))
            continue
        at = next(frame, -1) if dim == "%" else int(dim)
        if dim == "%" and extent == 1:
            at = 0
        if not 0 <= at < extent:
            raise Rejected(reason, f"'{data.name}' has shape {data.shape}; there is no index {at}")
        chosen.append(at)
    return tuple(chosen)
