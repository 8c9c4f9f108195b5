# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials without a cell: axes from the device against the CPU's own, and what they cost."""

from dataclasses import asdict, dataclass
from typing import Any

from backends.device_axes import are_the_same, axes_of, cpu_axes, lengths_of, start
from backends.device_trials import angles_between, difference
from backends.peak_lists import TrueList, simulated

from gpu_check.plan import AxesPlan, Plan
from gpu_check.report import Report
from gpu_check.trial_lists import BENCHMARK, MADE_UP, benchmark_lists, cells_of
from gpuidx.backends.constants import SAME_ANGLE
from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.backends.cuda.axes_search import AxesSearch
from gpuidx.backends.cuda.clock import median_ms
from gpuidx.options import IndexOptions

MOST_APART = 0.01
"""Share of the searches whose axes may not be the CPU's."""


def check_all(report: Report, plan: Plan, device: int) -> None:
    """Compare axes, and the lattices that a worker makes of them."""
    import cupy

    report.title("trials without a cell: axes, CUDA against CPU")
    cupy.cuda.Device(device).use()
    what, lists = _lists(plan)
    compared = compare(lists, plan.axes)
    report.data["axes"] = asdict(compared) | {"lists_of": what}
    report.line(
        f"{what}: {compared.searches} searches of {len(lists)} lists, {len(compared.apart)} with other axes "
        f"than the CPU; {compared.left} left to the CPU; {compared.lattices} lattices"
    )
    for text in compared.apart[:10]:
        report.line(f"  {text}")
    if len(compared.apart) > MOST_APART * compared.searches:
        report.fail(f"axes: {len(compared.apart)} of {compared.searches} searches have others than the CPU")
    for text in compared.differences:
        report.fail(f"axes: {text}")


def _lists(plan: Plan) -> tuple[str, list[TrueList]]:
    """Of the benchmark where it is, else made up."""
    own = plan.axes
    if known := benchmark_lists(own.lists):
        return BENCHMARK, known
    cells, seeds = cells_of(own.lists), range(own.per_cell)
    return MADE_UP, [simulated(cell, seed, n_peaks=own.n_peak) for cell in cells for seed in seeds]


@dataclass
class Compared:
    """What was compared.

    Attributes
    ----------
    searches
        Of axes: a list, and a kind of vectors.
    left
        Lists that the device left to the CPU.
    lattices
        That a worker found with the CPU's axes.
    apart
        A line for each search with other axes than the CPU's.
    differences
        A line for each list of which a worker makes something else.
    """

    searches: int
    left: int
    lattices: int
    apart: list[str]
    differences: list[str]


def compare(lists: list[TrueList], plan: AxesPlan) -> Compared:
    """Axes of all lists at once, then one after the other on the CPU."""
    trials = UnknownCellTrials(IndexOptions(axis_range=plan.axis_range, retry=False))
    compared = Compared(0, 0, 0, [], [])
    for number, (one, axes) in enumerate(
        zip(lists, axes_of([one.q for one in lists], plan.axis_range), strict=True)
    ):
        name = f"{one.cell_name}, {one.set_name}, list {number}"
        if axes is None:
            compared.left += 1
            continue
        limits = lengths_of(one.q, plan.axis_range)
        for kind, own in enumerate(axes[0]):
            compared.searches += 1
            if not are_the_same(own, cpu_axes(one.q, kind, limits)):
                compared.apart.append(f"{name}, kind {kind}")
        if plan.with_lattices:
            found, expected = (trials.index(one.q, one.shift_sigma, given) for given in (axes, None))
            compared.lattices += len(expected[0])
            differing = difference(found, expected)
            if not differing and max(angles_between(found[0], expected[0]), default=0.0) > SAME_ANGLE:
                differing = "another lattice than on the CPU"
            if differing:
                compared.differences.append(f"{name}: {differing}")
    return compared


def measure_all(report: Report, plan: Plan, device: int) -> None:
    """Times of the search for axes: of batches, and of a frame alone."""
    import cupy

    report.title("trials without a cell: times")
    cupy.cuda.Device(device).use()
    report.data["axes_rates"] = results = []
    for n_list in plan.axes.batches:
        one = measure(n_list, plan.axes)
        results.append(one)
        report.line(
            f"{one['cell']}, {one['n_peak']} peaks, x{n_list}: {one['ms_a_list']:.4f} ms a list, "
            f"{one['ms']:.3f} ms until the axes of all are on the host"
        )


def measure(n_list: int, plan: AxesPlan) -> dict[str, Any]:
    """Times of a batch of made-up hits, as a run searches them (with retry)."""
    import cupy

    lists = [simulated(plan.rate_cell, seed, n_peaks=plan.rate_peaks).q for seed in range(n_list)]
    search = AxesSearch(IndexOptions(axis_range=plan.axis_range, retry=plan.retry), n_list)
    stream = cupy.cuda.Stream(non_blocking=True)
    batch = start(search, lists, stream)
    search.finish(batch, stream)
    q, n_given = batch.launches[0].values[:2]
    ms = median_ms(stream, lambda: search.start(batch, q, n_given, None, n_list, stream), plan.repeats)
    search.finish(batch, stream)
    return {
        "cell": plan.rate_cell, "n_peak": plan.rate_peaks, "n_list": n_list, "retry": plan.retry, "ms": ms,
        "ms_a_list": ms / n_list,
    }  # fmt: skip
