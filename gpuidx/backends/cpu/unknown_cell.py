# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials without a cell on the CPU: `UnknownCellTrials.index` gives the lattices among some peaks.

Vectors of the lattice are found one by one (`unknown_vectors`), and put together (`unknown_combine`).  What
comes of many frames is put together in `gpuidx.indexing.consensus`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    DIRECT,
    FEWEST_PEAKS,
    FEWEST_PEAKS_LEFT,
    FEWEST_PEAKS_RETRY,
    MOST_LATTICES,
    PAIRS,
)
from gpuidx.backends.cpu.score import count_indexed
from gpuidx.backends.cpu.trials import belongs
from gpuidx.backends.cpu.unknown_combine import best_cell
from gpuidx.backends.cpu.unknown_vectors import distinct, find_axes
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.backends.known_cell import direction_grids
from gpuidx.backends.unknown_cell_constants import (
    ACCEPT_UNKNOWN,
    CHANCE_OF_VOLUME,
    ENOUGH_PER_PEAK,
    FEWEST_CYCLES,
    LONGEST_AXIS,
    MOST_PEAKS_UNKNOWN,
    MOST_TRIES_UNKNOWN,
    RETRY_SHARE_UNKNOWN,
    SHORTEST_AXIS,
)
from gpuidx.model import Candidate
from gpuidx.options import IndexOptions


class UnknownCellTrials:
    """Indexing trials without a cell; belongs to one thread.

    Parameters
    ----------
    options
        `multi`, `retry` and `axis_range` are used.
    """

    def __init__(self, options: IndexOptions) -> None:
        self._options = options
        self._grid, self._grid_start = direction_grids()
        self._buffer = np.empty(int(np.diff(self._grid_start).max()), np.float32)

    def index(
        self, q: NDArray[np.float64], shift_sigma: float, axes: NDArray[np.float32] | None = None
    ) -> tuple[list[Candidate], int]:
        """Find lattices among peaks; see `trials.Trials.index`.

        Parameters
        ----------
        q : (peak, xyz)
            Strongest first, Å⁻¹; only the first `MOST_PEAKS_UNKNOWN` are used.
        shift_sigma
            Not used: without a cell a shifted beam centre cannot be told from a different cell.
        axes
            Of the first tries, as `gpuidx.model.Found` has them, found by a device in the same peaks; those
            that are wanting are looked for here.

        Returns
        -------
        candidates
            Reduced cells, strongest first; more than one only with `multi`.
        n_tries
            How many trials were made.
        """
        q = np.ascontiguousarray(q, np.float64).reshape(-1, 3)[:MOST_PEAKS_UNKNOWN]
        given = () if axes is None else axes.astype(np.float64)
        found, tries = self._find(q, *given[:1]), 1
        while found is None and self._options.retry and tries < MOST_TRIES_UNKNOWN:
            q = q[: len(q) - len(q) // RETRY_SHARE_UNKNOWN]
            if len(q) < FEWEST_PEAKS_RETRY:
                break
            found, tries = self._find(q, *given[tries : tries + 1]), tries + 1
        candidates: list[Candidate] = []
        while found is not None:
            candidates.append(found)
            q = q[~belongs(q, found)]
            if not self._options.multi or len(candidates) == MOST_LATTICES or len(q) < FEWEST_PEAKS_LEFT:
                break
            found, tries = self._find(q), tries + 1
        candidates.sort(key=lambda c: -c.score)
        return candidates, tries

    def _find(self, q: NDArray[np.float64], given: NDArray[np.float64] | None = None) -> Candidate | None:
        """The best lattice, if it can be believed; *given*: axes (kind, axis, xyz and score)."""
        peaks, length = usable_peaks(q)
        if len(length) < FEWEST_PEAKS:
            return None
        limits = self._limits(peaks)
        if not limits[0] < limits[1]:
            return None
        axes, scores = self._axes(peaks, length, DIRECT, limits, given)
        best = best_cell(peaks, axes, limits[0])
        if best is None or not best[0] > ENOUGH_PER_PEAK * len(length):
            more, their_scores = self._axes(peaks, length, PAIRS, limits, given)
            axes, scores = np.concatenate([axes, more]), np.concatenate([scores, their_scores])
            second = best_cell(peaks, axes[distinct(axes, scores)], limits[0])
            if best is None or (second is not None and second[0] > best[0]):
                best = second
        if best is None:
            return None
        score, V = best
        chance = CHANCE_OF_VOLUME * math.log(np.linalg.det(V) * length[-1] ** 3)
        if not score >= ACCEPT_UNKNOWN + max(chance, 0.0):
            return None
        _, enough, n_axes = count_indexed(peaks, V, np.zeros(2))
        is_determined = enough and n_axes == 3  # the length of another axis would be anything
        return Candidate(axes=V, shift=np.zeros(2), score=score) if is_determined else None

    def _axes(
        self,
        peaks: NDArray[np.float64],
        length: NDArray[np.float64],
        kind: int,
        limits: tuple[float, float],
        given: NDArray[np.float64] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if given is not None:
            own = given[kind, given[kind, :, 3] > 0]
            return np.ascontiguousarray(own[:, :3]), own[:, 3].copy()
        return find_axes(peaks, length, kind, limits, self._grid, self._grid_start, self._buffer)

    def _limits(self, peaks: NDArray[np.float64]) -> tuple[float, float]:
        """Shortest and longest axis to look for, Å."""
        if self._options.axis_range is not None:
            return self._options.axis_range[0], self._options.axis_range[1]
        along = float(np.abs(peaks[2]).max())
        return max(SHORTEST_AXIS, FEWEST_CYCLES / along if along > 0 else np.inf), LONGEST_AXIS
