# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials with a known cell on the CPU: `Trials.index` gives the lattices among some peaks.

Refinement against positions, checks and pseudo-symmetric alternatives come later, in `gpuidx.indexing`.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    ACCEPT,
    ATTEMPTS,
    FEWEST_PEAKS_LEFT,
    FEWEST_PEAKS_RETRY,
    FURTHER_ATTEMPTS,
    MOST_LATTICES,
    MOST_PEAKS,
    MOST_TRIES,
    RETRY_ATTEMPTS,
    RETRY_SHARE,
    SUBTRACT_FACTOR,
    SUBTRACT_LEAST,
    SUBTRACT_MOST,
)
from gpuidx.backends.cpu.search import find_lattice
from gpuidx.backends.known_cell import KnownCell
from gpuidx.cell import UnitCell
from gpuidx.model import Candidate
from gpuidx.options import IndexOptions


class Trials:
    """Indexing trials for one known cell; belongs to one thread.

    Parameters
    ----------
    cell
        With parameters.
    options
        `multi` and `retry` are used.

    Raises
    ------
    BackendError
        If the cell has no parameters.
    """

    def __init__(self, cell: UnitCell, options: IndexOptions) -> None:
        self.cell = KnownCell(cell)
        self._options = options
        self._first = np.array(ATTEMPTS)
        self._further, self._retry = np.array(FURTHER_ATTEMPTS), np.array(RETRY_ATTEMPTS)
        self._buffer = np.empty(int(np.diff(self.cell.tables.grid_start).max()), np.float32)

    def index(self, q: NDArray[np.float64], shift_sigma: float) -> tuple[list[Candidate], int]:
        """Find lattices among peaks.

        Parameters
        ----------
        q : (peak, xyz)
            Strongest first, Å⁻¹; only the first `MOST_PEAKS` are used.
        shift_sigma
            Expected error of the beam centre, Å⁻¹.

        Returns
        -------
        candidates
            Strongest first; more than one only with `multi`.
        n_tries
            How many trials were made.
        """
        q = np.ascontiguousarray(q, np.float64).reshape(-1, 3)[:MOST_PEAKS]
        found = self._find(q, self._first, shift_sigma)
        tries = 1
        if found is None and self._options.retry:
            found, tries = self._again(q, shift_sigma)
        if found is None:
            return [], tries
        candidates = [found]
        if self._options.multi:
            tries += self._more(q, shift_sigma, candidates)
        return candidates, tries

    def _find(
        self, q: NDArray[np.float64], attempts: NDArray[np.int64], shift_sigma: float
    ) -> Candidate | None:
        score, axes, shift = find_lattice(q, self.cell.tables, attempts, shift_sigma, self._buffer)
        return Candidate(axes=axes, shift=shift, score=score) if score >= ACCEPT else None

    def _again(self, q: NDArray[np.float64], shift_sigma: float) -> tuple[Candidate | None, int]:
        """Leave out the weakest tenth, again and again."""
        n = len(q)
        for tries in range(2, MOST_TRIES + 1):
            if n < FEWEST_PEAKS_RETRY or n < RETRY_SHARE:
                return None, tries - 1
            n -= n // RETRY_SHARE
            found = self._find(q[:n], self._retry, shift_sigma)
            if found is not None:
                return found, tries
        return None, MOST_TRIES

    def _more(self, q: NDArray[np.float64], shift_sigma: float, candidates: list[Candidate]) -> int:
        """Add further lattices, each among the peaks that those before left over; how many trials."""
        tries = 0
        found: Candidate | None = candidates[0]
        while found is not None and len(candidates) < MOST_LATTICES:
            q = q[~belongs(q, found)]
            if len(q) < FEWEST_PEAKS_LEFT:
                break
            tries += 1
            found = self._find(q, self._further, shift_sigma)
            if found is not None:
                candidates.append(found)
        candidates.sort(key=lambda c: -c.score)
        return tries


def belongs(q: NDArray[np.float64], lattice: Candidate) -> NDArray[np.bool_]:
    """Which peaks a lattice explains: within 4 times the median |d|, so that chance neighbours stay.

    Parameters
    ----------
    q : (peak, xyz)
        Å⁻¹.
    lattice
        A lattice found among them.

    Returns
    -------
    explained : (peak,)
        True also for peaks that are not finite.
    """
    hkl = (q - (*lattice.shift, 0.0)) @ lattice.axes.T
    with np.errstate(invalid="ignore"):
        distance = np.sqrt(((hkl - np.rint(hkl)) ** 2).sum(1))
    near = distance[distance < SUBTRACT_MOST]
    limit = SUBTRACT_FACTOR * float(np.median(near)) if len(near) else 0.0
    return np.asarray(~(distance >= min(SUBTRACT_MOST, max(SUBTRACT_LEAST, limit))))
