# SPDX-License-Identifier: GPL-3.0-or-later
"""Intensities of predicted spots: the pixels of a disc less the background of a ring about it.

CrystFEL 0.12, behaviour of ``--integration=rings``.  Positions come from `prediction`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.integration.background import find_background, is_too_steep, under_disc
from gpuidx.integration.boxes import IMPLAUSIBLE, has_saturated, place_box, write_row
from gpuidx.integration.pixels import Pixels, Tables, variance
from gpuidx.jit import jit


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
        The frame, with the spots of all crystals marked in `Pixels.counts`, and the shape of box.
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
        Written for those that could be measured: the columns of `boxes`; number of the spot.

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
        box, fs, ss = place_box(pixels, tables, rect[p], width, from_fs, from_ss, centre, gradient, values)
        if not box.usable:
            continue
        plane = find_background(pixels, tables, box.centre, box.ring, gradient)
        under = under_disc(pixels, tables, box.centre, box.disc, plane)
        if not centre and is_too_steep(plane, box.disc, under):
            continue
        if has_saturated(pixels, tables, box, max_adu[p]):
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
        write_row(results[measured], box, intensity, sigma, mean, position[spot], fs, ss)
        chosen[measured] = spot
        measured += 1
    return measured, n_saturated, n_implausible
