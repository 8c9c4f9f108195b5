# SPDX-License-Identifier: GPL-3.0-or-later
"""Intensities of predicted spots by a profile: the shape that the clear spots of a crystal have in common.

With h the heights of a disc's pixels above the background, the profile P is what fits h = I·P best over the
clear spots, I being their sums; an intensity is J·ΣP, with the J that fits h = J·P best over its disc
(Rossmann, J. Appl. Cryst. 12 (1979) 225; CrystFEL 0.12, behaviour of ``--integration=prof2d``).
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.integration.background import Plane, find_background, is_too_steep, under_disc
from gpuidx.integration.boxes import (
    FEWEST_PIXELS,
    IMPLAUSIBLE,
    Box,
    has_saturated,
    open_box,
    place_box,
    write_row,
)
from gpuidx.integration.pixels import D_FS, D_SS, MOST, STEP, Pixels, Tables, variance
from gpuidx.jit import jit

CLEAR = 10.0
"""A spot is part of the profile if its highest pixel is this many times the background under it."""


@jit
def _read_heights(
    pixels: Pixels, tables: Tables, centre: int, plane: Plane, heights: NDArray[np.float64]
) -> None:
    """Write *heights* (disc pixel,) of the used pixels of a disc above the background, NaN for others."""
    image, counts, disc, half = pixels.image, pixels.counts, tables.disc, tables.half
    slope_fs, slope_ss, level = plane
    for row in range(len(disc)):
        at = np.uint64(centre + disc[row, STEP])
        if counts[at] > disc[row, MOST]:
            heights[row] = math.nan
            continue
        under = slope_fs * (disc[row, D_FS] + half) + slope_ss * (disc[row, D_SS] + half) + level
        heights[row] = float(np.float32(image[at])) - under


@jit
def _is_clear(box: Box, under: float) -> bool:
    """Whether a spot stands out of its background enough for the profile."""
    return max(box.disc.highest, 0.0) > CLEAR * under / box.disc.number


@jit
def _add_to_profile(heights: NDArray[np.float64], intensity: float, sums: NDArray[np.float64]) -> None:
    """Add a spot to the two *sums* (2, disc pixel) whose ratio is the profile."""
    for row in range(len(heights)):
        if not math.isnan(heights[row]):
            sums[0, row] += heights[row] * intensity
            sums[1, row] += intensity * intensity


@jit
def fit_profile(heights: NDArray[np.float64], profile: NDArray[np.float64]) -> tuple[int, float, float]:
    """Fit a profile (disc pixel,) to the heights of a spot.

    Pixels are left out where either is NaN: not used, or part of no clear spot.

    Returns
    -------
    number, intensity, rest
        Of pixels; of the fitted profile; sum of the squared distances of the heights from it.
    """
    number, product, square, volume = 0, 0.0, 0.0, 0.0
    for row in range(len(heights)):
        if not math.isnan(heights[row] + profile[row]):
            number += 1
            product += heights[row] * profile[row]
            square += profile[row] * profile[row]
            volume += profile[row]
    scale = product / square
    rest = 0.0
    for row in range(len(heights)):
        if not math.isnan(heights[row] + profile[row]):
            rest += (scale * profile[row] - heights[row]) ** 2
    return number, scale * volume, rest


@jit
def _learn(
    pixels: Pixels,
    tables: Tables,
    width: int,
    position: NDArray[np.float64],
    panel: NDArray[np.int32],
    rect: NDArray[np.int32],
    max_adu: NDArray[np.float64],
    centre: bool,
    saturated: bool,
    gradient: bool,
    boxes: NDArray[np.int64],
    planes: NDArray[np.float64],
    profile: NDArray[np.float64],
) -> tuple[int, int, int]:
    """Place the boxes of all spots, and learn the profile (disc pixel,) from the clear ones.

    Number of the spot, fs and ss of the boxes that can be used go to *boxes* (spot, 3), what `Plane` has of
    their backgrounds to *planes* (spot, 3).

    Returns
    -------
    n_box, n_saturated, n_clear
        Boxes that can be used; spots with a saturated pixel; spots in the profile.
    """
    n_box, n_saturated, n_clear = 0, 0, 0
    values = np.empty((2, len(tables.box)))
    heights, sums = np.empty(len(tables.disc)), np.zeros((2, len(tables.disc)))
    for spot in range(len(position)):
        p = panel[spot]
        from_fs, from_ss = int(position[spot, 0]), int(position[spot, 1])
        box, fs, ss = place_box(pixels, tables, rect[p], width, from_fs, from_ss, centre, gradient, values)
        if not box.usable:
            continue
        if has_saturated(pixels, tables, box, max_adu[p]):
            n_saturated += 1
            if not saturated:
                continue
        plane = find_background(pixels, tables, box.centre, box.ring, gradient)
        under = under_disc(pixels, tables, box.centre, box.disc, plane)
        if is_too_steep(plane, box.disc, under):
            continue
        boxes[n_box, 0], boxes[n_box, 1], boxes[n_box, 2] = spot, fs, ss
        planes[n_box, 0], planes[n_box, 1], planes[n_box, 2] = plane
        n_box += 1
        if _is_clear(box, under):
            _read_heights(pixels, tables, box.centre, plane, heights)
            _add_to_profile(heights, box.disc.total - under, sums)
            n_clear += 1
    for row in range(len(profile)):
        profile[row] = sums[0, row] / sums[1, row]
    return n_box, n_saturated, n_clear


@jit
def integrate_spots(
    pixels: Pixels,
    tables: Tables,
    width: int,
    position: NDArray[np.float64],
    panel: NDArray[np.int32],
    rect: NDArray[np.int32],
    max_adu: NDArray[np.float64],
    centre: bool,
    saturated: bool,
    gradient: bool,
    results: NDArray[np.float64],
    chosen: NDArray[np.int64],
) -> tuple[int, int, int, int]:
    """Measure the spots of one crystal.

    Parameters
    ----------
    pixels, tables, width, position, panel, rect, max_adu, centre, saturated, gradient, results, chosen
        As in `rings.integrate_spots`.

    Returns
    -------
    measured, n_saturated, n_implausible, n_clear
        How many were measured; left out or not because of a saturated pixel; left out as too negative;
        part of the profile.  Without any of these nothing is measured.
    """
    measured, n_implausible = 0, 0
    boxes, planes = np.empty((len(position), 3), np.int64), np.empty((len(position), 3))
    heights, profile = np.empty(len(tables.disc)), np.empty(len(tables.disc))
    n_box, n_saturated, n_clear = _learn(
        pixels, tables, width, position, panel, rect, max_adu, centre, saturated, gradient,
        boxes, planes, profile,
    )  # fmt: skip
    values = np.empty((2, len(tables.box)))
    for number in range(n_box):
        spot, fs, ss = boxes[number]
        box = open_box(pixels, tables, rect[panel[spot]], width, fs, ss, values)
        plane = (planes[number, 0], planes[number, 1], planes[number, 2])
        _read_heights(pixels, tables, box.centre, plane, heights)
        n_pixel, intensity, rest = fit_profile(heights, profile)
        if n_pixel < FEWEST_PIXELS or not math.isfinite(intensity):
            continue
        mean = box.ring.total / box.ring.number
        spread = variance(values[0, : box.ring.number], mean)
        sigma = math.sqrt(rest + box.ring.number * spread)
        if intensity < IMPLAUSIBLE * sigma:
            n_implausible += 1
            continue
        write_row(results[measured], box, intensity, sigma, mean, position[spot], fs, ss)
        chosen[measured] = spot
        measured += 1
    return measured, n_saturated, n_implausible, n_clear
