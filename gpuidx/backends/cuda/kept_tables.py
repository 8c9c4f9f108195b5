# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup tables on a device for the few detector positions and masks that a run has at a time."""

from collections import Counter, OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cuda.buffers import KEPT_TABLES
from gpuidx.backends.cuda.peakfinder8 import DeviceTables
from gpuidx.backends.cuda.tables import make_tables
from gpuidx.backends.rings import make_rings
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame
from gpuidx.options import PeakOptions

TableKey = tuple[tuple[bytes, float], bytes, int]
"""What tables are for: key of the mask, x and y of the panels, identity of the pixel mask of the series."""


class KeptTables:
    """Makes tables when they are first needed, and keeps the `KEPT_TABLES` used last.

    What is dropped lives on as long as a batch that uses it.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    n_frame
        Frames of a batch.
    """

    def __init__(self, geometry: Geometry, options: PeakOptions, masks: Masks, n_frame: int) -> None:
        self._geometry, self._options, self._masks, self._n_frame = geometry, options, masks, n_frame
        # with the pixel mask, whose identity is part of the key
        self._kept: OrderedDict[TableKey, tuple[DeviceTables, NDArray[np.bool_] | None]] = OrderedDict()

    def key(self, frame: Frame) -> TableKey:
        """Equal for frames with the same mask and rings."""
        detector = frame.detector
        corners = detector.corner[:, :2].tobytes()
        return self._masks.key(detector, frame.wavelength), corners, id(_masked(frame))

    def affordable(self, wanted: Iterable[TableKey]) -> list[TableKey]:
        """Those for which there is room and time: first what is there, then what most frames want.

        Making tables takes as long as a CPU needs for several frames; where each frame has its own position
        or mask (``--highres`` with a wavelength for each shot), many workers do it sooner than one device.

        Parameters
        ----------
        wanted
            Keys, one for each frame of a batch.
        """
        n_frame = Counter(wanted)
        return sorted(n_frame, key=lambda key: (key not in self._kept, -n_frame[key]))[:KEPT_TABLES]

    def get(self, frame: Frame) -> DeviceTables:
        """Tables for a frame's position and mask.

        Raises
        ------
        Rejected
            If the detector is out of range.
        """
        key = self.key(frame)
        if key not in self._kept:
            made = self._make(frame)
            while len(self._kept) >= KEPT_TABLES:
                self._kept.popitem(last=False)
            self._kept[key] = made, _masked(frame)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _make(self, frame: Frame) -> DeviceTables:
        import cupy

        options, shape = self._options, self._geometry.slab_shape
        bad, masked = self._masks.at(frame.detector, frame.wavelength), _masked(frame)
        bad = bad if masked is None else bad | masked
        rings = make_rings(frame.detector, shape, bad, options.min_res, options.max_res)
        host = make_tables(rings, sampled=options.peakfinder8_fast)
        arrays = {name: cupy.asarray(array) for name, array in host.arrays().items()}
        mean, upper = (cupy.empty((self._n_frame, host.n_ring), np.float32) for _ in range(2))
        cupy.cuda.get_current_stream().synchronize()  # the kernels run on another stream
        return DeviceTables(host, arrays, mean, upper)


def _masked(frame: Frame) -> NDArray[np.bool_] | None:
    """Pixels that are bad in the whole series and were not taken out of the image."""
    return None if frame.packed is None else frame.packed.masked
