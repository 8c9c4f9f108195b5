# SPDX-License-Identifier: GPL-3.0-or-later
"""Hits and blanks of three cells through the pipeline: lattices, positions, intensities against the truth."""

import argparse
import sys
from dataclasses import dataclass, field

import numpy as np
from bench_common import FILE_GEOMETRY, PEAK_OPTIONS, SETTINGS

from gpuidx.arguments import parse
from gpuidx.cell import UnitCell, cell_parameters
from gpuidx.geometry import parse_geometry
from gpuidx.lattice import primitive_axes, same_lattice
from gpuidx.model import Crystal, Result
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings
from gpuidx.simulation.truth import TrueCrystal

CELLS = {
    "lysozyme": (
        UnitCell(parameters=(79.1, 79.1, 37.9, 90, 90, 90), lattice_type="tetragonal", unique_axis="c"),
        700,
    ),
    "insulin": (
        UnitCell(parameters=(78.9, 78.9, 78.9, 90, 90, 90), lattice_type="cubic", centering="I"),
        600,
    ),
    "triclinic": (UnitCell(parameters=(60.0, 70.0, 80.0, 85, 95, 100)), 550),
}
"""Cells, and the photons of a strong reflection that give 60 to 120 peaks."""


@dataclass
class Tally:
    """What was found in the frames of one cell."""

    hits: int = 0
    right: int = 0
    blanks_indexed: int = 0
    peaks: list[int] = field(default_factory=list)
    angle: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    correlation: list[float] = field(default_factory=list)

    def checks(self, n_hit: int) -> dict[str, tuple[float, bool]]:
        """Each figure and whether it is good enough."""
        share = 100 * self.right / max(self.hits, 1)
        angle, length, distance, correlation = (
            float(np.median(values)) for values in (self.angle, self.length, self.distance, self.correlation)
        )
        return {
            "hits": (self.hits, self.hits >= n_hit),
            "peaks a hit, median": (float(np.median(self.peaks)), True),
            "hits indexed right, %": (share, share >= 99),
            "blanks indexed": (self.blanks_indexed, self.blanks_indexed == 0),
            "orientation error, median, degrees": (angle, angle <= 0.03),
            "cell lengths, worst axis, median, %": (length, length <= 0.05),
            "predicted positions, median, px": (distance, distance <= 0.15),
            "intensity correlation, median": (correlation, correlation >= 0.99),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100, help="hits of each cell, and half as many blanks")
    n_hit = parser.parse_args().frames
    good = True
    for name, (cell, photons) in CELLS.items():
        print(f"\n{name}: {cell.parameters} {cell.centering}")
        for what, (value, holds) in _process(cell, photons, n_hit).checks(n_hit).items():
            good &= bool(holds)
            print(f"  {what:40s} {value:9.4f}  {'' if holds else 'MISSED'}", flush=True)
    return 0 if good else 1


def _process(cell: UnitCell, photons: float, n_hit: int) -> Tally:
    words = ["-g", "a.geom", "-p", "a.cell", "-o", "a.stream", "-i", "a.lst", *PEAK_OPTIONS, "--min-peaks=10"]
    geometry = parse_geometry(FILE_GEOMETRY, "simulated.geom")
    pipeline = Pipeline(parse(Options, words, "check", ""), geometry, cell)
    tally = Tally()
    for hit_fraction, n_frame in ((1.0, n_hit), (0.0, n_hit // 2)):
        settings = FrameSettings(photons=photons, hit_fraction=hit_fraction, **SETTINGS)
        simulator = Simulator(geometry, cell, settings)
        for number in range(n_frame):
            made = simulator.numbered(number)
            frame = made.frame()
            (found,) = pipeline.search([frame])
            _count(tally, pipeline.finish(frame, found), made.truth.crystals, cell)
    return tally


def _count(tally: Tally, result: Result, truth: tuple[TrueCrystal, ...], cell: UnitCell) -> None:
    if not truth:
        tally.blanks_indexed += bool(result.crystals)
        return
    tally.hits += 1
    tally.peaks.append(len(result.peaks))
    if not result.crystals:
        return
    ours, theirs = result.crystals[0], truth[0]
    axes = [np.linalg.inv(recip).T for recip in (ours.recip, theirs.recip)]
    right, angle = same_lattice(*(primitive_axes(a, cell.centering) for a in axes))
    if not right:
        return
    tally.right += 1
    tally.angle.append(angle)
    lengths = [np.array(cell_parameters(a)[:3]) for a in axes]
    tally.length.append(100 * float(np.abs(np.sort(lengths[0]) / np.sort(lengths[1]) - 1).max()))
    _compare_spots(tally, ours, theirs)


def _compare_spots(tally: Tally, ours: Crystal, theirs: TrueCrystal) -> None:
    """Positions and intensities of the reflections that both have, in the true setting."""
    assert ours.reflections is not None
    M = np.rint(theirs.recip @ np.linalg.inv(ours.recip))
    renamed = np.rint(ours.reflections.hkl @ np.linalg.inv(M)).astype(int)
    index = {tuple(hkl): number for number, hkl in enumerate(theirs.spots.hkl.tolist())}
    pairs = [(n, index[key]) for n, key in enumerate(map(tuple, renamed.tolist())) if key in index]
    mine, true = np.array(pairs).T
    r, s = ours.reflections, theirs.spots
    strong = s.photons[true] > 0
    tally.distance.append(
        float(np.median(np.hypot(r.fs[mine] - s.fs[true], r.ss[mine] - s.ss[true])[strong]))
    )
    tally.correlation.append(float(np.corrcoef(r.intensity[mine], s.counts[true])[0, 1]))


if __name__ == "__main__":
    sys.exit(main())
