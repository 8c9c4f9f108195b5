# SPDX-License-Identifier: GPL-3.0-or-later
"""The indexing trials on the whole open benchmark, on random lists and on measured ones, with verdicts.

Needs the reference data folder beside the project (``shared/data/indexing``).  Prints a table for each group
and ends with 1 if a bar is missed.  Everything is measured at the indexer's output, before any check of
cells or peaks.  Times are CPU times of one core.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from backends.peak_lists import Tally, TrueList, nearest, read_benchmark, simulated, trials  # noqa: E402

from gpuidx.backends.constants import ACCEPT, ATTEMPTS  # noqa: E402
from gpuidx.backends.cpu.score import count_indexed  # noqa: E402
from gpuidx.backends.cpu.search import find_lattice  # noqa: E402
from gpuidx.backends.cpu.trials import Trials  # noqa: E402
from gpuidx.backends.cpu.vectors import usable_peaks  # noqa: E402
from gpuidx.cell import UnitCell  # noqa: E402
from gpuidx.options import IndexOptions  # noqa: E402
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
MOST_RANDOM = 0.001
SLOWEST_MS = 10.0
FRESH = {
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

_missed: list[str] = []


def bar(what: str, holds: bool) -> str:
    """A word for the table; what is missed is remembered."""
    if not holds:
        _missed.append(what)
    return "ok" if holds else "MISSED"


def timed(t: Trials, true: TrueList) -> tuple[list, int, float]:
    """Candidates, tries, ms of CPU time."""
    begun = time.process_time()
    candidates, n_tries = t.index(true.q, true.shift_sigma)
    return candidates, n_tries, 1e3 * (time.process_time() - begun)


def of_set(lists: Iterable[TrueList], name: str) -> list[TrueList]:
    return [true for true in lists if true.set_name == name]


def check_first_lattice(lists: list[TrueList]) -> None:
    print("\nFirst lattice (no retry)")
    print("| set | lists | right | wrong | median angle, deg | ms median / 95 % | scores | verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for name, limit in BARS.items():
        tally, ms = Tally(), []
        for true in of_set(lists, name):
            candidates, _, took = timed(trials(true.cell_name), true)
            tally.add(true, candidates)
            ms.append(took)
        holds = tally.n_right >= limit.right * tally.n_lists and tally.n_wrong <= MOST_WRONG * tally.n_lists
        holds &= not tally.median_angle > limit.angle
        holds &= name != "random" or not tally.score
        if name in ("clean", "spur50", "lat2", "lat3"):
            holds &= bool(np.median(ms) <= SLOWEST_MS)
        scores = f"{min(tally.score):.0f} to {max(tally.score):.0f}" if tally.score else "-"
        print(
            f"| {name} | {tally.n_lists} | {tally.n_right} | {tally.n_wrong} | {tally.median_angle:.3f} "
            f"| {np.median(ms):.2f} / {np.percentile(ms, 95):.2f} | {scores} | {bar(name, holds)} |"
        )


def check_several_lattices(lists: list[TrueList]) -> None:
    print("\nSeveral lattices (subtract and retry)")
    print("| set | true lattices | found | false | double | ms median | verdict |")
    print("|---|---|---|---|---|---|---|")
    for name in ("clean", "lat2", "lat3"):
        tally, ms = Tally(), []
        for true in of_set(lists, name):
            candidates, _, took = timed(trials(true.cell_name, multi=True), true)
            tally.add(true, candidates)
            ms.append(took)
        holds = tally.n_found >= LEAST_LATTICES * tally.n_true and tally.n_double == 0
        holds &= tally.n_false <= MOST_FALSE * tally.n_true
        print(
            f"| {name} | {tally.n_true} | {tally.n_found} | {tally.n_false} | {tally.n_double} "
            f"| {np.median(ms):.2f} | {bar(name + ', several lattices', holds)} |"
        )


def check_random(count: int) -> None:
    names = list(EXPERIMENTS)
    rng = np.random.default_rng(20)
    print(f"\n{count} random lists of 10 to 120 peaks")
    for retry in (False, True):
        accepted, ms = 0, []
        for number in range(count):
            name = names[number % len(names)]
            true = simulated(name, 10**6 + number, n_peaks=int(rng.integers(10, 121)), spurious=1.0)
            candidates, _, took = timed(trials(name, retry=retry), true)
            accepted += bool(candidates)
            ms.append(took)
        what = "with retry" if retry else "no retry"
        verdict = bar(f"random lists, {what}", accepted <= MOST_RANDOM * count)
        print(
            f"  {what}: {accepted} accepted, ms median {np.median(ms):.1f}, "
            f"95 % {np.percentile(ms, 95):.1f}: {verdict}"
        )


def check_fresh(count: int) -> None:
    print(f"\nFresh lists, {count} of each of {len(EXPERIMENTS)} cells (no retry; for information)")
    print("| lists | right % | wrong % | median angle, deg | ms median / mean |")
    print("|---|---|---|---|---|")
    for what, settings in FRESH.items():
        tally, ms = Tally(), []
        for name in EXPERIMENTS:
            for seed in range(count):
                true = simulated(name, 5 * 10**6 + seed, **settings)
                candidates, _, took = timed(trials(name), true)
                tally.add(true, candidates)
                ms.append(took)
        right, wrong = (100 * n / tally.n_lists for n in (tally.n_right, tally.n_wrong))
        print(
            f"| {what} | {right:.2f} | {wrong:.2f} | {tally.median_angle:.3f} "
            f"| {np.median(ms):.2f} / {np.mean(ms):.2f} |"
        )


def check_measured(folder: Path) -> None:
    with np.load(folder / "indexing" / "real_lysozyme.npz") as file:
        z = {name: file[name] for name in file.files}
    a, b, c, al, be, ga = map(float, z["cell"])
    t = Trials(UnitCell(parameters=(a, b, c, al, be, ga)), IndexOptions(retry=False))
    lines: dict[str, list[tuple[float, int, float]]] = {}
    for number, name in enumerate(z["name"]):
        q = z["q"][z["offset"][number] : z["offset"][number + 1]].astype(float)
        true = TrueList("", "", q, 5e-4, np.empty((0, 3, 3)))
        candidates, _, took = timed(t, true)
        if candidates:
            peaks, _ = usable_peaks(q)
            n_indexed, _ = count_indexed(peaks, candidates[0].axes, candidates[0].shift)
            lines.setdefault(str(name).split("_")[1], []).append((candidates[0].score, n_indexed, took))
    n_good = sum(score > 800 for each in lines.values() for score, _, _ in each)
    print(f"\nMeasured lysozyme lists: {n_good} of 30 with a score above 800: ", end="")
    print(bar("measured lysozyme lists", n_good == 30))
    for finder, each in lines.items():
        scores, counts, ms = (np.array(column) for column in zip(*each, strict=True))
        print(
            f"  {finder}: scores {scores.min():.0f} to {scores.max():.0f}, "
            f"well indexed {counts.min():.0f} to {counts.max():.0f}, ms median {np.median(ms):.1f}"
        )


def check_signs(count: int) -> None:
    """Only one sign of a polar anchor finds half of the lists; else the hand of the search is wrong."""
    t = trials("p1")
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--random", type=int, default=2400, metavar="N", help="random lists")
    parser.add_argument(
        "--fresh", type=int, default=60, metavar="N", help="fresh lists of each cell; 0: none"
    )
    options = parser.parse_args()
    lists = read_benchmark(options.data)
    for name in EXPERIMENTS:  # loads what is compiled, makes the tables
        trials(name).index(lists[0].q, lists[0].shift_sigma)
    check_first_lattice(lists)
    check_several_lattices(lists)
    check_random(options.random)
    check_measured(options.data)
    check_signs(200)
    if options.fresh:
        check_fresh(options.fresh)
    print("\nMissed: " + ", ".join(_missed) if _missed else "\nAll bars are reached.")
    return 1 if _missed else 0


if __name__ == "__main__":
    sys.exit(main())
