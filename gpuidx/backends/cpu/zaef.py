# SPDX-License-Identifier: GPL-3.0-or-later
"""zaef on the CPU, with CrystFEL's peaks to the last printed digit.

The search in short (Zaefferer 2000, J. Appl. Cryst. 33, 10; CrystFEL 0.12): from each pixel above a threshold
and with a steep enough gradient climb to the brightest pixel around, again and again; the summit is a peak if
it lies near, stands out from the ring about it (`gpuidx.backends.discs`), and no peak was found close by.

The climb looks at bad pixels as well, as CrystFEL's does; a peak whose disc or ring holds one is none.  That
is why bad pixels must have their values here.  Those that are NaN in a frame are never climbed to.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.discs import Pixels, Radii, box, measure, pixels_of
from gpuidx.backends.filters import Filters
from gpuidx.backends.values import check_image, float32_rules
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.jit import jit
from gpuidx.model import Frame, PeakList
from gpuidx.options import PeakOptions

MOST_OF_PANEL = 10001
"""Peaks of one panel; with so many CrystFEL goes on to the next one."""

BLOCK = 64
"""Pixels that are compared with the threshold together, which is where most of the time would go."""

MOST_STAMPS = 255
"""Frames after which what is known of pixels is cleared."""

Place = tuple[int, int, int, int]
"""x0, y0, width, height of a panel in the slab."""

N_COLUMN = 3
FS, SS, INTENSITY = range(N_COLUMN)
"""Columns of the peaks found."""


class Criteria(NamedTuple):
    """What a peak must be; the first three are float32 numbers, as in CrystFEL."""

    threshold: np.float32
    min_squared_gradient: np.float32
    min_snr: np.float32
    use_saturated: bool


class Known(NamedTuple):
    """What has been found out about pixels of the frame; (pixel,) each.

    Attributes
    ----------
    seen, judged
        *stamp* where it is known what is the brightest around, and what became of a summit.
    next
        The brightest around.
    stamp
        Another one for each frame.
    """

    seen: NDArray[np.uint8]
    judged: NDArray[np.uint8]
    next: NDArray[np.int32]
    stamp: int


class Zaef:
    """Finds the peaks of frames of one run.

    Not for several threads at once: it owns buffers.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    radii
        ``--int-radius``; holds where ``--peak-radius`` is not given.
    """

    def __init__(
        self, geometry: Geometry, options: PeakOptions, masks: Masks, radii: Sequence[float]
    ) -> None:
        self._geometry, self._masks = geometry, masks
        self._filters = Filters.wanted(geometry, options, masks)
        self._criteria = Criteria(
            np.float32(options.threshold),
            np.float32(options.min_squared_gradient),
            np.float32(options.min_snr),
            options.use_saturated,
        )
        self._radii = Radii(*(float(np.float32(r)) for r in options.peak_radius or radii))
        self._found = np.empty((MOST_OF_PANEL, N_COLUMN))
        n_pixel = geometry.slab_shape[0] * geometry.slab_shape[1]
        self._known = Known(
            np.zeros(n_pixel, np.uint8), np.zeros(n_pixel, np.uint8), np.empty(n_pixel, np.int32), 0
        )

    def find(self, frame: Frame) -> PeakList:
        """Peaks of one frame in the order of the search; none of a frame without pixels.

        Raises
        ------
        TypeError
            If the image is not a slab as `Frame` promises: other shape, dtype or memory layout.
        """
        lists = [] if frame.image is None else self._search(frame, frame.image)
        return PeakList(
            fs=np.concatenate([found[:, FS] for found in lists] or [np.empty(0)]),
            ss=np.concatenate([found[:, SS] for found in lists] or [np.empty(0)]),
            panel=np.repeat(np.arange(len(lists), dtype=np.int32), [len(found) for found in lists]),
            intensity=np.concatenate([found[:, INTENSITY] for found in lists] or [np.empty(0)]),
        )

    def _search(self, frame: Frame, image: NDArray[Any]) -> list[NDArray[np.float64]]:
        """Peaks of each panel, (peak, 3)."""
        check_image(image, self._geometry.slab_shape)
        bad, rules = self._masks.at(frame.detector, frame.wavelength), float32_rules(self._masks.rules)
        if self._filters is not None:
            image, flagged, rules = self._filters.values(image)
            bad = bad | flagged
        pixels = pixels_of(image, bad, rules, self._masks, frame.detector.rect)
        gain = self._geometry.gain(frame.photon_energy)
        known = self._known = self._known._replace(stamp=self._known.stamp % MOST_STAMPS + 1)
        if known.stamp == 1:
            known.seen[:] = known.judged[:] = 0
        lists = []
        for panel in range(len(self._geometry.panels)):
            n = _search_panel(pixels, panel, gain[panel], self._criteria, self._radii, known, self._found)
            lists.append(self._found[:n].copy())
        return lists


@jit
def _search_panel(
    pixels: Pixels,
    panel: int,
    gain: float,
    criteria: Criteria,
    radii: Radii,
    known: Known,
    found: NDArray[np.float64],
) -> int:
    """Write the peaks of a panel; their number.

    Parameters
    ----------
    known
        Nothing in it is marked yet.
    found : (peak, 3)
        Written, up to its length: centre along fs and ss (px, 0.0 = corner of the first pixel), intensity.
    """
    # functions that are called often get few things: handing over all of *pixels* takes longer than they do
    place = x0, y0, n_fs, n_ss = box(pixels, panel)
    image, width, saturation = pixels.image, pixels.width, pixels.saturation[panel]
    n_found = 0
    for ss in range(1, n_ss - 1):
        row = (y0 + ss) * width + x0
        for begin in range(1, n_fs - 1, BLOCK):
            end = min(begin + BLOCK, n_fs - 1)
            if not _any_above(image[row + begin : row + end], criteria.threshold):
                continue
            for fs in range(begin, end):
                if not _is_foot(image, row + fs, width, saturation, criteria):
                    continue
                near, top_fs, top_ss = _climb(image, place, width, fs, ss, radii.peak, known)
                top = (y0 + top_ss) * width + x0 + top_fs
                # what became of a summit does not change when another foot leads there
                if not near or known.judged[top] == known.stamp:
                    continue
                known.judged[top] = known.stamp
                if _accept(pixels, panel, top_fs, top_ss, gain, criteria, radii, found, n_found):
                    n_found += 1
                    if n_found == len(found):
                        return n_found
    return n_found


@jit
def _any_above(values: NDArray[Any], threshold: np.float32) -> bool:
    """Whether one of them is not below the threshold, or is NaN."""
    found = False
    for k in range(len(values)):  # without a way out and by index, so that it is done many at a time
        found |= bool(not np.float32(values[k]) < threshold)
    return found


@jit
def _is_foot(image: NDArray[Any], pixel: int, width: int, saturation: float, criteria: Criteria) -> bool:
    """Whether a climb begins here: bright, steep, and not saturated where that counts.

    The gradient is CrystFEL's, whose fourth neighbour lies across the corner.  NaN fails no test, as there.
    """
    value = np.float32(image[pixel])
    if value < criteria.threshold:
        return False
    if not criteria.use_saturated and value > saturation:
        return False
    right = np.float64(value - np.float32(image[pixel + 1]))
    left = np.float64(np.float32(image[pixel - 1]) - value)
    corner = np.float64(value - np.float32(image[pixel + width + 1]))
    above = np.float64(np.float32(image[pixel - width]) - value)
    gradient = (right * right + left * left) / 2 + (corner * corner + above * above) / 2
    return bool(not gradient < criteria.min_squared_gradient)


@jit
def _climb(
    image: NDArray[Any], place: Place, width: int, fs: int, ss: int, radius: float, known: Known
) -> tuple[bool, int, int]:
    """The brightest pixel that a climb leads to, and whether all of it is within *radius* of the foot."""
    x0, y0, _, _ = place
    top_fs, top_ss = fs, ss
    while True:
        pixel = (y0 + top_ss) * width + x0 + top_fs
        if known.seen[pixel] != known.stamp:
            known.seen[pixel] = known.stamp
            known.next[pixel] = _brightest_around(image, place, width, top_fs, top_ss, radius)
        brightest = known.next[pixel]
        if brightest == pixel:
            return True, top_fs, top_ss
        top_fs, top_ss = brightest % width - x0, brightest // width - y0
        if np.sqrt(float((top_fs - fs) ** 2 + (top_ss - ss) ** 2)) > radius:
            return False, top_fs, top_ss


@jit
def _brightest_around(image: NDArray[Any], place: Place, width: int, fs: int, ss: int, radius: float) -> int:
    """The pixel that is the brightest when the square about a pixel has been looked over.

    The square moves with the brightest pixel so far: its upper ends at once, its begin along fs with the next
    row, its begin along ss not at all.  Of a broken radius the square has more below than above.
    """
    x0, y0, n_fs, n_ss = place
    low, high = int(np.ceil(radius)), int(radius)
    top = (y0 + ss) * width + x0 + fs
    highest = np.float32(image[top])
    at_ss, last_fs, last_ss = max(ss - low, 0), min(fs + high, n_fs - 1), min(ss + high, n_ss - 1)
    begin_fs = max(fs - low, 0)
    while at_ss <= last_ss:
        row = (y0 + at_ss) * width + x0
        if _any_higher(image[row + begin_fs : row + last_fs + 1], highest):
            at_fs = begin_fs
            while at_fs <= last_fs:
                value = np.float32(image[row + at_fs])
                if value > highest:
                    highest, top = value, row + at_fs
                    last_fs, last_ss = min(at_fs + high, n_fs - 1), min(at_ss + high, n_ss - 1)
                at_fs += 1
            begin_fs = max(top % width - x0 - low, 0)
        at_ss += 1
    return top


@jit
def _any_higher(values: NDArray[Any], limit: np.float32) -> bool:
    found = False
    for k in range(len(values)):  # as above
        found |= bool(np.float32(values[k]) > limit)
    return found


@jit
def _accept(
    pixels: Pixels,
    panel: int,
    fs: int,
    ss: int,
    gain: float,
    criteria: Criteria,
    radii: Radii,
    found: NDArray[np.float64],
    n_found: int,
) -> bool:
    """Whether the summit is a peak; then it is written to *found*."""
    peak = measure(pixels, panel, fs, ss, radii, gain)
    if not peak.sure:
        return False
    _, _, n_fs, n_ss = box(pixels, panel)
    if not (0 <= peak.fs <= n_fs and 0 <= peak.ss <= n_ss):
        return False
    if abs(peak.intensity) / np.sqrt(peak.variance) < criteria.min_snr:
        return False
    for other in range(n_found):
        distance = np.sqrt((found[other, FS] - peak.fs) ** 2 + (found[other, SS] - peak.ss) ** 2)
        if distance < 2 * radii.peak:
            return False
    if peak.saturated and not criteria.use_saturated:
        return False
    found[n_found, FS], found[n_found, SS], found[n_found, INTENSITY] = peak.fs, peak.ss, peak.intensity
    return True
