# SPDX-License-Identifier: GPL-3.0-or-later
"""From candidate lattices to crystals: checks and refinement, in CrystFEL's order.

Cell check, refinement, the cell again, share of peaks explained, duplicates; then profile radius and
resolution limit.  The trials that find candidates are the backend's.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell
from gpuidx.geometry.detector import Geometry
from gpuidx.indexing import pairing
from gpuidx.indexing.alternatives import best_setting, pseudo_symmetric_turns
from gpuidx.indexing.cell_check import TargetCell, is_sane
from gpuidx.indexing.duplicates import SameCrystal
from gpuidx.indexing.observed import NO_SHIFT, peaks_of, spots_of
from gpuidx.indexing.pairing import FIRST_RADIUS, Peaks, Residual
from gpuidx.indexing.peak_check import passes
from gpuidx.indexing.refinement import STRAIN_SIGMA, refine
from gpuidx.indexing.state import reciprocal_axes, start
from gpuidx.indexing.strain import Constraint, constraint_of_cell, free_constraint
from gpuidx.model import Candidate, Crystal, Frame, PeakList
from gpuidx.options import IndexOptions, IntegrationOptions

log = logging.getLogger(__name__)

ANGSTROM_PER_METRE = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """A lattice on its way through the checks; *matched* if its setting is the target's."""

    axes: NDArray[np.float64]
    recip: NDArray[np.float64]
    matched: bool
    shift: tuple[float, float]
    residuals: dict[str, Residual]


