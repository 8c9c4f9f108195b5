# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks that lie in the image files; those in files of their own are the business of `geometry.masks`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.geometry import MaskSource, Panel
from gpuidx.geometry.masks import Masks


class FrameMasks:
    """Reads masks, and keeps them while frames of the same file follow, if the masks are for all its frames.

    Parameters
    ----------
    masks
        Says which masks lie in the image files.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self._key: tuple[str, tuple[str, ...]] | None = None
        self._bad: NDArray[np.bool_] | None = None

    def bad(
        self, filename: str, open_mask: Callable[[str], Any], parts: Sequence[str], index: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Bad pixels of a frame by the masks in its file; (ss, fs), not to be written.

        Parameters
        ----------
        filename, parts, index
            Which frame.
        open_mask
            Gives the data set of a path that may hold ``%``.

        Raises
        ------
        Rejected
            If a mask is missing or does not suit the panels.
        """
        key = (filename, tuple(parts))
        if key == self._key and self._bad is not None:
            return self._bad
        planes: dict[Any, NDArray[Any]] = {}
        varies = False

        def read(mask: MaskSource, panel: Panel) -> NDArray[Any]:
            nonlocal varies
            data = open_mask(mask.data)
            chosen = _plane(data, panel, index)
            varies = varies or ("%" in panel.dims and data.ndim == len(panel.dims))
            if (data.name, chosen) not in planes:
                planes[data.name, chosen] = data[tuple(slice(None) if at is None else at for at in chosen)]
            plane = planes[data.name, chosen]
            if panel.max_ss >= plane.shape[0] or panel.max_fs >= plane.shape[1]:
                raise Rejected(
                    "bad mask", f"'{data.name}' has shape {data.shape}; panel {panel.name} is larger"
                )
            return plane[panel.min_ss : panel.max_ss + 1, panel.min_fs : panel.max_fs + 1]

        try:
            bad = self.masks.in_frame(read)
        except ValueError as error:
            raise Rejected("bad mask", f"{filename}: a mask {error}") from error
        self._key, self._bad = (None, None) if varies else (key, bad)
        return bad


def _plane(data: Any, panel: Panel, index: Sequence[int]) -> tuple[int | None, ...]:
    """Index of a mask's plane in each dimension, None for ss and fs.

    The dimensions that count frames may be missing, or have the size 1: then the mask is for all frames.
    """
    with_frames = data.ndim == len(panel.dims)
    dims = panel.dims if with_frames else tuple(dim for dim in panel.dims if dim != "%")
    if len(dims) != data.ndim:
        shown = ", ".join(map(str, panel.dims))
        raise Rejected("bad mask", f"'{data.name}' has shape {data.shape}; panel {panel.name} has ({shown})")
    frame = iter(index)
    chosen: list[int | None] = []
    for dim, extent in zip(dims, data.shape, strict=True):
        if dim in ("ss", "fs"):
            chosen.append(None)
            continue
        at = next(frame, -1) if dim == "%" else int(dim)
        if dim == "%" and extent == 1:
            at = 0
        if not 0 <= at < extent:
            raise Rejected("bad mask", f"'{data.name}' has shape {data.shape}; there is no index {at}")
        chosen.append(at)
    return tuple(chosen)
