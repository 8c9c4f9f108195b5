# SPDX-License-Identifier: GPL-3.0-or-later
"""One trial: the attempts to find one lattice among some peaks, in order, until one is good enough."""

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    ACCEPT,
    DIRECT,
    FEWEST_PEAKS,
    FEWEST_VECTORS,
    INDEX_SIGMA,
    N_CELLS,
    SAME_ANGLE,
    SCAN_CYCLES,
    SCAN_MOST,
    SCAN_NEED,
    TURN_CYCLES,
    TURN_MOST,
    TURN_NEED,
    TWIN_ANGLE,
)
from gpuidx.backends.cpu.cell_fit import fit_cell
from gpuidx.backends.cpu.orient import first_range, refine_orientation
from gpuidx.backends.cpu.scan import find_directions
from gpuidx.backends.cpu.score import agree, believed, is_strong
from gpuidx.backends.cpu.turn import find_orientations
from gpuidx.backends.cpu.vectors import scan_and_turn_vectors, usable_peaks
from gpuidx.backends.known_cell import CellTables
from gpuidx.jit import jit

_NOTHING = -1e9


@jit
def _orientations(
    peaks: NDArray[np.float64],
    length: NDArray[np.float64],
    cell: CellTables,
    anchor: int,
    kind: int,
    buffer: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Orientations to refine (orientation, row, xyz), the vectors they came from, cycles of the turn."""
    for_scan, scan_level, for_turn, turn_level = scan_and_turn_vectors(
        peaks,
        length,
        kind,
        (cell.scan_shortest[anchor], cell.scan_limit[anchor], SCAN_NEED[kind], SCAN_MOST[kind]),
        (cell.turn_limit[anchor], TURN_NEED[kind], TURN_MOST[kind]),
        (cell.pair_shortest, cell.pair_longest),
    )
    cycles = float(TURN_CYCLES[turn_level])
    if for_scan.shape[1] < FEWEST_VECTORS or for_turn.shape[1] < FEWEST_VECTORS:
        return np.empty((0, 3, 3)), for_turn, cycles
    local = cell.local[anchor]
    first, end = cell.grid_start[scan_level], cell.grid_start[scan_level + 1]
    scan_cycles = float(SCAN_CYCLES[scan_level])
    directions = find_directions(for_scan, local[0, 2], cell.grid, first, scan_cycles, buffer[: end - first])
    begin = cell.turn_start[anchor, turn_level]
    end = begin + cell.turn_steps[anchor, turn_level]
    V = find_orientations(
        for_turn, directions, local, cell.polar[anchor], cell.cosine[begin:end], cell.sine[begin:end]
    )
    return V, for_turn, cycles


@jit
def _different(V: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first `N_CELLS` in an order of orientations that are not the same as an earlier one."""
    kept = np.empty(N_CELLS, np.int64)
    count = 0
    for c in order:
        twin = False
        for e in kept[:count]:
            twin = twin or agree(V[c], V[e], TWIN_ANGLE)
        if not twin:
            kept[count] = c
            count += 1
            if count == N_CELLS:
                break
    return kept[:count]


@jit
def attempt(
    peaks: NDArray[np.float64],
    length: NDArray[np.float64],
    cell: CellTables,
    anchor: int,
    kind: int,
    shift_sigma: float,
    buffer: NDArray[np.float32],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Best lattice that one anchor and kind of vectors gives.

    Parameters
    ----------
    peaks, length
        From `vectors.usable_peaks`; at least one.
    cell, anchor, kind
        What to look for, and how; *kind* is `DIRECT` or `PAIRS`.
    shift_sigma
        Expected error of the beam centre, Å⁻¹.
    buffer : (direction,) float32
        At least as long as the largest grid.

    Returns
    -------
    score
        -1e9 if there is none.
    V : (row, xyz)
        In the order of the reduced cell, Å.
    shift : (xy,)
        Å⁻¹.
    """
    V, vectors, cycles = _orientations(peaks, length, cell, anchor, kind, buffer)
    n = len(V)
    shift = np.zeros((n, 2))
    scores = np.empty(n)
    farthest = length[-1]
    begin = first_range(kind == DIRECT, cycles, cell.longest)
    shift_weight = (INDEX_SIGMA / shift_sigma) ** 2
    for c in range(n):
        scores[c] = refine_orientation(V[c], shift[c], vectors, peaks, farthest, begin, cycles, shift_weight)
    best, best_V, best_shift = _NOTHING, np.zeros((3, 3)), np.zeros(2)
    for c in _different(V, np.argsort(-scores, kind="mergesort")):
        score, fitted = fit_cell(V[c], shift[c], peaks, farthest, cell.metric_inverse[anchor], cell.longest)
        if score > best:
            best, best_shift = score, shift[c]
            for k in range(3):
                best_V[(k + anchor) % 3] = fitted[k]
    return best, best_V, best_shift


@jit
def find_lattice(
    q: NDArray[np.float64],
    cell: CellTables,
    attempts: NDArray[np.int64],
    shift_sigma: float,
    buffer: NDArray[np.float32],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Make attempts until one is strong, or two agree, or none is left.

    Parameters
    ----------
    q : (peak, xyz)
        In any order, Å⁻¹; those that are not finite, or zero, are ignored.
    attempts : (attempt, 2)
        Anchor and kind of vectors of each.
    cell, shift_sigma, buffer
        As in `attempt`.

    Returns
    -------
    score
        Of the best accepted lattice; -1e9 if none was accepted.
    V, shift
        As from `attempt`.
    """
    best, best_V, best_shift = _NOTHING, np.zeros((3, 3)), np.zeros(2)
    peaks, length = usable_peaks(q)
    if len(length) < FEWEST_PEAKS:
        return best, best_V, best_shift
    for k in range(len(attempts)):
        score, V, shift = attempt(peaks, length, cell, attempts[k, 0], attempts[k, 1], shift_sigma, buffer)
        if not score >= ACCEPT:
            continue
        score, n_indexed = believed(score, peaks, V, shift)
        if not score >= ACCEPT:
            continue
        agreed = best >= ACCEPT and agree(V, best_V, SAME_ANGLE)
        if score > best:
            best, best_V, best_shift = score, V, shift
            agreed = agreed or is_strong(score, len(length), n_indexed)
        if agreed:
            break
    return best, best_V, best_shift
