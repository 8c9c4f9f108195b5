# SPDX-License-Identifier: GPL-3.0-or-later
"""From vectors of a lattice to its cell: triples of vectors, a fit, too large cells divided."""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import CELL_FEWEST, CELL_RIDGE, SCORE_SIGMAS
from gpuidx.backends.cpu.normal import fill_cell, sum_up
from gpuidx.backends.cpu.score import likelihood
from gpuidx.backends.unknown_cell_constants import (
    FLATTEST,
    FREE_TOLERANCE,
    MOST_DIVISIONS,
    N_TRIPLES,
    NEARLY_BEST,
    PRIMES,
    SUPERLATTICE_CHANCE,
    SUPERLATTICE_PEAKS,
    SUPERLATTICE_SHARE,
    SUPERLATTICE_TOLERANCE,
    VECTOR_BEYOND,
)
from gpuidx.jit import jit
from gpuidx.lattice import reduce_axes
from gpuidx.smallmath import det3, solve_in_place

_ALL = 1e9
_N_SIGMAS = len(SCORE_SIGMAS)
_EXPONENT = 0.5 / SCORE_SIGMAS[0] ** 2
_DENSITY = 0.5 / ((2 * math.pi) ** 1.5 * SCORE_SIGMAS[0] ** 3)
_CHUNK = 32


