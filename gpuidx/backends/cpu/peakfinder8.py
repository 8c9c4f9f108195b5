# SPDX-License-Identifier: GPL-3.0-or-later
"""peakfinder8 on the CPU, with CrystFEL's peaks to the last bit.

The search in short (Barty et al. 2014, J. Appl. Cryst. 47, 1118; CrystFEL 0.12): the pixels are sorted
into rings about the beam; each ring's mean and limits are found by averaging five times over, each time
without what lay beyond the limits; pixels above their ring's upper limit that hang together are
a peak, if they pass the criteria against the background about them.

The result is fixed by float32 sums in CrystFEL's order.  Two ways lead to the means and limits and give
the same bits: `packed` for photon counts, `lanes` for any data; a third, `sampled`, is that of
``--peakfinder8-fast``.  `growth` does the rest.
"""

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu import growth
from gpuidx.backends.cpu.clipping import Clip
from gpuidx.backends.cpu.lanes import LaneSums
from gpuidx.backends.cpu.packed import PackedSums
from gpuidx.backends.cpu.sampled import SampledSums
from gpuidx.backends.filters import NO_RULES, Filters
from gpuidx.backends.peak_table import peak_list, unsaturated
from gpuidx.backends.rings import MAX_PEAKS, Rings, make_rings
from gpuidx.backends.values import Rules, check_image, float32_rules
from gpuidx.geometry.detector import Detector, Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame, PeakList
from gpuidx.options import PeakOptions

KEPT_TABLES = 2
"""Sets of tables kept: for runs in which a header moves the detector to and fro."""
LONGEST_PAUSE = 64
"""Frames at most for which `packed` is not tried after it has failed."""


class PeakFinder:
    """Finds the peaks of frames of one run.

    Not for several threads at once: it owns buffers.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    use_packed
        False to leave the way of photon counts alone; the peaks are the same.
    """

    def __init__(
        self, geometry: Geometry, options: PeakOptions, masks: Masks, *, use_packed: bool = True
    ) -> None:
        self.geometry, self.options, self.masks = geometry, options, masks
        self._use_packed = use_packed
        self._filters = Filters.wanted(geometry, options, masks)
        self._rules = NO_RULES if self._filters is not None else float32_rules(masks.rules)
        self._criteria = growth.Criteria(
            np.float32(options.min_snr),
            options.min_pix_count,
            options.max_pix_count,
            options.local_bg_radius,
        )
        saturation = None if options.use_saturated else masks.saturation_map
        self._saturation = np.empty(0, np.float32) if saturation is None else saturation.reshape(-1)
        self._found = np.empty((MAX_PEAKS, growth.N_COLUMN), np.float32)
        self._searches: OrderedDict[tuple[int, bytes], tuple[NDArray[np.bool_], Search]] = OrderedDict()

    def find(self, frame: Frame) -> PeakList:
        """Peaks of one frame in the order of the search; at most `MAX_PEAKS`.

        A frame without pixels (``--no-image-data``) has none.  With ``--no-use-saturated`` saturated peaks
        go last of all (see `gpuidx.backends.peak_table.unsaturated`).

        Returns
        -------
        peaks
            Positions are centres of mass (float32, as CrystFEL computes them) plus half a pixel; intensities
            are float32 numbers.

        Raises
        ------
        Rejected
            If the frame's detector is out of range.
        TypeError
            If the image is not a slab as `Frame` promises: other shape, dtype or memory layout.
        """
        if frame.image is None:
            return _peak_list(self._found[:0])
        check_image(frame.image, self.geometry.slab_shape)
        search = self._search(frame.detector, self.masks.at(frame.detector, frame.wavelength))
        image = frame.image if self._filters is None else self._filters.image(frame.image)
        found = search.peaks(image.reshape(-1), self._criteria, self._saturation, self._found)
        if not self.options.use_saturated:
            highest, saturated = found[:, growth.HIGHEST], found[:, growth.SATURATED]
            found = found[unsaturated(highest, saturated, found[:, growth.PANEL], self.masks.saturation)]
        return _peak_list(found)

    def _search(self, detector: Detector, bad: NDArray[np.bool_]) -> "Search":
        """Tables and buffers for a position and mask; the array *bad* is kept, so its id stays its own."""
        key = (id(bad), detector.corner[:, :2].tobytes())
        if key in self._searches:
            self._searches.move_to_end(key)
            return self._searches[key][1]
        options = self.options
        rings = make_rings(detector, self.geometry.slab_shape, bad, options.min_res, options.max_res)
        while len(self._searches) >= KEPT_TABLES:
            self._searches.popitem(last=False)
        search = Search(rings, self._rules, options, use_packed=self._use_packed)
        self._searches[key] = (bad, search)
        return search


