# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a lattice explains the peaks: a likelihood ratio, and what it takes to believe it."""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    AWAY_SHARE,
    FEWEST_REFLECTIONS,
    INDEXED,
    MISS_PENALTY,
    OFF_LINE,
    SAME_FRACTION,
    SCORE_SIGMAS,
    STRONG_QUALITY,
    STRONG_SCORE,
)
from gpuidx.jit import fast_jit, jit
from gpuidx.smallmath import det3, inv3, polar_rotation

_EXPONENT = 0.5 / SCORE_SIGMAS[0] ** 2
_DENSITY = 0.5 / ((2 * math.pi) ** 1.5 * SCORE_SIGMAS[0] ** 3)
_WIDTH = (2 * math.pi) ** 0.5 * SCORE_SIGMAS[0]
_CHUNK = 32
_N_SIGMAS = len(SCORE_SIGMAS)


@fast_jit
def _squares(
    peaks: NDArray[np.float64],
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """|d|² of each peak."""
    ax, ay, az = V[0, 0], V[0, 1], V[0, 2]
    bx, by, bz = V[1, 0], V[1, 1], V[1, 2]
    cx, cy, cz = V[2, 0], V[2, 1], V[2, 2]
    for i in range(len(squares)):
        x, y, z = peaks[0, i] - shift[0], peaks[1, i] - shift[1], peaks[2, i]
        h, k, m = x * ax + y * ay + z * az, x * bx + y * by + z * bz, x * cx + y * cy + z * cz
        h, k, m = h - np.rint(h), k - np.rint(k), m - np.rint(m)
        squares[i] = h * h + k * k + m * m


@jit
def likelihood(
    peaks: NDArray[np.float64],
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    n_sigmas: int,
    n_axes: int = 3,
) -> float:
    """Log-likelihood ratio of "half of the peaks lie about lattice points" and "none does".

    Σ ln(1/2 + 1/2 exp(-|d|² / 2 s²) / ((2π)^1.5 s³)), the largest over the first *n_sigmas* widths s of
    `SCORE_SIGMAS`.  At most 7.1 for each peak, and -0.69 for a peak that does not fit.

    Of *n_axes* rows the indices count as evidence; those of the others are expected to be near 0 either way.
    For each of the others the density is 1 in place of that of a Gaussian, but a peak still has to fit.

    The widths halve, so one exponential serves all; logarithms are taken of products of some factors.
    """
    squares = np.empty(peaks.shape[1])
    _squares(peaks, V, shift, squares)
    totals, products = np.zeros(3), np.ones(3)
    highest, growth = _DENSITY, 8.0
    for _ in range(3 - n_axes):
        highest, growth = highest * _WIDTH, 0.5 * growth
    for i in range(len(squares)):
        gauss = math.exp(-_EXPONENT * squares[i])
        density = highest
        for s in range(n_sigmas):
            products[s] *= 0.5 + density * gauss
            gauss = (gauss * gauss) * (gauss * gauss)
            density *= growth
        if i % _CHUNK == _CHUNK - 1:
            for s in range(n_sigmas):
                totals[s] += math.log(products[s])
                products[s] = 1.0
    best: float = totals[0] + math.log(products[0])
    for s in range(1, n_sigmas):
        best = max(best, totals[s] + math.log(products[s]))
    return best


@jit
def count_indexed(
    peaks: NDArray[np.float64], V: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[int, bool, int]:
    """What there is to believe a lattice by.

    Returns
    -------
    n_indexed
        Peaks that are well indexed.
    enough
        Whether they are enough different reflections, not on one line; the origin is no reflection.  Peaks
        that are all equal, or all on a line, fit any lattice.
    n_axes
        Rows of V along which the reflections have other indices than 0 (`AWAY_SHARE`).
    """
    hkl = np.empty((peaks.shape[1], 3))
    different = np.empty((FEWEST_REFLECTIONS, 3))
    count, n_listed, n_different = 0, 0, 0
    for i in range(peaks.shape[1]):
        x, y, z = peaks[0, i] - shift[0], peaks[1, i] - shift[1], peaks[2, i]
        well, origin = True, True
        for k in range(3):
            hkl[n_listed, k] = x * V[k, 0] + y * V[k, 1] + z * V[k, 2]
            nearest = np.rint(hkl[n_listed, k])
            well = well and abs(hkl[n_listed, k] - nearest) < INDEXED
            origin = origin and nearest == 0.0
        count += well
        if not well or origin:
            continue
        if n_different < FEWEST_REFLECTIONS and _is_different(different[:n_different], hkl[n_listed]):
            different[n_different] = np.rint(hkl[n_listed])
            n_different += 1
        n_listed += 1
    n_axes = 0
    for k in range(3):
        n_away = int(np.count_nonzero(np.rint(hkl[:n_listed, k])))
        n_axes += n_away * AWAY_SHARE >= n_listed
    return count, n_different == FEWEST_REFLECTIONS and _leave_a_line(hkl[:n_listed]), n_axes


@jit
def _is_different(known: NDArray[np.float64], hkl: NDArray[np.float64]) -> bool:
    """Whether a peak belongs to none of the reflections."""
    for e in range(len(known)):
        if (
            known[e, 0] == np.rint(hkl[0])
            and known[e, 1] == np.rint(hkl[1])
            and known[e, 2] == np.rint(hkl[2])
        ):
            return False
    return True


@jit
def _leave_a_line(hkl: NDArray[np.float64]) -> bool:
    """Whether a point lies off the line from the first point to the one farthest from it."""
    far, square = 0, 0.0
    for i in range(len(hkl)):
        distance = 0.0
        for k in range(3):
            distance += (hkl[i, k] - hkl[0, k]) ** 2
        if distance > square:
            far, square = i, distance
    if not square > 0.0:
        return False
    for i in range(len(hkl)):
        across = 0.0
        for k in range(3):
            m, n = (k + 1) % 3, (k + 2) % 3
            product = (hkl[i, m] - hkl[0, m]) * (hkl[far, n] - hkl[0, n])
            product -= (hkl[i, n] - hkl[0, n]) * (hkl[far, m] - hkl[0, m])
            across += product * product
        if across > OFF_LINE * OFF_LINE * square:
            return True
    return False


@jit
def believed(
    score: float, peaks: NDArray[np.float64], V: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[float, int]:
    """Score of a lattice from the axes that count, -inf if it has too few reflections; peaks well indexed."""
    n_indexed, enough, n_axes = count_indexed(peaks, V, shift)
    if not enough:
        return -np.inf, n_indexed
    return (score if n_axes == 3 else likelihood(peaks, V, shift, _N_SIGMAS, n_axes)), n_indexed


@jit
def is_strong(score: float, n_peaks: int, n_indexed: int) -> bool:
    """Whether a lattice is so good that no further attempt could be better."""
    if n_indexed == 0 or not score > STRONG_SCORE:
        return False
    return bool(score + MISS_PENALTY * (n_peaks - n_indexed) > STRONG_QUALITY * n_indexed)


@jit
def agree(V: NDArray[np.float64], W: NDArray[np.float64], angle: float) -> bool:
    """Whether two bases of the same hand describe one lattice within an angle in degrees.

    The rule of `lattice.same_lattice`.
    """
    inverse = inv3(W)
    M = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            fraction = V[i, 0] * inverse[0, j] + V[i, 1] * inverse[1, j] + V[i, 2] * inverse[2, j]
            M[i, j] = np.rint(fraction)
            if not abs(fraction - M[i, j]) < SAME_FRACTION:
                return False
    if det3(M) != 1.0:
        return False
    back = inv3(M)
    F = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for m in range(3):
                    F[i, j] += inverse[i, k] * back[k, m] * V[m, j]
    R = polar_rotation(F)
    return bool(R[0, 0] + R[1, 1] + R[2, 2] - 1.0 > 2.0 * math.cos(math.radians(angle)))
