# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit of a free cell to the peaks, held near the nominal one by a prior on the strain."""

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    CELL_FEWEST,
    CELL_GROW_TOLERANCE,
    CELL_GROWTH,
    CELL_RANGE,
    CELL_RIDGE,
    CELL_TOLERANCE,
    CELL_WEIGHT,
    MOST_STRETCH,
    SCORE_SIGMAS,
)
from gpuidx.backends.cpu.normal import fill_cell, sum_up
from gpuidx.backends.cpu.score import likelihood
from gpuidx.jit import jit
from gpuidx.smallmath import solve_in_place

_N_SIGMAS = len(SCORE_SIGMAS)


@jit
def strain(V: NDArray[np.float64], metric_inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Green's strain (F' F - 1) / 2 of V = V0 F in the lab frame; only the metric of V0 is needed."""
    e = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            total = -1.0 if a == b else 0.0
            for j in range(3):
                for k in range(3):
                    total += V[j, a] * metric_inverse[j, k] * V[k, b]
            e[a, b] = 0.5 * total
    return e


@jit
def cell_step(
    peaks: NDArray[np.float64],
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    metric_inverse: NDArray[np.float64],
    limit: float,
    tolerance: float,
) -> None:
    """One Gauss-Newton step of V ← V (1 + E)' with nine unknowns; in place, the shift stays.

    Parameters
    ----------
    peaks, V, shift, limit, tolerance
        As in `normal.sum_up`.
    metric_inverse : (row, row)
        Of the nominal cell, Å⁻².
    """
    sums = np.empty((4, 7))
    if sum_up(peaks, V, shift, limit, tolerance, sums) < CELL_FEWEST:
        return
    M = np.empty((9, 9))
    step = np.empty(9)
    fill_cell(V, sums, M, step)
    e = strain(V, metric_inverse)
    trace = 0.0
    for a in range(3):
        for b in range(3):
            u, v = 3 * a + b, 3 * b + a
            step[u] -= CELL_WEIGHT * e[a, b]
            if a == b:
                M[u, u] += CELL_WEIGHT
            else:
                M[u, u] += 0.5 * CELL_WEIGHT
                M[u, v] += 0.5 * CELL_WEIGHT
    for u in range(9):
        trace += M[u, u]
    for u in range(9):
        M[u, u] += CELL_RIDGE * trace
    if not solve_in_place(M, step):
        return
    for k in range(3):
        x, y, z = V[k, 0], V[k, 1], V[k, 2]
        for a in range(3):
            V[k, a] += step[3 * a] * x + step[3 * a + 1] * y + step[3 * a + 2] * z


@jit
def fit_cell(
    start: NDArray[np.float64],
    shift: NDArray[np.float64],
    peaks: NDArray[np.float64],
    farthest: float,
    metric_inverse: NDArray[np.float64],
    longest: float,
) -> tuple[float, NDArray[np.float64]]:
    """Fit the cell in two ways, take the better.

    One fit takes all peaks from the beginning, the other first grows from the low-angle peaks: the first
    loses wrong cells, the second wrecks cells with one very long axis.

    Parameters
    ----------
    start : (row, xyz)
        Orientation of the nominal cell, Å.
    shift : (xy,)
        Å⁻¹.
    peaks : (xyzw, peak)
        Å⁻¹.
    farthest
        Length of the longest peak, Å⁻¹.
    metric_inverse : (row, row)
        Of the nominal cell, Å⁻².
    longest
        Row of the nominal cell, Å.

    Returns
    -------
    score
        Likelihood at all widths; -inf if both fits have left the nominal cell.
    V : (row, xyz)
        Å.
    """
    best, best_V = -np.inf, start
    for grows in range(2):
        V = start.copy()
        if grows:
            limit = CELL_RANGE / longest
            cell_step(peaks, V, shift, metric_inverse, limit, CELL_GROW_TOLERANCE)
            while limit < farthest:
                cell_step(peaks, V, shift, metric_inverse, limit, CELL_GROW_TOLERANCE)
                limit *= CELL_GROWTH
        for tolerance in CELL_TOLERANCE:
            cell_step(peaks, V, shift, metric_inverse, 1.01 * farthest, tolerance)
        score = likelihood(peaks, V, shift, _N_SIGMAS)
        if score > best and is_near(V, start):
            best, best_V = score, V
    return best, best_V


@jit
def is_near(V: NDArray[np.float64], start: NDArray[np.float64]) -> bool:
    """Whether no row has become much longer or shorter."""
    most = MOST_STRETCH * MOST_STRETCH
    for k in range(3):
        now = V[k, 0] ** 2 + V[k, 1] ** 2 + V[k, 2] ** 2
        before = start[k, 0] ** 2 + start[k, 1] ** 2 + start[k, 2] ** 2
        if not (now <= most * before and before <= most * now):
            return False
    return True
