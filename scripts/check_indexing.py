# SPDX-License-Identifier: GPL-3.0-or-later
"""The indexing trials on the whole open benchmark, on random lists and on measured ones, with verdicts.

Needs the reference data folder beside the project (``shared/data``).  Prints a table for each part and ends
with 1 if a bar is missed.  Unless a column says otherwise, everything is measured at the indexer's output,
before any check of cells or peaks.  With ``--backend=cuda`` the lattices are compared with the CPU's, too;
where there is no NVIDIA driver, the kernels run in the emulator of ``tests/emulator``, which takes an hour.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from backends.peak_lists import (  # noqa: E402
    Tally,
    TrueList,
    a_few_of_each,
    nearest,
    read_benchmark,
    simulated,
)
from indexing_check import comparison  # noqa: E402
from indexing_check.backends import Backend, Cpu, Cuda, NamedList, cpu_trials, named  # noqa: E402
from indexing_check.comparison import Outcome  # noqa: E402
from indexing_check.false import check_random, check_turned  # noqa: E402
from indexing_check.lists import measured_lysozyme, real_frames, real_lists  # noqa: E402
from indexing_check.report import MISSED, bar, percentiles  # noqa: E402
from indexing_check.unknown import check_consensus, check_unknown, compare_unknown  # noqa: E402

from gpuidx.backends.constants import ACCEPT, ATTEMPTS  # noqa: E402
from gpuidx.backends.cpu.score import count_indexed  # noqa: E402
from gpuidx.backends.cpu.search import find_lattice  # noqa: E402
from gpuidx.backends.cpu.vectors import usable_peaks  # noqa: E402
from gpuidx.simulation.peaklists import EXPERIMENTS  # noqa: E402


class Bar(NamedTuple):
    """Least share of lists that are right, greatest median angle in degrees."""

    right: float
    angle: float = 1.0


BARS = {
    "clean": Bar(0.99, 0.04), "few15": Bar(0.99), "few10": Bar(0.99, 0.09), "spur50": Bar(0.99),
    "spur67": Bar(0.97), "cell2": Bar(0.97), "geom": Bar(0.97, 0.18), "bw1": Bar(0.99),
    "lat2": Bar(0.99), "lat3": Bar(0.99), "random": Bar(0.0),
}  # fmt: skip
MOST_WRONG = 0.01
LEAST_LATTICES, MOST_FALSE = 0.97, 0.01
SLOWEST_MS = 10.0
FRESH: dict[str, dict[str, Any]] = {
    "60 peaks": {},
    "30 + 30 spurious": {"n_peaks": 30, "spurious": 0.5},
    "60 + 122 spurious": {"spurious": 0.67},
    "20 + 80 spurious": {"n_peaks": 20, "spurious": 0.8},
    "60, cell 2 %": {"cell_error": 0.02},
    "20, cell 2 %": {"n_peaks": 20, "cell_error": 0.02},
    "60, geometry and cell": {"cell_error": 0.01, "shift": (1.5, -1.4), "distance_error": 0.005},
    "20, noise 2 px, 1 % bandwidth": {"n_peaks": 20, "noise": 2.0, "bandwidth": 0.005},
}
"""Scenarios with lists that nothing was tuned on; no bars."""

PARTS = ("first", "several", "measured", "signs", "fresh", "random", "turned", "unknown", "consensus")


def slow(backend: Backend, outcomes: Iterable[Outcome]) -> bool:
    """Whether the CPU takes too long."""
    return isinstance(backend, Cpu) and float(np.median([one.ms for one in outcomes])) > SLOWEST_MS


def of_set(lists: Iterable[TrueList], name: str) -> list[TrueList]:
    return [true for true in lists if true.set_name == name]


def judged(
    backend: Backend, lists: list[TrueList], group: str, **options: bool
) -> tuple[Tally, list[Outcome]]:
    """Index lists with truth."""
    tally, named_lists = Tally(), [named(true, number) for number, true in enumerate(lists)]
    outcomes = backend.index(named_lists, group, **options)
    for true, outcome in zip(lists, outcomes, strict=True):
        tally.add(true, outcome.candidates)
    return tally, outcomes


def check_first_lattice(backend: Backend, lists: list[TrueList]) -> None:
    print(f"\nFirst lattice, no retry ({backend.title})")
    print("| set | lists | right | wrong | median angle, deg | ms median / 95 % | scores | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for name, limit in BARS.items():
        tally, outcomes = judged(backend, of_set(lists, name), "benchmark, first lattice")
        holds = tally.n_right >= limit.right * tally.n_lists and tally.n_wrong <= MOST_WRONG * tally.n_lists
        holds &= not tally.median_angle > limit.angle
        holds &= name != "random" or not tally.score
        if name in ("clean", "spur50", "lat2", "lat3"):
            holds &= not slow(backend, outcomes)
        scores = f"{min(tally.score):.0f} to {max(tally.score):.0f}" if tally.score else "-"
        print(
            f"| {name} | {tally.n_lists} | {tally.n_right} | {tally.n_wrong} | {tally.median_angle:.3f} "
            f"| {percentiles((one.ms for one in outcomes), 50, 95)} | {scores} | {bar(name, holds)} |"
        )


def check_several_lattices(backend: Backend, lists: list[TrueList]) -> None:
    print(f"\nSeveral lattices, subtract and retry ({backend.title})")
    print("| set | true lattices | found | false | double | ms median | verdict |")
    print("|---|---|---|---|---|---|---|")
    for name in ("clean", "lat2", "lat3"):
        tally, outcomes = judged(backend, of_set(lists, name), "clean, lat2, lat3, several", multi=True)
        holds = tally.n_found >= LEAST_LATTICES * tally.n_true and tally.n_double == 0
        holds &= tally.n_false <= MOST_FALSE * tally.n_true
        print(
            f"| {name} | {tally.n_true} | {tally.n_found} | {tally.n_false} | {tally.n_double} "
            f"| {percentiles((one.ms for one in outcomes), 50)} | {bar(name + ', several lattices', holds)} |"
        )


def check_fresh(backend: Backend, count: int) -> None:
    print(f"\nFresh lists, {count} of each of {len(EXPERIMENTS)} cells, no retry, no bars ({backend.title})")
    print("| lists | right % | wrong % | median angle, deg | ms median |")
    print("|---|---|---|---|---|")
    for what, settings in FRESH.items():
        lists = [simulated(name, 5 * 10**6 + n, **settings) for name in EXPERIMENTS for n in range(count)]
        tally, outcomes = judged(backend, lists, "fresh")
        right, wrong = (100 * n / tally.n_lists for n in (tally.n_right, tally.n_wrong))
        ms = percentiles((one.ms for one in outcomes), 50)
        print(f"| {what} | {right:.2f} | {wrong:.2f} | {tally.median_angle:.3f} | {ms} |")


def check_measured(backend: Backend, lists: list[NamedList]) -> None:
    outcomes = backend.index(lists, "measured lysozyme")
    lines: dict[str, list[tuple[float, int]]] = {}
    for one, outcome in zip(lists, outcomes, strict=True):
        for found in outcome.candidates[:1]:
            n_indexed, _, _ = count_indexed(usable_peaks(one.q)[0], found.axes, found.shift)
            lines.setdefault(one.name.split("_")[1], []).append((found.score, n_indexed))
    n_good = sum(score > 800 for each in lines.values() for score, _ in each)
    print(f"\nMeasured lysozyme lists ({backend.title}): {n_good} of 30 with a score above 800: ", end="")
    print(bar("measured lysozyme lists", n_good == 30))
    for finder, each in lines.items():
        scores, counts = (np.array(column) for column in zip(*each, strict=True))
        print(
            f"  {finder}: scores {scores.min():.0f} to {scores.max():.0f}, "
            f"well indexed {counts.min():.0f} to {counts.max():.0f}"
        )


def check_signs(count: int) -> None:
    """Only one sign of a polar anchor finds half of the lists; else the hand of the search is wrong."""
    t = cpu_trials(EXPERIMENTS["p1"].cell)
    half = t.cell.tables._replace(polar=np.zeros(3, bool))
    buffer, found = np.empty(50000, np.float32), np.zeros(2)
    for seed in range(count):
        true = simulated("p1", 7 * 10**6 + seed)
        for k, tables in enumerate((t.cell.tables, half)):
            score, axes, _ = find_lattice(true.q, tables, np.array(ATTEMPTS[:1]), true.shift_sigma, buffer)
            found[k] += score >= ACCEPT and nearest(axes, true.truth)[0] == 0
    both, one = found / count
    verdict = bar("signs", both > 0.95 and 0.4 < one < 0.65)
    print(
        f"\nTriclinic cell, first attempt: {100 * both:.0f} % with both signs, "
        f"{100 * one:.0f} % with one: {verdict}"
    )


def finish(backend: Cuda) -> None:
    """Print the comparison with the CPU, and what the emulator has to complain of."""
    comparison.show(backend.comparisons, backend.title)
    if backend.device is not None:
        reports = backend.device.messages
        print(f"\nReports of the emulator: {len(reports)}: {bar('reports of the emulator', not reports)}")
        print("\n".join(reports[:20]))


def check_in_emulator(lists: list[TrueList], measured: Sequence[NamedList]) -> Cuda:
    """A list of each cell and set, and measured ones, in the emulator with all its checks."""
    backend, some = Cuda(check=True), a_few_of_each(lists, 1)
    backend.index([named(true, 0) for true in some], "one of each cell and set, first lattice")
    several = [named(true, 0) for true in some if true.set_name in ("clean", "lat2", "lat3", "random")]
    backend.index(several, "of these clean, lat2, lat3, random, several, with retry", multi=True, retry=True)
    backend.index(measured, "lists of real frames, first lattice")
    backend.index(measured, "lists of real frames, several, with retry", multi=True, retry=True)
    return backend


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=ROOT.parent / "shared" / "data", help="reference data")
    add("--backend", choices=("cpu", "cuda"), default="cpu")
    add("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--random", type=int, default=2000, metavar="N", help="random lists")
    add("--hits", type=int, default=200, metavar="N", help="hits of each cell without a cell given")
    add("--turned", type=int, default=100, metavar="N", help="lists of turned peaks for each real frame")
    add("--fresh", type=int, default=60, metavar="N", help="fresh lists of each cell")
    add(
        "--retry",
        action="store_true",
        help="try such lists again with fewer peaks, as gpuidx does by default",
    )
    add("--check", action="store_true", help="only a few lists, on the emulator with all its checks")
    return parser.parse_args()


def check_all(backend: Backend, chosen: argparse.Namespace) -> None:
    parts: dict[str, Callable[[], None]] = {
        "first": lambda: check_first_lattice(backend, read_benchmark(chosen.data)),
        "several": lambda: check_several_lattices(backend, read_benchmark(chosen.data)),
        "measured": lambda: check_measured(backend, measured_lysozyme(chosen.data)),
        "signs": lambda: check_signs(200) if isinstance(backend, Cpu) else None,
        "fresh": lambda: check_fresh(backend, chosen.fresh),
        "random": lambda: check_random(backend, chosen.random, chosen.retry),
        "turned": lambda: check_turned(backend, real_frames(chosen.data), chosen.turned, chosen.retry),
        "unknown": lambda: (check_unknown if isinstance(backend, Cpu) else compare_unknown)(
            read_benchmark(chosen.data)
        ),
        "consensus": lambda: (
            check_consensus(chosen.hits, chosen.random) if isinstance(backend, Cpu) else None
        ),
    }
    for name in PARTS:
        if name in chosen.only:
            parts[name]()


def main() -> int:
    chosen = parse()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if chosen.check:
        finish(check_in_emulator(read_benchmark(chosen.data), real_lists(chosen.data)))
    else:
        Cpu().index([named(simulated(name, 0), 0) for name in EXPERIMENTS], "")  # loads what is compiled
        backend = Cuda() if chosen.backend == "cuda" else Cpu()
        check_all(backend, chosen)
        if isinstance(backend, Cuda):
            finish(backend)
    print("\nMissed: " + ", ".join(MISSED) if MISSED else "\nAll bars are reached.")
    return 1 if MISSED else 0


if __name__ == "__main__":
    sys.exit(main())
