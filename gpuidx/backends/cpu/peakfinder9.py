# SPDX-License-Identifier: GPL-3.0-or-later
"""peakfinder9 on the CPU: peaks that stand out from the pixels in a small distance around them.

Our own, after the description in CrystFEL's manual (which names Y. Gevorkov's master thesis, "Real-time image
analysis and data compression in high throughput X-ray diffraction experiments") and, where that leaves room,
the behaviour of an old public version of FDIP, the library that has it; no code is taken over.

Conditions, the cheap ones first, of which all must hold for a pixel to be the summit of a peak:

1. it is higher than each of its eight neighbours;
2. it is by ``--min-peak-over-neighbour`` higher than the pixels around, at the distance
   ``--local-bg-radius``;
3. it is ``--min-snr-biggest-pix`` sigma above their mean; their sigma is taken to be ``--min-sig`` at least;
4. all that belongs to the peak is together ``--min-snr`` sigma above it.  To the peak belong, besides the
   summit, pixels nearer than that distance that are ``--min-snr-peak-pix`` sigma above the mean, square ring
   by square ring, up to the first ring without any.

Bad pixels are nobody's neighbours.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.discs import Pixels, box, pixels_of
from gpuidx.backends.filters import NO_RULES, Filters
from gpuidx.backends.values import Rules, check_image, float32_rules, value_of
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.jit import jit
from gpuidx.model import Frame, PeakList
from gpuidx.options import PeakOptions

MOST_OF_PANEL = 10000
"""Peaks of one panel; CrystFEL keeps as many."""

SIDE = 2
"""The pixels around are those of a square's sides up to so far from their middles: no corners."""

FEWEST_AROUND = 4
"""With fewer good pixels around there is no background to compare with."""

N_COLUMN = 3
FS, SS, INTENSITY = range(N_COLUMN)
"""Columns of the peaks found."""


class Criteria(NamedTuple):
    """What a peak must be: in sigma, ADU and px, see the head of this file."""

    min_snr_biggest_pix: float
    min_snr_peak_pix: float
    min_snr: float
    min_sig: float
    min_peak_over_neighbour: float
    radius: int
    use_saturated: bool