@jit
def _squares(peaks: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of each index from an integer, (axis, peak)."""
    squares = np.empty((len(axes), peaks.shape[1]))
    for k in range(len(axes)):
        for i in range(peaks.shape[1]):
            p = peaks[0, i] * axes[k, 0] + peaks[1, i] * axes[k, 1] + peaks[2, i] * axes[k, 2]
            squares[k, i] = (p - np.rint(p)) ** 2
    return squares


@jit
def _coarse_likelihood(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
    """`score.likelihood` at the two coarse widths, from the squares of three axes."""
    total, half = 0.0, 0.0
    product, half_product = 1.0, 1.0
    for i in range(len(a)):
        gauss = math.exp(-_EXPONENT * (a[i] + b[i] + c[i]))
        product *= 0.5 + _DENSITY * gauss
        gauss = (gauss * gauss) * (gauss * gauss)
        half_product *= 0.5 + 8.0 * _DENSITY * gauss
        if i % _CHUNK == _CHUNK - 1:
            total, half = total + math.log(product), half + math.log(half_product)
            product, half_product = 1.0, 1.0
    return max(total + math.log(product), half + math.log(half_product))


@jit
def best_triples(peaks: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bases (basis, row, xyz) of three of the axes that explain the peaks best; at most `N_TRIPLES`.

    Parameters
    ----------
    peaks : (xyzw, peak)
        Å⁻¹.
    axes : (axis, xyz)
        Å.
    """
    n = len(axes)
    squares = _squares(peaks, axes)
    size = np.sqrt((axes * axes).sum(axis=1))
    scores = np.empty(n * (n - 1) * (n - 2) // 6)
    members = np.empty((len(scores), 3), np.int64)
    count = 0
    for i in range(n):
        for j in range(i + 1, n):
            cx = axes[i, 1] * axes[j, 2] - axes[i, 2] * axes[j, 1]
            cy = axes[i, 2] * axes[j, 0] - axes[i, 0] * axes[j, 2]
            cz = axes[i, 0] * axes[j, 1] - axes[i, 1] * axes[j, 0]
            area = math.sqrt(cx * cx + cy * cy + cz * cz)
            if area < FLATTEST * size[i] * size[j]:
                continue
            for k in range(j + 1, n):
                if abs(cx * axes[k, 0] + cy * axes[k, 1] + cz * axes[k, 2]) < FLATTEST * area * size[k]:
                    continue
                scores[count] = _coarse_likelihood(squares[i], squares[j], squares[k])
                members[count, 0], members[count, 1], members[count, 2] = i, j, k
                count += 1
    order = np.argsort(-scores[:count], kind="mergesort")[:N_TRIPLES]
    bases = np.empty((len(order), 3, 3))
    for place in range(len(order)):
        for row in range(3):
            bases[place, row] = axes[members[order[place], row]]
    return bases


@jit
def fit_free_cell(V: NDArray[np.float64], shift: NDArray[np.float64], peaks: NDArray[np.float64]) -> float:
    """Fit a cell with nine unknowns to the peaks, without a prior; in place.

    Parameters
    ----------
    V : (row, xyz)
        Å; overwritten.
    shift : (xy,)
        Taken from every peak first, Å⁻¹.
    peaks : (xyzw, peak)
        Å⁻¹.

    Returns
    -------
    score
        Likelihood at all widths; -inf if the rows are no basis any more.
    """
    sums, M, step = np.empty((4, 7)), np.empty((9, 9)), np.empty(9)
    for tolerance in FREE_TOLERANCE:
        if sum_up(peaks, V, shift, _ALL, tolerance, sums) < CELL_FEWEST:
            break
        fill_cell(V, sums, M, step)
        trace = 0.0
        for u in range(9):
            trace += M[u, u]
        for u in range(9):
            M[u, u] += CELL_RIDGE * trace
        if not solve_in_place(M, step):
            break
        for k in range(3):
            x, y, z = V[k, 0], V[k, 1], V[k, 2]
            for a in range(3):
                V[k, a] += step[3 * a] * x + step[3 * a + 1] * y + step[3 * a + 2] * z
    if not abs(det3(V)) > 0.0:
        return -np.inf
    return likelihood(peaks, V, shift, _N_SIGMAS)


def _rows_modulo(prime: int) -> NDArray[np.int64]:
    """Rows of residues whose first that is not 0 is 1: one for each sublattice of that index, (row, 3)."""
    rows = [row for row in itertools.product(range(prime), repeat=3) if next((x for x in row if x), 0) == 1]
    return np.array(rows)


def _by_chance(count: int, n: int, prime: int) -> float:
    """Probability that *count* or more of *n* reflections lie on a sublattice of an index that is a prime."""
    share = 1 / prime
    return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(count, n + 1))


_DIVISORS = tuple((prime, _rows_modulo(prime)) for prime in PRIMES)


def fitted(
    V: NDArray[np.float64], peaks: NDArray[np.float64], shortest: float
) -> tuple[float, NDArray[np.float64]] | None:
    """A reduced and fitted cell with its score; None if the rows are no basis, or one too short, Å."""
    try:
        axes = np.ascontiguousarray(reduce_axes(V)[0])
        score = fit_free_cell(axes, np.zeros(2), peaks)
        axes, _ = reduce_axes(axes)
    except ValueError:
        return None
    return (score, axes) if np.linalg.norm(axes[0]) * VECTOR_BEYOND >= shortest else None


def divided(V: NDArray[np.float64], peaks: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A basis of the lattice that nearly all reflections belong to, if that is smaller than the cell.

    The reflections hkl with h·u = 0 modulo a prime p, for a row u, are those of the cell in which an axis is
    replaced by u V / p.
    """
    fraction = peaks[:3].T @ V.T
    nearest = np.rint(fraction)
    hkl = nearest[(np.abs(fraction - nearest) < SUPERLATTICE_TOLERANCE).all(1)].astype(np.int64)
    if len(hkl) < SUPERLATTICE_PEAKS:
        return None
    best, smaller = SUPERLATTICE_SHARE, None
    for prime, rows in _DIVISORS:
        share = ((hkl @ rows.T) % prime == 0).mean(0)
        which = int(np.argmax(share))
        if not share[which] > best:
            continue
        chance = len(rows) * _by_chance(round(share[which] * len(hkl)), len(hkl), prime)
        if chance < SUPERLATTICE_CHANCE:
            best, smaller = float(share[which]), V.copy()
            smaller[int(np.flatnonzero(rows[which])[0])] = rows[which] @ V / prime
    return smaller


def best_cell(
    peaks: NDArray[np.float64], axes: NDArray[np.float64], shortest: float
) -> tuple[float, NDArray[np.float64]] | None:
    """The cell of the lattice that some vectors belong to; None if they make none.

    Parameters
    ----------
    peaks : (xyzw, peak)
        Å⁻¹.
    axes : (axis, xyz)
        Vectors of the lattice, and others, Å.
    shortest
        Axis that there may be, Å.

    Returns
    -------
    score
        `score.likelihood` at all widths.
    V : (row, xyz)
        Reduced, Å.
    """
    if len(axes) < 3:
        return None
    cells = [cell for V in best_triples(peaks, axes) if (cell := fitted(V, peaks, shortest)) is not None]
    enough = NEARLY_BEST * max((score for score, _ in cells), default=0.0)
    if not enough > 0.0:
        return None
    best = min((cell for cell in cells if cell[0] >= enough), key=lambda cell: abs(np.linalg.det(cell[1])))
    for _ in range(MOST_DIVISIONS):
        smaller = divided(best[1], peaks)
        again = None if smaller is None else fitted(smaller, peaks, shortest)
        if again is None:
            break
        best = again
    return best
