# SPDX-License-Identifier: GPL-3.0-or-later
"""From pixels above their ring's limit to peaks: growth, local background, intensity, acceptance.

The second half of peakfinder8 with the float32 arithmetic of CrystFEL 0.12, in its order.  Only a few
thousand pixels of a frame are touched, as they were sent: no float copy of the frame is made.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.clipping import ZERO
from gpuidx.backends.rings import FALLBACK_SIGMA, MASKED, TINY, radius_of
from gpuidx.backends.values import Rules, value_of
from gpuidx.jit import jit

N_COLUMN = 6
FS, SS, INTENSITY, HIGHEST, PANEL, SATURATED = range(N_COLUMN)
"""Columns of the peaks found."""


class Place(NamedTuple):
    """Where pixels are: the arrays of `Rings`, and the width of the slab."""

    ring: NDArray[np.uint16]
    panel_of: NDArray[np.uint16]
    rect: NDArray[np.int32]
    placement: NDArray[np.float64]
    width: int


class Criteria(NamedTuple):
    """What a peak must be: ``--min-snr`` as float32, pixel counts (inclusive), background radius in px."""

    min_snr: np.float32
    min_pix_count: int
    max_pix_count: int
    local_bg_radius: int


class Background(NamedTuple):
    """Around a peak: mean, spread, largest value (0 at least); ADU."""

    mean: np.float32
    sigma: np.float32
    highest: np.float32


@jit
def _box(place: Place, panel: int) -> tuple[int, int, int, int]:
    """x0, y0, width, height of a panel in the slab."""
    rect = place.rect
    return rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]


@jit
def find_peaks(
    image: NDArray[Any],
    candidates: NDArray[np.int32],
    place: Place,
    mean: NDArray[np.float32],
    upper: NDArray[np.float32],
    rules: Rules,
    criteria: Criteria,
    saturation: NDArray[np.float32],
    taken: NDArray[np.uint8],
    queue: NDArray[np.int32],
    found: NDArray[np.float32],
) -> int:
    """Grow peaks from the candidates; their number.

    Parameters
    ----------
    image : (pixel,)
        The slab as sent.
    candidates : (candidate,)
        All usable pixels above their ring's limit, sorted by panel, then along the slab.
    mean, upper : (ring,)
        Mean and limit of each ring, ADU.
    saturation : (pixel,)
        Values above which pixels are saturated, ADU; or nothing.
    taken : (pixel,)
        Zeros; used, and zero again afterwards.
    queue : (candidate,)
        Room: only candidates are ever queued, each once.
    found : (peak, 6)
        Written, up to its length: centre along fs and ss (pixel indices, not corners), intensity, largest
        value above background, panel number, 1 if a pixel is saturated.
    """
    n_found, end = 0, 0
    for seed in candidates:
        if n_found == len(found):
            break
        panel = place.panel_of[seed]
        x0, y0, n_fs, n_ss = _box(place, panel)
        fs, ss = seed % place.width - x0, seed // place.width - y0
        # the panel's border may belong to a peak but does not start one
        if taken[seed] or fs < 1 or fs >= n_fs - 1 or ss < 1 or ss >= n_ss - 1:
            continue
        begin = end
        end = _grow(image, seed, panel, place, upper, rules, taken, queue, begin)
        if not criteria.min_pix_count <= end - begin <= criteria.max_pix_count:
            continue
        members = queue[begin:end]
        sure, fs, ss = _first_centre(image, members, panel, place, mean)
        if not sure:
            continue
        background = _background(image, fs, ss, panel, place, mean, upper, rules, criteria)
        if _measure(image, members, panel, place, background, criteria, found[n_found]):
            found[n_found, SATURATED] = _is_saturated(image, members, saturation)
            n_found += 1
    for pixel in queue[:end]:
        taken[pixel] = 0  # thousands of times cheaper than clearing the map
    return n_found


@jit
def _grow(
    image: NDArray[Any],
    seed: int,
    panel: int,
    place: Place,
    upper: NDArray[np.float32],
    rules: Rules,
    taken: NDArray[np.uint8],
    queue: NDArray[np.int32],
    begin: int,
) -> int:
    """Queue all pixels that hang together with the seed, breadth first; the end of the queue.

    They stay taken even if they make no peak.
    """
    x0, y0, n_fs, n_ss = _box(place, panel)
    queue[begin] = seed
    taken[seed] = 1
    end = begin + 1
    at = begin
    while at < end:
        pixel = queue[at]
        at += 1
        fs, ss = pixel % place.width - x0, pixel // place.width - y0
        for near_ss in range(max(ss - 1, 0), min(ss + 2, n_ss)):
            for near_fs in range(max(fs - 1, 0), min(fs + 2, n_fs)):
                near = (y0 + near_ss) * place.width + x0 + near_fs
                number = place.ring[near]
                if taken[near] or number == MASKED:
                    continue
                if value_of(image, near, rules) > upper[number]:
                    taken[near] = 1
                    queue[end] = near
                    end += 1
    return end


@jit
def _first_centre(
    image: NDArray[Any], members: NDArray[np.int32], panel: int, place: Place, mean: NDArray[np.float32]
) -> tuple[bool, int, int]:
    """Whether there is one; pixel at the centre, each pixel weighted by its distance from the ring's mean."""
    x0, y0, n_fs, n_ss = _box(place, panel)
    total, sum_fs, sum_ss = ZERO, ZERO, ZERO
    for pixel in members:
        weight = abs(np.float32(image[pixel]) - mean[place.ring[pixel]])
        total += weight
        sum_fs += weight * np.float32(pixel % place.width - x0)
        sum_ss += weight * np.float32(pixel // place.width - y0)
    if total < TINY:
        return False, 0, 0
    fs, ss = np.rint(sum_fs / total), np.rint(sum_ss / total)
    # values near the end of float32's range, whose sums are infinite, have no centre
    inside = fs >= 0 and fs < n_fs and ss >= 0 and ss < n_ss
    return (True, int(fs), int(ss)) if inside else (False, 0, 0)


@jit
def _background(
    image: NDArray[Any],
    fs: int,
    ss: int,
    panel: int,
    place: Place,
    mean: NDArray[np.float32],
    upper: NDArray[np.float32],
    rules: Rules,
    criteria: Criteria,
) -> Background:
    """Background about a pixel: a disc of twice the radius, without what is above the limits (peaks).

    CrystFEL's window ends one pixel earlier at the high sides, so the disc is not quite symmetric.
    """
    x0, y0, n_fs, n_ss = _box(place, panel)
    reach = 2 * criteria.local_bg_radius
    total, total_sq, highest, n = ZERO, ZERO, ZERO, 0
    for near_ss in range(max(ss - reach, 0), min(ss + reach, n_ss)):
        for near_fs in range(max(fs - reach, 0), min(fs + reach, n_fs)):
            if (near_fs - fs) ** 2 + (near_ss - ss) ** 2 > reach * reach:
                continue
            near = (y0 + near_ss) * place.width + x0 + near_fs
            number = place.ring[near]
            if number == MASKED:
                continue
            value = value_of(image, near, rules)
            if value < upper[number]:
                n += 1
                total += value
                total_sq += value * value
                highest = max(highest, value)
    if n == 0:
        number = int(np.rint(radius_of(place.placement, panel, fs, ss)))
        return Background(mean[number], FALLBACK_SIGMA, ZERO)
    average = total / np.float32(n)
    sigma = total_sq / np.float32(n) - average * average
    sigma = np.sqrt(sigma) if sigma >= ZERO else FALLBACK_SIGMA
    return Background(average, sigma, highest)


@jit
def _measure(
    image: NDArray[Any],
    members: NDArray[np.int32],
    panel: int,
    place: Place,
    background: Background,
    criteria: Criteria,
    peak: NDArray[np.float32],
) -> bool:
    """Intensity and centre above the background, written to *peak*; whether it is a peak.

    The centre is weighted by the values as they are, background included.
    """
    x0, y0, n_fs, n_ss = _box(place, panel)
    intensity, raw, highest, sum_fs, sum_ss = ZERO, ZERO, ZERO, ZERO, ZERO
    for pixel in members:
        value = np.float32(image[pixel])
        above = value - background.mean
        intensity += above
        raw += value
        sum_fs += value * np.float32(pixel % place.width - x0)
        sum_ss += value * np.float32(pixel // place.width - y0)
        highest = max(highest, above)
    weight = abs(raw)
    if weight < TINY:
        return False
    fs, ss = sum_fs / weight, sum_ss / weight
    snr = intensity / background.sigma if background.sigma > TINY else ZERO
    if snr < criteria.min_snr or highest < background.highest - background.mean:
        return False
    if not (fs >= ZERO and fs <= np.float32(n_fs - 1) and ss >= ZERO and ss <= np.float32(n_ss - 1)):
        return False
    peak[FS], peak[SS], peak[INTENSITY], peak[HIGHEST], peak[PANEL] = fs, ss, intensity, highest, panel
    return True


@jit
def _is_saturated(image: NDArray[Any], members: NDArray[np.int32], saturation: NDArray[np.float32]) -> bool:
    if len(saturation) == 0:
        return False
    saturated = False
    for pixel in members:
        saturated |= np.float32(image[pixel]) > saturation[pixel]
    return saturated
