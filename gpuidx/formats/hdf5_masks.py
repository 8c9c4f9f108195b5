# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks that lie in the image files; those in files of their own are the business of `geometry.masks`."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_stored import Chosen, Stored
from gpuidx.geometry import MaskSource, Panel
from gpuidx.geometry.masks import Masks

if TYPE_CHECKING:
    from gpuidx.formats.hdf5_frame import Opened


class FrameMasks:
    """Reads masks, and keeps them while frames of the same file follow, if the masks are for all its frames.

    Parameters
    ----------
    masks
        Says which masks lie in the image files.
    stored
        Reads data sets.
    """

    def __init__(self, masks: Masks, stored: Stored) -> None:
        self.masks, self._stored = masks, stored
        self._key: Hashable = None
        self._bad: NDArray[np.bool_] | None = None

    def bad(self, opened: "Opened") -> NDArray[np.bool_]:
        """Bad pixels of a frame by the masks in its file; (ss, fs), not to be written.

        Raises
        ------
        Rejected
            If a mask is missing or does not suit the panels.
        """
        key = opened.masks_key
        if key is not None and key == self._key and self._bad is not None:
            return self._bad
        planes: dict[Any, NDArray[Any]] = {}
        varies = False

        def read(mask: MaskSource, panel: Panel) -> NDArray[Any]:
            nonlocal varies
            data, dims = opened.dataset(mask.data), opened.dims(panel.dims)
            chosen = _plane(data, panel, dims, opened.index)
            varies = varies or ("%" in dims and data.ndim == len(dims))
            known = (data.name, str(chosen))
            if known not in planes:
                planes[known] = self._stored.read(data, chosen)
            plane = planes[known]
            if panel.max_ss >= plane.shape[0] or panel.max_fs >= plane.shape[1]:
                raise Rejected(
                    "bad mask", f"'{data.name}' has shape {data.shape}; panel {panel.name} is larger"
                )
            return plane[panel.min_ss : panel.max_ss + 1, panel.min_fs : panel.max_fs + 1]

        try:
            bad = self.masks.in_frame(read)
        except ValueError as error:
            raise Rejected("bad mask", f"{opened.name}: a mask {error}") from error
        self._key, self._bad = (None, None) if varies or key is None else (key, bad)
        return bad


def _plane(data: Any, panel: Panel, dims: tuple[str | int, ...], index: tuple[int, ...]) -> Chosen:
    """A mask's plane, which holds all panels.

    The dimensions that count frames may be missing, or have the size 1: then the mask is for all frames.
    """
    if data.dtype.kind not in "buif":
        raise Rejected("bad mask", f"'{data.name}' has type {data.dtype}; expected numbers")
    with_frames = data.ndim == len(dims)
    wanted = dims if with_frames else tuple(dim for dim in dims if dim != "%")
    if len(wanted) != data.ndim or data.shape is None:
        shown = ", ".join(map(str, dims))
        raise Rejected("bad mask", f"'{data.name}' has shape {data.shape}; panel {panel.name} has ({shown})")
    frame = iter(index)
    chosen: list[int | slice] = []
    for dim, extent in zip(wanted, data.shape, strict=True):
        if dim in ("ss", "fs"):
            chosen.append(slice(0, extent))
            continue
        at = next(frame, -1) if dim == "%" else int(dim)
        if dim == "%" and extent == 1:
            at = 0
        if not 0 <= at < extent:
            raise Rejected("bad mask", f"'{data.name}' has shape {data.shape}; there is no index {at}")
        chosen.append(at)
    return tuple(chosen)
