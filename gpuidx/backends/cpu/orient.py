# SPDX-License-Identifier: GPL-3.0-or-later
"""Refinement of orientations of the nominal cell: a turn, then turn and shift of the beam centre."""

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    INDEX_SIGMA,
    N_COARSE_SIGMAS,
    ORIENTATION_FEWEST,
    ORIENTATION_GROWTH,
    ORIENTATION_LAST_TOLERANCE,
    ORIENTATION_RANGE,
    ORIENTATION_RIDGE,
    ORIENTATION_STEP,
    ORIENTATION_TOLERANCE,
    STEP,
)
from gpuidx.backends.cpu.normal import fill_turn, sum_up
from gpuidx.backends.cpu.score import likelihood
from gpuidx.jit import jit
from gpuidx.smallmath import solve_in_place

_ALL = 1e9


@jit
def _turn(V: NDArray[np.float64], omega: NDArray[np.float64]) -> None:
    """Turn the rows by Cayley's form, an exact rotation of nearly |omega| rad, limited to a largest step."""
    size = np.sqrt(omega[0] ** 2 + omega[1] ** 2 + omega[2] ** 2)
    half = 0.5 * (ORIENTATION_STEP / size if size > ORIENTATION_STEP else 1.0)
    x, y, z = half * omega[0], half * omega[1], half * omega[2]
    scale = 2.0 / (1.0 + x * x + y * y + z * z)
    for k in range(3):
        a, b, c = V[k, 0], V[k, 1], V[k, 2]
        p, q, r = y * c - z * b, z * a - x * c, x * b - y * a
        V[k, 0] = a + scale * (p + y * r - z * q)
        V[k, 1] = b + scale * (q + z * p - x * r)
        V[k, 2] = c + scale * (r + x * q - y * p)


@jit
def turn_step(
    vectors: NDArray[np.float64],
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    limit: float,
    tolerance: float,
    turn_weight: float,
    shift_weight: float,
) -> None:
    """One Gauss-Newton step of a rigid turn and, if *shift_weight* is not 0, a shift; in place.

    Parameters
    ----------
    vectors, V, shift, limit, tolerance
        As in `normal.sum_up`.
    turn_weight, shift_weight
        Of the prior: no turn, no shift.
    """
    sums = np.empty((4, 7))
    if sum_up(vectors, V, shift, limit, tolerance, sums) < ORIENTATION_FEWEST:
        return
    n = 5 if shift_weight > 0.0 else 3
    M = np.empty((n, n))
    step = np.empty(n)
    fill_turn(V, sums, M, step)
    ridge = ORIENTATION_RIDGE * (M[0, 0] + M[1, 1] + M[2, 2])
    for u in range(3):
        M[u, u] += ridge + turn_weight
    for u in range(3, n):
        M[u, u] += shift_weight
        step[u] -= shift_weight * shift[u - 3]
    if not solve_in_place(M, step):
        return
    _turn(V, step)
    for u in range(3, n):
        shift[u - 3] += step[u]


@jit
def refine_orientation(
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    vectors: NDArray[np.float64],
    peaks: NDArray[np.float64],
    farthest: float,
    begin: float,
    cycles: float,
    shift_weight: float,
) -> float:
    """Refine an orientation, first on the vectors of the turn, then on peaks in a growing range.

    Parameters
    ----------
    V : (row, xyz)
        Rows, Å; overwritten.
    shift : (xy,)
        Å⁻¹; overwritten.
    vectors : (xyzw, vector)
        Those of the turn, Å⁻¹.
    peaks : (xyzw, peak)
        Å⁻¹.
    farthest
        Length of the longest peak, Å⁻¹.
    begin
        First range, Å⁻¹.
    cycles
        Of the turn's level: the prior allows one of its steps.
    shift_weight
        Of the prior on the shift.

    Returns
    -------
    score
        Likelihood at coarse widths.
    """
    turn_weight = (INDEX_SIGMA * cycles / STEP) ** 2
    shift[:] = 0.0
    for _ in range(2):
        turn_step(vectors, V, shift, _ALL, ORIENTATION_TOLERANCE, turn_weight, 0.0)
    rigid = likelihood(peaks, V, shift, N_COARSE_SIGMAS)
    rigid_V = V.copy()
    limit, everything = begin, 1.01 * farthest
    while True:
        turn_step(peaks, V, shift, min(limit, everything), ORIENTATION_TOLERANCE, turn_weight, shift_weight)
        if limit > farthest:
            break
        limit *= ORIENTATION_GROWTH
    turn_step(peaks, V, shift, everything, ORIENTATION_LAST_TOLERANCE, turn_weight, shift_weight)
    score = likelihood(peaks, V, shift, N_COARSE_SIGMAS)
    if rigid > score:
        V[:], shift[:] = rigid_V, 0.0
        return rigid
    return score


@jit
def first_range(direct: bool, cycles: float, longest: float) -> float:
    """Range of q in which orientations are refined first, Å⁻¹; *longest* row of the cell in Å."""
    least, share = ORIENTATION_RANGE
    return (max(least, share * cycles) if direct else least) / longest
