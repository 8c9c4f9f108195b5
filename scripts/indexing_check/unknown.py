# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing without a cell, and the cell that frames agree on: benchmark, simulated runs, random lists."""

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from backends.device_trials import LARGEST_ANGLE
from backends.peak_lists import Tally, TrueList, a_few_of_each, simulated

from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.cell import UnitCell, real_axes
from gpuidx.indexing.consensus import Consensus, Proposal, primitive_parameters
from gpuidx.lattice import primitive_axes, reduce_axes, same_lattice
from gpuidx.options import IndexOptions
from gpuidx.simulation.peaklists import EXPERIMENTS
from indexing_check.report import bar, percentiles

CELLS = ("lyso", "thau", "p1", "insu", "mono", "rhod", "cys", "rhom", "psi")
RANGES = {"cys": (4.0, 30.0), "psi": (20.0, 320.0)}
USUAL_RANGE = (20.0, 200.0)
LEAST_RIGHT = 0.95
MOST_FRAMES = 30
SAME_LENGTH = 0.005


def trials(name: str | None = None, retry: bool = False) -> UnknownCellTrials:
    """Trials in the range of lengths of a cell, or in that which follows from the peaks."""
    axis_range = RANGES.get(name, USUAL_RANGE) if name else None
    return UnknownCellTrials(IndexOptions(retry=retry, axis_range=axis_range))


def check_unknown(lists: Sequence[TrueList]) -> None:
    """The lists of the benchmark, in given ranges of lengths, and in those that follow from the peaks."""
    print("\nWithout a cell, first lattice, no retry (cpu)")
    print("| set | range | lists | right | wrong | median angle, deg | ms median / 95 % | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    names = ("clean", "few15", "few10", "spur50", "spur67", "geom", "bw1", "random")
    for set_name, is_given in ((name, given) for name in names for given in (True, False)):
        tally, ms = Tally(), []
        chosen = [one for one in lists if one.set_name == set_name and one.cell_name in CELLS]
        for one in chosen:
            begun = time.process_time()
            candidates, _ = trials(one.cell_name if is_given else None).index(one.q, one.shift_sigma)
            ms.append(1e3 * (time.process_time() - begun))
            tally.add(one, candidates)
        holds = set_name not in ("clean", "random") or tally.n_right >= LEAST_RIGHT * tally.n_lists
        if set_name == "random":
            holds = not tally.score
        what = "given" if is_given else "from the peaks"
        verdict = bar(f"without a cell, {set_name}, range {what}", holds)
        print(
            f"| {set_name} | {what} | {tally.n_lists} | {tally.n_right} | {tally.n_wrong} "
            f"| {tally.median_angle:.3f} | {percentiles(ms, 50, 95)} | {verdict} |"
        )


def compare_unknown(lists: Sequence[TrueList], per_cell: int = 1) -> None:
    """A worker's lattices from the axes of a device beside its own, for lists of each set and cell."""
    print("\nWithout a cell, range from the peaks, no retry: axes of the device against the CPU's own")
    print("| set | lists | alike | lattices | within 0.01° | verdict |")
    print("|---|---|---|---|---|---|")
    from backends.device_axes import axes_of

    own = trials()
    for set_name in ("few10", "clean", "random"):
        chosen = [one for one in lists if one.set_name == set_name and one.cell_name in CELLS]
        n_list, n_alike, angles = 0, 0, []
        for one in a_few_of_each(chosen, per_cell):
            (axes,) = axes_of([one.q], None)
            found, expected = own.index(one.q, one.shift_sigma, axes), own.index(one.q, one.shift_sigma)
            alike = (len(found[0]), found[1]) == (len(expected[0]), expected[1])
            n_list, n_alike = n_list + 1, n_alike + alike
            for ours, theirs in zip(found[0], expected[0], strict=False):
                same, angle = same_lattice(ours.axes, theirs.axes)
                angles.append(angle if same else 180.0)
            print(f"\r{set_name}: {n_list}", end="", file=sys.stderr, flush=True)
        near = sum(angle < LARGEST_ANGLE for angle in angles)
        verdict = bar(f"axes of a device, {set_name}", n_alike == n_list and near >= 0.99 * len(angles))
        print(f"| {set_name} | {n_list} | {n_alike} | {len(angles)} | {near} | {verdict} |")


def is_cell(found: UnitCell, true: UnitCell) -> bool:
    """Whether two conventional cells are of the same lattice: reduced lengths and volume."""
    assert found.parameters is not None
    assert true.parameters is not None
    ours, theirs = (
        reduce_axes(primitive_axes(real_axes(cell.parameters), cell.centering))[0]  # type: ignore[arg-type]
        for cell in (found, true)
    )
    lengths = [np.linalg.norm(axes, axis=1) for axes in (ours, theirs)]
    volumes = [np.linalg.det(axes) for axes in (ours, theirs)]
    near = np.abs(lengths[0] / lengths[1] - 1).max() < SAME_LENGTH
    return bool(near and abs(volumes[0] / volumes[1] - 1) < 3 * SAME_LENGTH)


def proposals(lists: Iterator[TrueList]) -> Iterator[tuple[int, Proposal | None]]:
    """After each list how many were indexed, and the proposal."""
    consensus, search = Consensus(), trials(retry=True)
    for one in lists:
        candidates, _ = search.index(one.q, one.shift_sigma)
        if candidates:
            consensus.add([primitive_parameters(np.linalg.inv(candidates[0].axes).T)])
        yield consensus.n_lattices, consensus.proposal()


def check_consensus(n_hit: int, n_random: int) -> None:
    """A run of hits of each cell, a third of their peaks spurious; and one of random lists."""
    print(f"\nThe cell that {n_hit} hits of each agree on, 30 + 15 spurious peaks, range from the peaks")
    print("| cell | indexed | proposed after | agree | cell | verdict |")
    print("|---|---|---|---|---|---|")
    for name in CELLS if n_hit else ():
        after, proposal, is_right, n = None, None, True, 0
        hits = (simulated(name, 6 * 10**6 + k, n_peaks=30, spurious=1 / 3) for k in range(n_hit))
        for n, proposal in proposals(hits):
            if proposal is not None:
                after = n if after is None else after
                is_right &= is_cell(proposal.cell, EXPERIMENTS[name].cell)
        holds = after is not None and after <= MOST_FRAMES and is_right and proposal is not None
        line = proposal.line().split(";")[0] if proposal else "-"
        agree = proposal.n_frames if proposal else 0
        print(f"| {name} | {n} | {after} | {agree} | {line} | {bar(f'consensus, {name}', holds)} |")
    rng, names = np.random.default_rng(22), list(EXPERIMENTS)
    random = (
        simulated(names[k % len(names)], 8 * 10**6 + k, n_peaks=int(rng.integers(10, 121)), spurious=1.0)
        for k in range(n_random)
    )
    outcomes = list(proposals(random))
    n_indexed = outcomes[-1][0] if outcomes else 0
    n_proposed = sum(proposal is not None for _, proposal in outcomes)
    verdict = bar("random lists without a cell", n_proposed == 0 and n_indexed <= 0.001 * n_random)
    print(f"\n{n_random} random lists: {n_indexed} indexed, {n_proposed} proposals: {verdict}")
