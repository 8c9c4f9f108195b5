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

from gpuidx.cell import UnitCell, cell_parameters
from gpuidx.geometry.detector import Geometry
from gpuidx.indexing import pairing
from gpuidx.indexing.alignment import AlignmentRecords
from gpuidx.indexing.alternatives import best_setting, pseudo_symmetric_turns
from gpuidx.indexing.cell_check import TargetCell, is_sane
from gpuidx.indexing.duplicates import SameCrystal
from gpuidx.indexing.observed import NO_SHIFT, peaks_of, spots_of
from gpuidx.indexing.pairing import FIRST_RADIUS, Peaks, Residual
from gpuidx.indexing.peak_check import passes
from gpuidx.indexing.refinement import STRAIN_SIGMA, refine
from gpuidx.indexing.solutions import Solution
from gpuidx.indexing.state import reciprocal_axes, start
from gpuidx.indexing.strain import Constraint, constraint_of_cell, free_constraint, typed_constraint
from gpuidx.lattice import primitive_axes
from gpuidx.model import Candidate, Crystal, Frame, PeakList
from gpuidx.options import IndexOptions, IntegrationOptions

log = logging.getLogger(__name__)

ANGSTROM_PER_METRE = 1e-10


_UNKNOWN = UnitCell(parameters=None)
"""Of lattices that are not the target's: triclinic, primitive."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """A lattice on its way through the checks; *record* as `Crystal.alignment`."""

    axes: NDArray[np.float64]
    recip: NDArray[np.float64]
    cell: UnitCell
    shift: tuple[float, float]
    residuals: dict[str, Residual]
    record: bytes = b""


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
        self._checks_cell = options.check_cell and cell.parameters is not None
        if cell.parameters is not None:
            self._target = TargetCell(cell, options.tolerance)
            self._constraint = constraint_of_cell(cell)
            self._turns = pseudo_symmetric_turns(self._target)
        records = options.mille and options.refine
        self._records = AlignmentRecords(geometry, options.max_mille_level) if records else None
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
            crystal = self._passed(lattice, frame, peaks, remaining, found, candidate.score)
            if lattice is None or crystal is None:
                continue
            found.append((lattice, crystal))
            if not self._options.multi:
                break
            view = peaks_of(frame, peaks, self._bandwidth, lattice.shift)
            remaining &= ~(pairing.distances(view, lattice.axes) < pairing.CLOSE)
        return tuple(crystal for _, crystal in found)

    def given(self, frame: Frame, peaks: PeakList, solutions: Sequence[Solution]) -> tuple[Crystal, ...]:
        """Those of the crystals in a file that pass the same checks, refined from there.

        CrystFEL 0.12, behaviour of ``--indexing=file``: all of them, whatever ``--multi`` says.

        Parameters
        ----------
        frame, peaks
            With the detector and wavelength of this frame.
        solutions
            Of this frame; one in the setting of the target cell stays in it.
        """
        found: list[tuple[_Lattice, Crystal]] = []
        everything = np.ones(len(peaks), bool)
        for solution in solutions if len(peaks) else ():
            lattice = self._prepare_given(solution, frame, peaks)
            crystal = self._passed(lattice, frame, peaks, everything, found, None)
            if lattice is not None and crystal is not None:
                found.append((lattice, crystal))
        return tuple(crystal for _, crystal in found)

    def _passed(
        self,
        lattice: _Lattice | None,
        frame: Frame,
        peaks: PeakList,
        among: NDArray[np.bool_],
        found: Sequence[tuple[_Lattice, Crystal]],
        score: float | None,
    ) -> Crystal | None:
        """The crystal of a lattice that explains enough *among* the peaks, and is none of those found."""
        if lattice is None:
            return None
        view = peaks_of(frame, peaks, self._bandwidth, lattice.shift)
        inv_d = pairing.explain(view, lattice.axes, lattice.recip)
        explained, intensity = ~np.isnan(inv_d)[among], peaks.intensity[among]
        if self._options.check_peaks and not passes(
            explained, intensity, self._options.multi, self._options.retry
        ):
            return None
        if any(self._is_same(lattice, other) for other, _ in found):
            return None
        return self._crystal(lattice, view, inv_d, score)

    def _prepare(self, candidate: Candidate, frame: Frame, peaks: PeakList) -> _Lattice | None:
        """Cell check, refinement, cell check; None if the candidate fails one."""
        axes = np.array(candidate.axes, np.float64, order="C")
        if not is_sane(axes):
            return None
        setting = self._target.setting(axes) if self._target is not None else None
        if setting is not None:
            return self._finished(setting, self._cell, frame, peaks, self._turns)
        if self._checks_cell:
            return None
        return self._finished(axes, _UNKNOWN, frame, peaks)

    def _prepare_given(self, solution: Solution, frame: Frame, peaks: PeakList) -> _Lattice | None:
        """The same for a crystal of a file; without ``--check-cell`` its cell and setting stay as given."""
        axes, cell = solution.axes, solution.cell
        if not is_sane(axes):
            return None
        if self._target is not None and self._checks_cell:
            if not (cell.centering == self._cell.centering and self._target.matches(axes)):
                setting = self._target.setting(primitive_axes(axes, cell.centering))
                if setting is None:
                    return None
                axes = setting
            cell = self._cell
        return self._finished(axes, cell, frame, peaks, shift=solution.shift)

    def _finished(
        self,
        axes: NDArray[np.float64],
        cell: UnitCell,
        frame: Frame,
        peaks: PeakList,
        turns: NDArray[np.float64] | None = None,
        shift: tuple[float, float] = NO_SHIFT,
    ) -> _Lattice | None:
        """Refinement, if wanted, and the cell check after it; see `_refined`."""
        recip = np.ascontiguousarray(np.linalg.inv(axes).T)
        if not self._options.refine:
            return _Lattice(axes, recip, cell, shift, {})
        lattice = self._refined(axes, recip, cell, frame, peaks, turns, shift)
        if lattice is None or not self._checks_cell or self._target is None:
            return lattice
        return lattice if self._target.matches(lattice.axes) else None

    def _constraint_of(self, axes: NDArray[np.float64], cell: UnitCell) -> Constraint:
        if cell is self._cell and self._constraint is not None:
            return self._constraint
        if cell.lattice_type == "triclinic":
            return free_constraint(axes)
        return typed_constraint(cell, cell_parameters(axes)) or free_constraint(axes)

    def _refined(
        self,
        axes: NDArray[np.float64],
        recip: NDArray[np.float64],
        cell: UnitCell,
        frame: Frame,
        peaks: PeakList,
        turns: NDArray[np.float64] | None,
        shift: tuple[float, float],
    ) -> _Lattice | None:
        """A refined lattice with CrystFEL's notes; None if too few peaks belong to it.

        Of pseudo-symmetric *turns* the best is taken.  Without ``--refine-shift`` the shift is no unknown:
        then positions predicted for the detector as the geometry has it come out better than after a fit
        of the shift that is then dropped.
        """
        fit_shift, unit = self._options.refine_shift, float(frame.detector.pitch.mean())
        constraint = self._constraint_of(axes, cell)
        spots = spots_of(frame, peaks, self._bandwidth)
        view = peaks_of(frame, peaks, self._bandwidth, shift)
        pairs = pairing.pair_peaks(view, axes, recip)
        if len(pairs.peak) < pairing.FEWEST_PAIRS:
            return None
        residuals = {"residual_before_constraints": pairing.residual(view, pairs, recip)}
        if turns is not None and len(turns) > 1:
            axes = best_setting(turns, axes, constraint, spots, fit_shift)
            pairs = pairing.pair_peaks(view, axes, np.ascontiguousarray(np.linalg.inv(axes).T))
        state = start(axes, constraint.axes, constraint.strains)
        state.shift[:] = shift[0] / unit, shift[1] / unit
        imposed = reciprocal_axes(state, constraint.recip, constraint.strains)
        residuals["initial_residual"] = pairing.residual(view, pairs, imposed)
        if not refine(spots, constraint.recip, constraint.strains, state, fit_shift, STRAIN_SIGMA):
            return None
        recip = reciprocal_axes(state, constraint.recip, constraint.strains)
        axes = np.ascontiguousarray(np.linalg.inv(recip).T)
        if fit_shift:
            shift = (float(state.shift[0]) * unit, float(state.shift[1]) * unit)
            view = peaks_of(frame, peaks, self._bandwidth, shift)
        residuals["final_residual"] = pairing.residual(view, pairs, recip)
        if len(pairing.pair_peaks(view, axes, recip).peak) < pairing.FEWEST_PAIRS:
            return None
        record = b""
        if self._records is not None:
            record = self._records.record(frame.detector, view, pairs, recip, constraint)
        return _Lattice(axes, recip, cell, shift, residuals, record)

    def _crystal(
        self, lattice: _Lattice, view: Peaks, inv_d: NDArray[np.float64], score: float | None
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
        return Crystal(
            recip=lattice.recip,
            lattice_type=lattice.cell.lattice_type,
            centering=lattice.cell.centering,
            unique_axis=lattice.cell.unique_axis,
            score=score,
            shift=lattice.shift,
            profile_radius=radius,
            resolution_limit=limit or 0.0,
            residuals=lattice.residuals,
            alignment=lattice.record,
        )

    def _is_same(self, lattice: _Lattice, other: _Lattice) -> bool:
        is_target = lattice.cell is self._cell
        if is_target is not (other.cell is self._cell):
            return False
        if is_target:
            return self._same_as_target(lattice.axes, other.axes)
        pair = [primitive_axes(one.axes, one.cell.centering) for one in (lattice, other)]
        return self._same_as_primitive(*pair)
