# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak lists in HDF5 files, for ``--peaks=hdf5`` and ``--peaks=cxi``, from files and from messages."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_datasets import Group
from gpuidx.formats.hdf5_opened import Opened
from gpuidx.formats.hdf5_stored import Stored
from gpuidx.formats.peaks import MOST_PEAKS, PeakReader
from gpuidx.formats.setting import Setting
from gpuidx.model import PeakList

METHODS = ("hdf5", "cxi")
"""Values of ``--peaks`` that mean lists in HDF5 files; the layout is found out, as by CrystFEL 0.12."""

COUNT, COLUMNS = "nPeaks", ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity")
"""Names of a CXI list's data sets: number of peaks of each frame; fs, ss and intensity, one row a frame."""


class Hdf5Peaks:
    """Reads the list that ``peak_list`` of the geometry names: a table, or a group in CXI layout.

    A table has a row for each peak, fs, ss and intensity, perhaps a fourth column.  A CXI group has a row for
    each frame in each of its data sets, which may be longer than there are peaks.  Positions are those of the
    data array, of pixel centres; values are rounded to single precision.  CrystFEL 0.12, behaviour of
    ``image_read_peaks``, but that ``peak_list_type = auto`` looks what is there, not at the file's name.

    Parameters
    ----------
    setting
        Of the run; its notes count dropped peaks.
    stored
        Reads data sets.
    """

    def __init__(self, setting: Setting, stored: Stored) -> None:
        geometry, options = setting.geometry, setting.options
        self.path, self.kind, self._stored = geometry.peak_list, geometry.peak_list_type, stored
        self._measured_anew = options.revalidate
        self._reader = PeakReader(geometry, options.half_pixel_shift, setting.notes)

    def read(self, opened: Opened) -> PeakList:
        """The peaks of a frame.

        Raises
        ------
        Rejected
            If there is no list, or it is none.
        """
        fs, ss, intensity = self._cxi(opened) if self._is_cxi(opened) else self._table(opened)
        if self._measured_anew:
            intensity = np.where(np.isfinite(intensity), intensity, 0.0)
        return self._reader.peaks(fs, ss, intensity)

    def frame_count(self, opened: Opened) -> int | None:
        """Frames for which there are lists; None for a table, which does not tell."""
        if not self._is_cxi(opened):
            return None
        shape = opened.dataset(f"{self.path}/{COUNT}").shape
        return shape[0] if shape is not None and len(shape) == 1 else None

    def _is_cxi(self, opened: Opened) -> bool:
        if self.path is None:
            raise Rejected("bad peak list", "the geometry has no peak_list")
        if self.kind != "auto":
            return self.kind == "cxi"
        return isinstance(opened.entry(self.path), Group)

    def _cxi(self, opened: Opened) -> list[NDArray[np.float64]]:
        line = opened.index[0] if opened.index else 0
        counts = self._numbers(opened, f"{self.path}/{COUNT}", 1, line)
        if not opened.index and (counts.size or 0) > 1:
            raise Rejected(
                "bad peak list", f"'{counts.name}' has shape {counts.shape}, but there is one frame"
            )
        count = float(self._stored.read(counts, (line,)))
        if not 0 <= count <= MOST_PEAKS:
            raise Rejected(
                "bad peak list", f"'{counts.name}' has {count:g} peaks; expected at most {MOST_PEAKS}"
            )
        columns = []
        for name in COLUMNS:
            data = self._numbers(opened, f"{self.path}/{name}", 2, line)
            if data.shape[1] < int(count):
                raise Rejected(
                    "bad peak list", f"'{data.name}' has room for {data.shape[1]} of {int(count)} peaks"
                )
            columns.append(self._single(data, (line, slice(0, int(count)))))
        return columns

    def _table(self, opened: Opened) -> list[NDArray[np.float64]]:
        data = self._numbers(opened, str(self.path), 2)
        if opened.n_frame > 1:
            raise Rejected("bad peak list", f"'{data.name}' is one list, for {opened.n_frame} frames")
        if data.shape[1] not in (3, 4) or data.shape[0] > MOST_PEAKS:
            raise Rejected(
                "bad peak list",
                f"'{data.name}' has shape {data.shape}; expected (at most {MOST_PEAKS} peaks, 3 or 4)",
            )
        table = self._single(data, (slice(0, data.shape[0]), slice(0, data.shape[1])))
        return [table[:, column] for column in range(3)]

    def _numbers(self, opened: Opened, path: str, ndim: int, line: int = 0) -> Any:
        """A data set of numbers, which has this line."""
        data = opened.dataset(path)
        if data.dtype.kind not in "uif" or data.ndim != ndim:
            raise Rejected(
                "bad peak list",
                f"'{data.name}' has type {data.dtype} and shape {data.shape}; "
                f"expected numbers in {ndim} dimension{'s' if ndim > 1 else ''}",
            )
        if line and line >= (data.shape or (0,))[0]:
            raise Rejected("bad peak list", f"'{data.name}' has shape {data.shape}; there is no frame {line}")
        return data

    def _single(self, data: Any, chosen: Any) -> NDArray[np.float64]:
        """Numbers as CrystFEL reads them, in single precision."""
        if 0 in [at.stop for at in chosen if isinstance(at, slice)]:
            return np.zeros([at.stop for at in chosen if isinstance(at, slice)])
        with np.errstate(over="ignore", invalid="ignore"):
            return self._stored.read(data, chosen).astype(np.float32).astype(np.float64)
