# SPDX-License-Identifier: GPL-3.0-or-later
"""Intensities of predicted spots: the pixels of a disc less the background of a ring about it.

CrystFEL 0.12, behaviour of ``--integration=rings``.  Positions come from `prediction`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.integration.background import Plane, find_background, is_too_steep, under_disc
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
    variance,
)
from gpuidx.jit import jit

FEWEST_PIXELS = 4
IMPLAUSIBLE = -5.0  # times sigma
MOVES = 10
BRIGHT = 3.0  # times the background
FEWEST_BRIGHT = 2

INTENSITY, SIGMA, PEAK, BACKGROUND, FS, SS = range(6)
"""Columns of the results."""


class Box(NamedTuple):
    """A box about one pixel: whether it can be used, its centre in the flat slab, its sums."""

    usable: bool
    centre: int
    disc: Sums
    ring: Sums


@jit
def _open_box(
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
    box = _open_box(pixels, tables, place, width, fs, ss, values)
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
        box = _open_box(pixels, tables, place, width, fs, ss, values)
        if step_fs == 0 and step_ss == 0:
            break
    return box, fs, ss


@jit
def _has_saturated(pixels: Pixels, tables: Tables, box: Box, max_adu: float) -> bool:
    """Whether a used pixel of disc or ring is above the panel's or its own limit."""
    if max(box.disc.highest, box.ring.highest) > max_adu:
        return True
    return len(pixels.limits) > 0 and (
        is_saturated(pixels, tables.disc, box.centre) or is_saturated(pixels, tables.ring, box.centre)
    )


@jit
def _poisson_variance(intensity: float, gain: float) -> float:
    """Variance by counting: one photon for less than one, and that of the background if negative."""
    if abs(intensity / gain) < 1.0:
        return gain * gain
    return abs(gain * intensity)


@jit
def integrate_spots(
    pixels: Pixels,
    tables: Tables,
    width: int,
    position: NDArray[np.float64],
    panel: NDArray[np.int32],
    rect: NDArray[np.int32],
    gain: NDArray[np.float64],
    max_adu: NDArray[np.float64],
    centre: bool,
    saturated: bool,
    gradient: bool,
    results: NDArray[np.float64],
    chosen: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Measure spots.

    Parameters
    ----------
    pixels, tables
        The frame, with all spots marked in `Pixels.counts`, and the shape of box.
    width
        Of the slab, px.
    position, panel : (spot, 2), (spot,)
        Predicted fs and ss within the panel.
    rect : (panel, 4)
        As in `Detector`.
    gain, max_adu : (panel,)
        ADU per photon; value above which a pixel is saturated.
    centre, saturated, gradient
        As in `Method`.
    results, chosen : (spot, 6), (spot,)
        Written for those that could be measured: the columns of this module; number of the spot.

    Returns
    -------
    measured, n_saturated, n_implausible
        How many were measured; left out or not because of a saturated pixel; left out as too negative.
    """
    measured, n_saturated, n_implausible = 0, 0, 0
    values = np.empty((2, len(tables.box)))
    for spot in range(len(position)):
        p = panel[spot]
        from_fs, from_ss = int(position[spot, 0]), int(position[spot, 1])
        fs, ss = from_fs, from_ss
        if centre:
            box, fs, ss = _centre_box(pixels, tables, rect[p], width, fs, ss, gradient, values)
        else:
            box = _open_box(pixels, tables, rect[p], width, fs, ss, values)
        if not box.usable:
            continue
        plane = find_background(pixels, tables, box.centre, box.ring, gradient)
        under = under_disc(pixels, tables, box.centre, box.disc, plane)
        if not centre and is_too_steep(plane, box.disc, under):
            continue
        if _has_saturated(pixels, tables, box, max_adu[p]):
            n_saturated += 1
            if not saturated:
                continue
        mean = box.ring.total / box.ring.number
        spread = variance(values[0, : box.ring.number], mean)
        intensity = box.disc.total - under
        sigma = math.sqrt(_poisson_variance(intensity, gain[p]) + box.disc.number * spread)
        if intensity < IMPLAUSIBLE * sigma:
            n_implausible += 1
            continue
        row = results[measured]
        row[INTENSITY], row[SIGMA], row[BACKGROUND] = intensity, sigma, mean
        row[PEAK] = max(box.disc.highest, box.ring.highest)
        row[FS] = position[spot, 0] + (fs - from_fs)
        row[SS] = position[spot, 1] + (ss - from_ss)
        chosen[measured] = spot
        measured += 1
    return measured, n_saturated, n_implausible
