# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings about the beam: which ring each pixel of the slab belongs to, and the numbers that fix peakfinder8.

What is here depends on the panels' positions, on the mask of bad pixels and on ``--min-res`` and
``--max-res``, and so is made once and used for many frames.  Nothing here looks at pixel values.

Source: peakfinder8 (Barty et al. 2014, J. Appl. Cryst. 47, 1118) with the arithmetic of CrystFEL 0.12.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import MAX_PEAKS as MAX_PEAKS
from gpuidx.errors import Rejected
from gpuidx.geometry.detector import Detector
from gpuidx.jit import jit

ROUNDS = 5
"""Times that a ring's pixels are averaged and its limits set anew."""
FIRST_LIMIT = 1e9
"""Limits of the first round, ADU: only pixels between minus and plus this count."""
SAMPLE = 100
"""Pixels per ring that ``--peakfinder8-fast`` looks at."""
FALLBACK_SIGMA = np.float32(0.01)
"""Spread of a background without pixels, or of negative variance by rounding; ADU."""
TINY = 1e-10
"""Sums and spreads below this count as nothing."""

MASKED = 0xFFFF
"""In place of a ring's number: a pixel that is never used."""
LARGEST_OFFSET = 32767
"""Largest |x| or |y| of a pixel, px: beyond, squares of distances do not fit 31 bits."""


@dataclass(frozen=True, eq=False)
class Rings:
    """The ring of each pixel.

    A ring holds the pixels whose distance from the beam rounds to its number.  Pixels are counted
    along the slab (pixel = row × width + column); a ring's own order is CrystFEL's: panel, slow, fast.

    Attributes
    ----------
    shape : (ss, fs)
        Of the slab.
    ring : (pixel,) uint16
        Number of the ring; `MASKED` for pixels that are bad, in no panel or outside the resolution limits.
    panel_of : (pixel,) uint16
        Number of the panel; 0 where there is none.
    count : (ring,) int32
        Usable pixels of each ring.
    rect : (panel, 4) int32
        x0, y0, width, height of each panel in the slab.
    placement : (panel, 6) float64
        x, y of the panel's corner, of a step along fs, of a step along ss; px.
    """

    shape: tuple[int, int]
    ring: NDArray[np.uint16]
    panel_of: NDArray[np.uint16]
    count: NDArray[np.int32]
    rect: NDArray[np.int32]
    placement: NDArray[np.float64]

    @property
    def n_ring(self) -> int:
        """Number of rings, those without a usable pixel included."""
        return len(self.count)

    @cached_property
    def start(self) -> NDArray[np.int32]:
        """First entry of each ring in `members`, and the end; (ring + 1,)."""
        return np.concatenate([[0], np.cumsum(self.count)]).astype(np.int32)

    @cached_property
    def members(self) -> NDArray[np.int32]:
        """Usable pixels sorted by ring, each ring in its own order; (usable pixel,)."""
        members = np.empty(int(self.start[-1]), np.int32)
        _sort_by_ring(self.ring, self.rect, self.shape[1], self.start[:-1].copy(), members)
        return members


def make_rings(
    detector: Detector, shape: tuple[int, int], bad: NDArray[np.bool_], min_res: int, max_res: int
) -> Rings:
    """Find the ring of each pixel.

    Parameters
    ----------
    detector
        Panels at the shift of the frame; their z is not used.
    shape : (ss, fs)
        Of the slab.
    bad : (ss, fs)
        True for pixels that must not be used.
    min_res, max_res
        Use pixels further than *min_res* from the beam, and nearer than *max_res* unless that is 0; px.

    Raises
    ------
    Rejected
        If a panel is too far from the beam, for instance for a senseless shift in a header.
    """
    placement = np.ascontiguousarray(
        np.hstack([detector.corner[:, :2], detector.fs[:, :2], detector.ss[:, :2]])
    )
    _check_extent(placement, detector.rect)
    ring = np.full(shape[0] * shape[1], MASKED, np.uint16)
    panel_of = np.zeros(len(ring), np.uint16)
    count = np.zeros(MASKED, np.int32)
    largest = _fill_rings(
        detector.rect, placement, shape[1], bad.reshape(-1), min_res, max_res, ring, panel_of, count
    )
    n_ring = int(np.ceil(largest)) + 1
    return Rings(shape, ring, panel_of, count[:n_ring], detector.rect, placement)


def _check_extent(placement: NDArray[np.float64], rect: NDArray[np.int32]) -> None:
    corner, along_fs, along_ss = placement[:, :2], placement[:, 2:4], placement[:, 4:]
    size = rect[:, 2:].astype(float)
    for fs in (0.0, 1.0):
        for ss in (0.0, 1.0):
            reach = np.abs(corner + fs * size[:, :1] * along_fs + ss * size[:, 1:] * along_ss)
            if not (reach < LARGEST_OFFSET).all():
                panel = int(np.argmin((reach < LARGEST_OFFSET).all(axis=1)))
                raise Rejected(
                    "detector out of range",
                    f"panel {panel} lies more than {LARGEST_OFFSET} pixels from the beam; check the shift",
                )


@jit
def radius_of(placement: NDArray[np.float64], panel: int, fs: int, ss: int) -> np.float32:
    """Distance of a pixel's first corner from the beam, px, with x and y cut to whole numbers.

    CrystFEL 0.12 cuts towards zero, so the ring numbers near the axes are what they are.
    """
    place = placement[panel]
    x = np.int64(place[0] + fs * place[2] + ss * place[4])
    y = np.int64(place[1] + fs * place[3] + ss * place[5])
    return np.float32(np.sqrt(np.float64(x * x + y * y)))


@jit
def _fill_rings(
    rect: NDArray[np.int32],
    placement: NDArray[np.float64],
    width: int,
    bad: NDArray[np.bool_],
    min_res: int,
    max_res: int,
    ring: NDArray[np.uint16],
    panel_of: NDArray[np.uint16],
    count: NDArray[np.int32],
) -> np.float32:
    """Fill the maps and counts; the greatest radius of any pixel, usable or not."""
    inner, outer = np.float32(min_res), np.float32(max_res)
    largest = np.float32(0)
    for panel in range(len(rect)):
        x0, y0, n_fs, n_ss = rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]
        for ss in range(n_ss):
            pixel = (y0 + ss) * width + x0
            for fs in range(n_fs):
                radius = radius_of(placement, panel, fs, ss)
                largest = max(largest, radius)
                panel_of[pixel] = panel
                # strict: without --min-res the pixels at radius 0 are still left out
                if radius > inner and (max_res == 0 or radius < outer) and not bad[pixel]:
                    number = np.int64(np.rint(radius))
                    ring[pixel] = number
                    count[number] += 1
                pixel += 1
    return largest


@jit
def _sort_by_ring(
    ring: NDArray[np.uint16],
    rect: NDArray[np.int32],
    width: int,
    place: NDArray[np.int32],
    members: NDArray[np.int32],
) -> None:
    """Counting sort; *place* is where each ring begins and is used up."""
    for panel in range(len(rect)):
        x0, y0, n_fs, n_ss = rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]
        for ss in range(n_ss):
            first = (y0 + ss) * width + x0
            for pixel in range(first, first + n_fs):
                number = ring[pixel]
                if number != MASKED:
                    members[place[number]] = pixel
                    place[number] += 1