class Peakfinder9:
    """Finds the peaks of frames of one run.

    Not for several threads at once: it owns buffers.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    """

    def __init__(self, geometry: Geometry, options: PeakOptions, masks: Masks) -> None:
        self._geometry, self._masks = geometry, masks
        self._filters = Filters.wanted(geometry, options, masks)
        self._criteria = Criteria(
            options.min_snr_biggest_pix,
            options.min_snr_peak_pix,
            options.min_snr,
            options.min_sig,
            options.min_peak_over_neighbour,
            options.local_bg_radius,
            options.use_saturated,
        )
        self._found = np.empty((MOST_OF_PANEL, N_COLUMN))

    def find(self, frame: Frame) -> PeakList:
        """Peaks of one frame, panel by panel and row by row; none of a frame without pixels.

        Returns
        -------
        peaks
            Positions are centres of mass, and intensities sums, above the mean of the pixels around.

        Raises
        ------
        TypeError
            If the image is not a slab as `Frame` promises: other shape, dtype or memory layout.
        """
        lists = [] if frame.image is None else self._search(frame, frame.image)
        columns = np.concatenate([np.empty((0, N_COLUMN)), *lists])
        return PeakList(
            fs=columns[:, FS].copy(),
            ss=columns[:, SS].copy(),
            panel=np.repeat(np.arange(len(lists), dtype=np.int32), [len(found) for found in lists]),
            intensity=columns[:, INTENSITY].copy(),
        )

    def _search(self, frame: Frame, image: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Peaks of each panel, (peak, 3)."""
        check_image(image, self._geometry.slab_shape)
        bad, rules = self._masks.at(frame.detector, frame.wavelength), float32_rules(self._masks.rules)
        if self._filters is not None:
            image, rules = self._filters.image(image), NO_RULES
        pixels = pixels_of(image, bad, rules, self._masks, frame.detector.rect)
        lists = []
        for panel in range(len(self._geometry.panels)):
            n = _search_panel(pixels, panel, self._criteria, self._found)
            lists.append(self._found[:n].copy())
        return lists


@jit
def _search_panel(pixels: Pixels, panel: int, criteria: Criteria, found: NDArray[np.float64]) -> int:
    """Write the peaks of a panel to *found* (peak, 3), up to its length; their number."""
    x0, y0, n_fs, n_ss = box(pixels, panel)
    # not all of *pixels*, which takes longer to hand over than to find that a pixel is no summit
    image, bad, rules, width = pixels.image, pixels.bad, pixels.rules, pixels.width
    radius = criteria.radius
    around = np.empty(4 * (2 * SIDE + 1))
    n_found = 0
    for ss in range(radius, n_ss - radius):
        for fs in range(radius, n_fs - radius):
            pixel = (y0 + ss) * width + x0 + fs
            if not _is_summit(image, bad, rules, width, pixel):
                continue
            value = float(np.float32(image[pixel]))
            limit = value - criteria.min_peak_over_neighbour
            n = _look_around(image, bad, rules, width, pixel, radius, limit, around)
            if n < FEWEST_AROUND:
                continue
            mean, sigma = _mean_and_sigma(around[:n])
            sigma = max(sigma, criteria.min_sig)
            if not value > mean + criteria.min_snr_biggest_pix * sigma:
                continue
            if _measure(pixels, pixel, panel, fs, ss, mean, sigma, criteria, found[n_found]):
                n_found += 1
                if n_found == len(found):
                    return n_found
    return n_found


@jit
def _value(image: NDArray[Any], bad: NDArray[np.bool_], rules: Rules, pixel: int) -> float:
    """The value of a pixel; NaN if it is bad."""
    return np.nan if bad[pixel] else float(value_of(image, pixel, rules))


@jit
def _is_summit(image: NDArray[Any], bad: NDArray[np.bool_], rules: Rules, width: int, pixel: int) -> bool:
    """Whether a pixel is good and higher than its good neighbours."""
    height = value_of(image, pixel, rules)
    if bad[pixel] or np.isnan(height):
        return False
    for near_ss in range(-1, 2):
        for near_fs in range(-1, 2):
            near = pixel + near_ss * width + near_fs
            if near != pixel and height <= value_of(image, near, rules) and not bad[near]:
                return False
    return True


@jit
def _look_around(
    image: NDArray[Any],
    bad: NDArray[np.bool_],
    rules: Rules,
    width: int,
    pixel: int,
    radius: int,
    limit: float,
    around: NDArray[np.float64],
) -> int:
    """Write the good values at some distance; their number, or 0 if one is not below the limit."""
    n = 0
    for side in range(4):
        for along in range(-SIDE, SIDE + 1):
            across = -radius if side % 2 == 0 else radius
            step = across * width + along if side < 2 else along * width + across
            value = _value(image, bad, rules, pixel + step)
            if np.isnan(value):
                continue
            # this condition is for speed alone: the three in the middle of each side will do
            if abs(along) < SIDE and value >= limit:
                return 0
            around[n] = value
            n += 1
    return n


@jit
def _mean_and_sigma(values: NDArray[np.float64]) -> tuple[float, float]:
    total = 0.0
    for k in range(len(values)):
        total += values[k]
    mean = total / len(values)
    total_sq = 0.0
    for k in range(len(values)):
        total_sq += (values[k] - mean) ** 2
    return mean, np.sqrt(total_sq / (len(values) - 1))


@jit
def _measure(
    pixels: Pixels,
    pixel: int,
    panel: int,
    fs: int,
    ss: int,
    mean: float,
    sigma: float,
    criteria: Criteria,
    peak: NDArray[np.float64],
) -> bool:
    """Gather what belongs to a summit and write it to *peak*; whether it is a peak."""
    highest = float(np.float32(pixels.image[pixel]))
    limit = mean + criteria.min_snr_peak_pix * sigma
    saturated = _is_saturated(pixels, pixel, panel, highest)
    n, total, total_fs, total_ss = 1, highest - mean, 0.0, 0.0
    for ring in range(1, criteria.radius):
        n_before = n
        for near_ss in range(-ring, ring + 1):
            for near_fs in range(-ring, ring + 1):
                if max(abs(near_fs), abs(near_ss)) < ring:
                    continue
                near = pixel + near_ss * pixels.width + near_fs
                value = _value(pixels.image, pixels.bad, pixels.rules, near)
                if not value > limit:
                    continue
                n += 1
                total += value - mean
                total_fs += (value - mean) * near_fs
                total_ss += (value - mean) * near_ss
                saturated |= _is_saturated(pixels, near, panel, value)
        if n == n_before:
            break
    if not total > criteria.min_snr * sigma or (saturated and not criteria.use_saturated):
        return False
    peak[FS], peak[SS] = fs + total_fs / total + 0.5, ss + total_ss / total + 0.5
    peak[INTENSITY] = total
    return True


@jit
def _is_saturated(pixels: Pixels, pixel: int, panel: int, value: float) -> bool:
    if value > pixels.saturation[panel]:
        return True
    return bool(len(pixels.saturation_map) and value > pixels.saturation_map[pixel])
