# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak lists that the indexing trials are checked with: made up, senseless, and those of the benchmark."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from backends.peak_lists import (
    BENCHMARK_SETS,
    TrueList,
    a_few_of_each,
    odd_lists,
    read_benchmark,
    simulated,
    with_weak_peaks,
)

from gpu_check.plan import TrialPlan
from gpuidx.backends.constants import MAX_PEAKS
from gpuidx.simulation.peaklists import EXPERIMENTS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""The reference data beside the project; it may not be there."""

MADE_UP, BENCHMARK = "made-up lists", "the benchmark"
RANDOM = "random"
FIRST_SEED = 700
NO_LATTICE = np.empty((0, 3, 3))


def cells_of(plan: TrialPlan) -> tuple[str, ...]:
    """Names of the experiments."""
    return plan.cells or tuple(EXPERIMENTS)


def sets_of(plan: TrialPlan) -> tuple[str, ...]:
    """Names of the kinds of lists."""
    return plan.sets or tuple(BENCHMARK_SETS)


def made_lists(cell_name: str, plan: TrialPlan) -> list[TrueList]:
    """Lists of one cell like those of the benchmark, and senseless ones; at most a batch."""
    lists = [
        replace(simulated(cell_name, FIRST_SEED + seed, **BENCHMARK_SETS[name]), set_name=name)
        for name in sets_of(plan)
        for seed in range(plan.per_set)
    ]
    return lists + (_odd_lists(cell_name) if plan.odd else [])


def _odd_lists(cell_name: str) -> list[TrueList]:
    good = simulated(cell_name, FIRST_SEED)
    many = simulated(cell_name, FIRST_SEED, n_peaks=MAX_PEAKS, spurious=0.6)
    holes = np.insert(good.q, [0, 7, 12], [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 0]], axis=0)
    lists = [TrueList(cell_name, name, q, good.shift_sigma, NO_LATTICE) for name, q in odd_lists().items()]
    return [
        *lists,
        replace(good, set_name="NaN among good peaks", q=holes),
        replace(many, set_name="most peaks", q=many.q[:MAX_PEAKS]),
        with_weak_peaks(cell_name, FIRST_SEED),
    ]


def benchmark_lists(plan: TrialPlan) -> list[TrueList]:
    """The lists of the benchmark that the plan asks for; none if it is not there."""
    if not plan.benchmark or not (DATA / "indexing" / "bench.npz").is_file():
        return []
    cells, sets = cells_of(plan), sets_of(plan)
    wanted = [one for one in read_benchmark(DATA) if one.cell_name in cells and one.set_name in sets]
    return a_few_of_each(wanted, plan.benchmark)


def by_cell(lists: Iterable[TrueList]) -> dict[str, list[TrueList]]:
    """The lists of each cell."""
    groups: dict[str, list[TrueList]] = {}
    for one in lists:
        groups.setdefault(one.cell_name, []).append(one)
    return groups
