# SPDX-License-Identifier: GPL-3.0-or-later
"""A peak measured on the disc of pixels about a point, against the ring of background around it.

CrystFEL 0.12, behaviour of ``integrate_peak``: its zaef uses it, and its check of supplied peaks.  All sums
are in double precision and in its order, row by row.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.values import Rules, value_of
from gpuidx.geometry.masks import Masks
from gpuidx.jit import jit


class Pixels(NamedTuple):
    """A slab and what is known of its pixels, all flat; see `Frame`, `Masks` and `Detector.rect`.

    The saturation map may be empty.
    """

    image: NDArray[Any]
    bad: NDArray[np.bool_]
    rules: Rules
    saturation: NDArray[np.float64]
    saturation_map: NDArray[np.float32]
    rect: NDArray[np.int32]
    width: int


class Radii(NamedTuple):
    """Of the disc, and of the inner and outer edge of the ring, px."""

    peak: float
    inner: float
    outer: float


class Sums(NamedTuple):
    """Over some pixels: whether all can be used, their number, any saturated; sums.

    The sums are of values, of values times fs and ss of the pixel, and of squares.
    """

    usable: bool
    n: int
    saturated: bool
    total: float
    total_fs: float
    total_ss: float
    total_sq: float


class Measured(NamedTuple):
    """Whether it is a peak at all; centre of mass (px, 0.0 = corner of the first pixel), ADU, ADU²."""

    sure: bool
    fs: float
    ss: float
    intensity: float
    variance: float
    saturated: bool


def pixels_of(
    image: NDArray[Any], bad: NDArray[np.bool_], rules: Rules, masks: Masks, rect: NDArray[np.int32]
) -> Pixels:
    """What `measure` needs to know of a slab.

    Parameters
    ----------
    image, bad : (ss, fs)
        The slab, and which of its pixels are bad besides those that *rules* tell.
    masks
        Have the saturation.
    rect : (panel, 4)
        As `Detector.rect`.
    """
    no_map = np.empty(0, np.float32)
    return Pixels(
        image.reshape(-1),
        bad.reshape(-1),
        rules,
        masks.saturation,
        no_map if masks.saturation_map is None else masks.saturation_map.reshape(-1),
        rect,
        image.shape[1],
    )


@jit
def box(pixels: Pixels, panel: int) -> tuple[int, int, int, int]:
    """x0, y0, width, height of a panel in the slab."""
    rect = pixels.rect
    return rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]


@jit
def measure(pixels: Pixels, panel: int, fs: int, ss: int, radii: Radii, gain: float) -> Measured:
    """Intensity, its variance, and centre of a peak about a pixel of a panel.

    It is none if disc or ring leave the panel or hold a bad pixel, if the intensity is 0 or the variance
    negative.  *gain* is ADU per photon.
    """
    ring = _sum_disc(pixels, panel, fs, ss, radii.inner, radii.outer, 0.0)
    if not ring.usable or ring.n == 0:
        return Measured(False, 0.0, 0.0, 0.0, 0.0, ring.saturated)
    background = ring.total / ring.n
    spread = ring.total_sq / ring.n - background * background
    disc = _sum_disc(pixels, panel, fs, ss, 0.0, radii.peak, background)
    variance = disc.n * spread + gain * disc.total
    saturated = ring.saturated or disc.saturated
    sure = disc.usable and disc.total != 0 and not variance < 0
    centre_fs, centre_ss = disc.total_fs / disc.total + 0.5, disc.total_ss / disc.total + 0.5
    return Measured(sure, centre_fs, centre_ss, disc.total, variance, saturated)


@jit
def _sum_disc(
    pixels: Pixels, panel: int, fs: int, ss: int, inner: float, outer: float, offset: float
) -> Sums:
    """Sums over the pixels between two radii; *offset* is taken off each value, but not in the squares."""
    x0, y0, n_fs, n_ss = box(pixels, panel)
    n, saturated = 0, False
    total, total_fs, total_ss, total_sq = 0.0, 0.0, 0.0, 0.0
    reach = int(outer)
    for near_ss in range(ss - reach, ss + reach + 1):
        for near_fs in range(fs - reach, fs + reach + 1):
            distance_sq = (near_fs - fs) ** 2 + (near_ss - ss) ** 2
            if distance_sq < inner * inner or distance_sq > outer * outer:
                continue
            if near_fs < 0 or near_ss < 0 or near_fs >= n_fs or near_ss >= n_ss:
                return Sums(False, n, saturated, total, total_fs, total_ss, total_sq)
            pixel = (y0 + near_ss) * pixels.width + x0 + near_fs
            value = np.float64(value_of(pixels.image, pixel, pixels.rules))
            if pixels.bad[pixel] or np.isnan(value):
                return Sums(False, n, saturated, total, total_fs, total_ss, total_sq)
            saturated |= value > pixels.saturation[panel]
            if len(pixels.saturation_map):
                saturated |= value > pixels.saturation_map[pixel]
            above = value - offset
            n += 1
            total += above
            total_fs += above * near_fs
            total_ss += above * near_ss
            total_sq += value * value
    return Sums(True, n, saturated, total, total_fs, total_ss, total_sq)