class Acceptance:
    """Decides which candidates are crystals, and refines them; made once per worker.

    Parameters
    ----------
    geometry, cell
        Of the run; without a cell, or its parameters, lattices are not checked against it, and crystals
        are triclinic with primitive axes.
    options, integration
        Checks and refinement; ``--fix-profile-radius``.
    """

    def __init__(
        self,
        geometry: Geometry,
        cell: UnitCell | None,
        options: IndexOptions,
        integration: IntegrationOptions,
    ) -> None:
        cell = cell or UnitCell(parameters=None)
        self._cell, self._options, self._bandwidth = cell, options, geometry.bandwidth
        radius = integration.fix_profile_radius
        self._fixed_radius = None if radius is None else radius * ANGSTROM_PER_METRE
        self._target: TargetCell | None = None
        self._constraint: Constraint | None = None
        self._turns = np.eye(3)[None]
        if cell.parameters is not None:
            self._target = TargetCell(cell, options.tolerance)
            self._constraint = constraint_of_cell(cell)
            self._turns = pseudo_symmetric_turns(self._target)
        self._same_as_target = SameCrystal(cell.centering)
        self._same_as_primitive = SameCrystal("P")

    def crystals(self, frame: Frame, peaks: PeakList, candidates: Sequence[Candidate]) -> tuple[Crystal, ...]:
        """The crystals among the candidates, strongest first; one at most without ``--multi``.

        Parameters
        ----------
        frame, peaks
            With the detector and wavelength of this frame.
        candidates
            Reduced primitive cells, as the backend found them.
        """
        found: list[tuple[_Lattice, Crystal]] = []
        remaining = np.ones(len(peaks), bool)
        for candidate in candidates if len(peaks) else ():
            peaks_left = peaks if remaining.all() else peaks.select(remaining)
            lattice = self._prepare(candidate, frame, peaks_left)
            if lattice is None:
                continue
            view = peaks_of(frame, peaks, self._bandwidth, lattice.shift)
            inv_d = pairing.explain(view, lattice.axes, lattice.recip)
            explained = ~np.isnan(inv_d)
            if self._options.check_peaks and not passes(
                explained[remaining], peaks_left.intensity, self._options.multi, self._options.retry
            ):
                continue
            if any(self._is_same(lattice, other) for other, _ in found):
                continue
            found.append((lattice, self._crystal(candidate, lattice, view, inv_d)))
            if not self._options.multi:
                break
            remaining &= ~(pairing.distances(view, lattice.axes) < pairing.CLOSE)
        return tuple(crystal for _, crystal in found)

    def _prepare(self, candidate: Candidate, frame: Frame, peaks: PeakList) -> _Lattice | None:
        """Cell check, refinement, cell check; None if the candidate fails one."""
        axes = np.array(candidate.axes, np.float64, order="C")
        if not is_sane(axes):
            return None
        setting = self._target.setting(axes) if self._target is not None else None
        if setting is None and self._options.check_cell and self._target is not None:
            return None
        matched = setting is not None
        if setting is not None:
            axes = setting
        recip = np.ascontiguousarray(np.linalg.inv(axes).T)
        if not self._options.refine:
            return _Lattice(axes, recip, matched, NO_SHIFT, {})
        lattice = self._refined(axes, recip, matched, frame, peaks)
        if lattice is None or (
            self._options.check_cell and self._target is not None and not self._target.matches(lattice.axes)
        ):
            return None
        return lattice

    def _refined(
        self,
        axes: NDArray[np.float64],
        recip: NDArray[np.float64],
        matched: bool,
        frame: Frame,
        peaks: PeakList,
    ) -> _Lattice | None:
        """A refined lattice with CrystFEL's notes; None if too few peaks belong to it.

        The target's lattice type is imposed only on a lattice in the target's setting.  Without
        ``--refine-shift`` the shift is no unknown: then positions predicted for the detector as the
        geometry has it come out better than after a fit of the shift that is then dropped.
        """
        fit_shift = self._options.refine_shift
        constraint = self._constraint if matched and self._constraint is not None else free_constraint(axes)
        spots = spots_of(frame, peaks, self._bandwidth)
        view = peaks_of(frame, peaks, self._bandwidth)
        pairs = pairing.pair_peaks(view, axes, recip)
        if len(pairs.peak) < pairing.FEWEST_PAIRS:
            return None
        residuals = {"residual_before_constraints": pairing.residual(view, pairs, recip)}
        if matched and len(self._turns) > 1:
            axes = best_setting(self._turns, axes, constraint, spots, fit_shift)
        state = start(axes, constraint.axes, constraint.strains)
        imposed = reciprocal_axes(state, constraint.recip, constraint.strains)
        residuals["initial_residual"] = pairing.residual(view, pairs, imposed)
        if not refine(spots, constraint.recip, constraint.strains, state, fit_shift, STRAIN_SIGMA):
            return None
        recip = reciprocal_axes(state, constraint.recip, constraint.strains)
        axes = np.ascontiguousarray(np.linalg.inv(recip).T)
        shift = NO_SHIFT
        if fit_shift:
            unit = float(frame.detector.pitch.mean())
            shift = (float(state.shift[0]) * unit, float(state.shift[1]) * unit)
            view = peaks_of(frame, peaks, self._bandwidth, shift)
        residuals["final_residual"] = pairing.residual(view, pairs, recip)
        if len(pairing.pair_peaks(view, axes, recip).peak) < pairing.FEWEST_PAIRS:
            return None
        return _Lattice(axes, recip, matched, shift, residuals)

    def _crystal(
        self, candidate: Candidate, lattice: _Lattice, view: Peaks, inv_d: NDArray[np.float64]
    ) -> Crystal:
        """A lattice that passed, with profile radius and resolution limit from all peaks of the frame."""
        radius = self._fixed_radius
        if radius is None:
            radius = pairing.profile_radius(pairing.pair_peaks(view, lattice.axes, lattice.recip))
        if radius is None:
            log.debug("too few peaks for a profile radius")
            radius = FIRST_RADIUS
        limit = pairing.resolution_limit(inv_d)
        if limit is None:
            log.debug("too few peaks to estimate the resolution")
        cell = self._cell if lattice.matched else UnitCell(parameters=None)
        return Crystal(
            recip=lattice.recip,
            lattice_type=cell.lattice_type,
            centering=cell.centering,
            unique_axis=cell.unique_axis,
            score=candidate.score,
            shift=lattice.shift,
            profile_radius=radius,
            resolution_limit=limit or 0.0,
            residuals=lattice.residuals,
        )

    def _is_same(self, lattice: _Lattice, other: _Lattice) -> bool:
        if lattice.matched != other.matched:
            return False
        compare = self._same_as_target if lattice.matched else self._same_as_primitive
        return compare(lattice.axes, other.axes)
