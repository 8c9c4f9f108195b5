# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattices of a frame for ``gpuidx check``: how they compare with the target, or why there are none."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gpuidx.cell import UnitCell, cell_parameters
from gpuidx.commands.check_record import CellRow, Free, Indexed, Integrated
from gpuidx.geometry import Geometry
from gpuidx.indexing import pairing
from gpuidx.indexing.cell_check import TargetCell
from gpuidx.indexing.lattices import Acceptance
from gpuidx.indexing.observed import peaks_of
from gpuidx.lattice import primitive_axes
from gpuidx.model import Candidate, Crystal, Frame, Result
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline

STEP, MOST_STEPS = 0.03, 10
"""Camera lengths that are tried where the target is not found: steps in part of it, to either side."""

FACTORS = tuple(1 + sign * STEP * n for n in range(1, MOST_STEPS + 1) for sign in (1, -1))

APPROACHES = 4
"""Times that a camera length at which it is found is made better."""

CHECKS = (("check_cell",), ("check_peaks",), ("check_cell", "check_peaks"))
"""Left out in turn, where all lattices are refused."""


def looked_for(pipeline: Pipeline, frame: Frame) -> tuple[Indexed, Result]:
    """Trials, checks and integration, and what is to be said of the trials.

    Parameters
    ----------
    pipeline
        Of the run.
    frame
        With its peaks.
    """
    options, target = pipeline.options, _target(pipeline)
    (found,) = pipeline.search([frame])
    result = pipeline.finish(frame, found)
    indexed = Indexed(
        wanted=options.does_index,
        has_target=target is not None,
        n_tries=found.n_tries,
        n_candidate=len(found.candidates or ()),
        crystals=tuple(_row(crystal, frame, pipeline.geometry, pipeline.cell) for crystal in result.crystals),
    )
    if result.crystals or not options.makes_trials:
        return indexed, result
    if found.candidates:
        return replace(indexed, remedies=tuple(_remedies(pipeline, frame, found.candidates))), result
    return (replace(indexed, free=_free(pipeline, frame, target)) if target else indexed), result


def integrated(options: Options, result: Result) -> Integrated:
    """What is to be said of the reflections."""
    lists = [crystal.reflections for crystal in result.crystals if crystal.reflections is not None]
    if not lists:
        does = options.integration != "none" and not options.cell_parameters_only
        return Integrated(wanted=does and result.frame.image is not None)
    ratios = np.concatenate([one.intensity / np.where(one.sigma > 0, one.sigma, np.inf) for one in lists])
    limit = result.crystals[0].resolution_limit
    return Integrated(
        wanted=True,
        n_reflection=len(ratios),
        n_saturated=sum(one.n_saturated for one in lists),
        n_implausible=sum(one.n_implausible for one in lists),
        i_over_sigma=float(np.median(ratios)) if len(ratios) else 0.0,
        resolution=1 / limit if limit else np.inf,
        profile_radius=result.crystals[0].profile_radius,
    )


def _target(pipeline: Pipeline) -> TargetCell | None:
    cell = pipeline.cell
    return None if cell is None or cell.parameters is None else TargetCell(cell, pipeline.options.tolerance)


def _row(crystal: Crystal, frame: Frame, geometry: Geometry, cell: UnitCell | None) -> CellRow:
    """What is to be said of a crystal; it is compared with *cell*, unless that is None."""
    assert frame.peaks is not None
    axes = np.ascontiguousarray(np.linalg.inv(crystal.recip).T)
    view = peaks_of(frame, frame.peaks, geometry.bandwidth, crystal.shift)
    explained = ~np.isnan(pairing.explain(view, axes, np.ascontiguousarray(crystal.recip)))
    found, differences = cell_parameters(axes), None
    if cell is not None and cell.parameters is not None:
        pairs = list(zip(found, cell.parameters, strict=True))
        differences = (*(100 * (f / t - 1) for f, t in pairs[:3]), *(f - t for f, t in pairs[3:]))
    return CellRow(parameters=found, differences=differences, explained=float(explained.mean()))


def _remedies(pipeline: Pipeline, frame: Frame, candidates: Sequence[Candidate]) -> Iterator[str]:
    """The fewest checks without which one of the candidates is taken."""
    assert frame.peaks is not None
    for names in CHECKS:
        changes: dict[str, object] = dict.fromkeys(names, False)
        options = replace(pipeline.options, **changes)  # type: ignore[arg-type]
        acceptance = Acceptance(pipeline.geometry, pipeline.cell, options, options)
        if acceptance.crystals(frame, frame.peaks, candidates):
            yield " ".join(f"--no-{name.replace('_', '-')}" for name in names)
            return


def _free(pipeline: Pipeline, frame: Frame, target: TargetCell) -> Free:
    """The lattice of any cell, and a camera length at which there is one of the target's."""
    without = Pipeline(pipeline.options, pipeline.geometry, None)
    (found,) = without.search([frame])
    crystals = without.finish(frame, found).crystals
    return Free(
        cell=_row(crystals[0], frame, pipeline.geometry, None) if crystals else None,
        clen=frame.detector.clen,
        photon_energy=frame.photon_energy,
        better_clen=_better_clen(pipeline, frame, target),
    )


def _better_clen(pipeline: Pipeline, frame: Frame, target: TargetCell) -> float | None:
    """The mean camera length, m, at which the target is found with its own size; None if it is not found."""
    for factor in FACTORS:
        mean = frame.detector.clen * factor
        crystals = _crystals_at(pipeline, frame, mean)
        if not crystals:
            continue
        for _ in range(APPROACHES):  # a size is not quite proportional to it, since angles are not small
            better = mean / _size(crystals[0], target)
            if not (crystals := _crystals_at(pipeline, frame, better)):
                break
            mean = better
        return mean
    return None


def _crystals_at(pipeline: Pipeline, frame: Frame, mean: float) -> tuple[Crystal, ...]:
    """Crystals at a mean camera length, m."""
    clen, *shift = frame.detector.given
    try:
        moved = replace(frame, detector=pipeline.geometry.detector(clen + mean - frame.detector.clen, *shift))
    except ValueError:
        return ()
    (found,) = pipeline.search([moved])
    return pipeline.finish(moved, found).crystals


def _size(crystal: Crystal, target: TargetCell) -> float:
    """How many times longer the axes of a crystal are than those of the target."""
    axes = np.asarray(np.linalg.inv(crystal.recip).T, np.float64)
    primitive = primitive_axes(axes, crystal.centering)
    return float(np.cbrt(abs(np.linalg.det(primitive) / np.linalg.det(target.reduced))))
