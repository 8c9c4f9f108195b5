# SPDX-License-Identifier: GPL-3.0-or-later
"""Refinement of one lattice against the positions of its peaks and their distance from the Ewald sphere.

Unknowns: a turn, the strains that the lattice type allows (`strain`), and a shift of the detector.
Gauss-Newton cycles with robust weights; outliers are cut from the third on, and the sigmas follow from what
is left.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.indexing.normal_equations import Cycle, Spots, gather
from gpuidx.indexing.state import State, reciprocal_axes, strain_slopes, take_step
from gpuidx.jit import jit
from gpuidx.smallmath import solve_in_place

CYCLES = 8
FIRST_CYCLES = 2
SETTLED_FROM = 4
"""Cycles are counted from 0; before this one a small step ends nothing."""
FEWEST_PEAKS = 5

LEAST_POSITION_SIGMA = 0.5
"""px; later cycles take what the last one left, but at least this."""
FIRST_ERROR_SIGMA = 0.001
"""Å⁻¹, of excitation errors; later cycles take what was left, between these two limits."""
LEAST_ERROR_SIGMA = 0.0002
GREATEST_ERROR_SIGMA = 0.1
"""Times the shortest reciprocal axis: beyond, chance would decide which reflection a peak is."""
SIGMA_OF_MEDIAN = 1.4826
STRAIN_SIGMA = 0.01
SHIFT_SIGMA = 3.0
"""px."""


@jit
def _shortest_row(recip: NDArray[np.float64]) -> float:
    shortest = math.inf
    for axis in range(3):
        shortest = min(shortest, recip[axis, 0] ** 2 + recip[axis, 1] ** 2 + recip[axis, 2] ** 2)
    return math.sqrt(shortest)


@jit
def _add_priors(state: State, strain_sigma: float, M: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    """Hold the strains and, where it is fitted, the shift near zero."""
    strain, shift = state.strain, state.shift
    for unknown in range(3, len(b)):
        s = unknown - 3
        value = strain[s] if s < len(strain) else shift[s - len(strain)]
        weight = 1.0 / (strain_sigma * strain_sigma if s < len(strain) else SHIFT_SIGMA * SHIFT_SIGMA)
        M[unknown, unknown] += weight
        b[unknown] -= weight * value


@jit
def refine(
    spots: Spots,
    reference: NDArray[np.float64],
    strains: NDArray[np.float64],
    state: State,
    fit_shift: bool,
    strain_sigma: float,
) -> int:
    """Refine a lattice.

    Parameters
    ----------
    spots
        All peaks of the frame; those that the lattice does not explain are left out on the way.
    reference, strains
        Reciprocal axes of the reference cell, Å⁻¹, and its strains, as in `Constraint`.
    state
        Where to start; changed.
    fit_shift
        Whether the shift of the detector is an unknown.
    strain_sigma
        How far the cell may be from the reference: standard deviation of each strain.

    Returns
    -------
    used
        Number of peaks that took part in the last cycle; 0 if there were too few.
    """
    n_unknown = 3 + len(strains) + (2 if fit_shift else 0)
    M, b = np.empty((n_unknown, n_unknown)), np.empty(n_unknown)
    errors = np.empty(len(spots.ray))
    position_sigma, error_sigma = LEAST_POSITION_SIGMA, FIRST_ERROR_SIGMA
    used = 0
    for number in range(CYCLES):
        cycle = Cycle(position_sigma, error_sigma, number < FIRST_CYCLES)
        recip = reciprocal_axes(state, reference, strains)
        slopes = strain_slopes(state.turn, reference, strains)
        used, squares = gather(spots, recip, slopes, state.shift, cycle, M, b, errors)
        if used < FEWEST_PEAKS:
            return 0
        _add_priors(state, strain_sigma, M, b)
        if not solve_in_place(M, b):
            return 0
        if take_step(b, state) and number >= SETTLED_FROM:
            break
        if not cycle.first:
            position_sigma = max(math.sqrt(squares / (2 * used - 3)), LEAST_POSITION_SIGMA)
        error_sigma = max(SIGMA_OF_MEDIAN * np.median(errors[:used]), LEAST_ERROR_SIGMA)
        error_sigma = min(error_sigma, GREATEST_ERROR_SIGMA * _shortest_row(recip))
    return used
