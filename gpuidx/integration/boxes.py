# SPDX-License-Identifier: GPL-3.0-or-later
"""A box about a predicted spot: opened on its panel, moved to its brightest pixel, tested for saturation.

CrystFEL 0.12, behaviour of ``--integration``; the same for sums (`rings`) and fitted profiles (`prof2d`).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.integration.background import Plane, find_background
from gpuidx.integration.pixels import (
    D_FS,
    D_SS,
    MOST,
    STEP,
    Pixels,
    Sums,
    Tables,
    is_bad,
    is_saturated,
    sum_pixels,
)
from gpuidx.jit import jit

FEWEST_PIXELS = 4
MOVES = 10
BRIGHT = 3.0  # times the background
FEWEST_BRIGHT = 2
IMPLAUSIBLE = -5.0  # times sigma

INTENSITY, SIGMA, PEAK, BACKGROUND, FS, SS = range(6)
"""Columns of the results."""


class Box(NamedTuple):
    """A box about one pixel: whether it can be used, its centre in the flat slab, its sums."""

    usable: bool
    centre: int
    disc: Sums
    ring: Sums


@jit
def open_box(
    pixels: Pixels,
    tables: Tables,
    place: NDArray[np.int32],
    width: int,
    fs: int,
    ss: int,
    values: NDArray[np.float64],
) -> Box:
    """The box about pixel (fs, ss) of a panel; not usable if it leaves the panel or lacks pixels.

    The values of the ring's pixels are left in row 0 of *values* (2, pixel).
    """
    half = tables.half
    nothing = Sums(0, 0.0, -math.inf, 0)
    centre = (place[1] + ss) * width + place[0] + fs
    if fs < half or ss < half or fs + half >= place[2] or ss + half >= place[3]:
        return Box(False, centre, nothing, nothing)
    ring = sum_pixels(pixels, tables.ring, centre, values[0])
    if ring.number < FEWEST_PIXELS:
        return Box(False, centre, nothing, ring)
    disc = sum_pixels(pixels, tables.disc, centre, values[1])
    return Box(disc.bad == 0 and disc.number >= FEWEST_PIXELS, centre, disc, ring)


@jit
def _brightest(pixels: Pixels, tables: Tables, centre: int, plane: Plane) -> tuple[int, int, int]:
    """Number of bright pixels in a box, and the step (fs, ss) to the brightest; 0, 0 if there is none."""
    number, step_fs, step_ss, highest = 0, 0, 0, -math.inf
    image, mask, counts, rules = pixels.image, pixels.mask, pixels.counts, pixels.rules
    box, half = tables.box, tables.half
    for row in range(len(box)):
        at = np.uint64(centre + box[row, STEP])
        value = float(np.float32(image[at]))
        p, q = box[row, D_FS] + half, box[row, D_SS] + half
        if value <= BRIGHT * (plane[0] * p + plane[1] * q + plane[2]):
            continue
        if counts[at] > box[row, MOST] or is_bad(mask[at], value, rules):
            continue
        number += 1
        if value > highest:
            highest, step_fs, step_ss = value, box[row, D_FS], box[row, D_SS]
    return number, step_fs, step_ss


@jit
def _centre_box(
    pixels: Pixels,
    tables: Tables,
    place: NDArray[np.int32],
    width: int,
    fs: int,
    ss: int,
    gradient: bool,
    values: NDArray[np.float64],
) -> tuple[Box, int, int]:
    """A box that was moved to its brightest pixel (``-cen``), and where its centre is then."""
    box = open_box(pixels, tables, place, width, fs, ss, values)
    bright = 0
    for _ in range(MOVES):
        if not box.usable:
            break
        plane = find_background(pixels, tables, box.centre, box.ring, gradient)
        number, step_fs, step_ss = _brightest(pixels, tables, box.centre, plane)
        bright += number
        if bright < FEWEST_BRIGHT:
            break
        fs, ss = fs + step_fs, ss + step_ss
        box = open_box(pixels, tables, place, width, fs, ss, values)
        if step_fs == 0 and step_ss == 0:
            break
    return box, fs, ss


@jit
def place_box(
    pixels: Pixels,
    tables: Tables,
    place: NDArray[np.int32],
    width: int,
    fs: int,
    ss: int,
    centre: bool,
    gradient: bool,
    values: NDArray[np.float64],
) -> tuple[Box, int, int]:
    """The box of a spot that is predicted in pixel (fs, ss), and the pixel at its centre.

    The values of the ring's pixels are left in row 0 of *values* (2, pixel).
    """
    if centre:
        return _centre_box(pixels, tables, place, width, fs, ss, gradient, values)
    return open_box(pixels, tables, place, width, fs, ss, values), fs, ss


@jit
def has_saturated(pixels: Pixels, tables: Tables, box: Box, max_adu: float) -> bool:
    """Whether a used pixel of disc or ring is above the panel's or its own limit."""
    if max(box.disc.highest, box.ring.highest) > max_adu:
        return True
    return len(pixels.limits) > 0 and (
        is_saturated(pixels, tables.disc, box.centre) or is_saturated(pixels, tables.ring, box.centre)
    )


@jit
def write_row(
    row: NDArray[np.float64],
    box: Box,
    intensity: float,
    sigma: float,
    background: float,
    predicted: NDArray[np.float64],
    fs: int,
    ss: int,
) -> None:
    """Write the columns of a measured spot; its position is the predicted one, moved as the box was."""
    row[INTENSITY], row[SIGMA], row[BACKGROUND] = intensity, sigma, background
    row[PEAK] = max(box.disc.highest, box.ring.highest)
    row[FS] = predicted[0] + (fs - int(predicted[0]))
    row[SS] = predicted[1] + (ss - int(predicted[1]))