class Search:
    """Candidates and peaks of frames with the same rings; chooses the way to the statistics by the data.

    Attributes
    ----------
    way
        How the last frame's statistics were made: ``"packed"``, ``"lanes"`` or ``"sampled"``.
    """

    def __init__(self, rings: Rings, rules: Rules, options: PeakOptions, *, use_packed: bool = True) -> None:
        self.rings, self.rules, self.use_packed = rings, rules, use_packed
        self.clip = Clip(np.float32(options.min_snr), np.float32(options.threshold))
        self.place = growth.Place(rings.ring, rings.panel_of, rings.rect, rings.placement, rings.shape[1])
        self.taken = np.zeros(len(rings.ring), np.uint8)
        self.way = ""
        self._sampled = SampledSums(rings, rules, self.clip) if options.peakfinder8_fast else None
        self._packed: PackedSums | None = None
        self._lanes: LaneSums | None = None
        self._pause = self._longest = 0

    def peaks(
        self,
        image: NDArray[Any],
        criteria: growth.Criteria,
        saturation: NDArray[np.float32],
        found: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Peaks of a slab (pixel,), as rows of *found*; see `growth.find_peaks`."""
        candidates, sums = self.statistics(image)
        if len(self.rings.rect) > 1:
            # by panel, then along the slab
            candidates = candidates[np.argsort(self.rings.panel_of[candidates], kind="stable")]
        queue = np.empty_like(candidates)
        n = growth.find_peaks(
            image, candidates, self.place, sums.mean, sums.upper, self.rules, criteria, saturation,
            self.taken, queue, found,
        )  # fmt: skip
        return found[:n]

    def statistics(
        self, image: NDArray[Any]
    ) -> tuple[NDArray[np.int32], PackedSums | LaneSums | SampledSums]:
        """Pixels above their ring's limit, along the slab, and what holds the rings' means and limits."""
        if self._sampled is not None:
            self.way = "sampled"
            return self._sampled.candidates(image), self._sampled
        if self.use_packed and image.dtype.kind in "iu":
            candidates = self._try_packed(image)
            if candidates is not None and self._packed is not None:
                self.way = "packed"
                return candidates, self._packed
        self._lanes = self._lanes or LaneSums(self.rings, self.rules, self.clip)
        self.way = "lanes"
        return self._lanes.candidates(image), self._lanes

    def _try_packed(self, image: NDArray[Any]) -> NDArray[np.int32] | None:
        """Candidates by `packed`, or None.

        Frames of one run are alike, so after each failure it is left alone for twice as many frames.
        """
        if self._pause > 0:
            self._pause -= 1
            return None
        self._packed = self._packed or PackedSums(self.rings, self.rules, self.clip)
        candidates = self._packed.candidates(image) if self._packed.suits() else None
        self._longest = 0 if candidates is not None else min(2 * self._longest + 1, LONGEST_PAUSE)
        self._pause = self._longest
        return candidates


def _peak_list(found: NDArray[np.float32]) -> PeakList:
    return peak_list(
        found[:, growth.FS], found[:, growth.SS], found[:, growth.PANEL], found[:, growth.INTENSITY]
    )
