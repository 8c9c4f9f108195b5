# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattices of the device's indexing trials against the CPU's, and how many of them are true ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from backends.device_trials import (
    LARGEST_ANGLE,
    MOST_FRAMES,
    Outcome,
    angles_between,
    bits,
    device_trials,
    difference,
    index_lists,
    same_score,
)
from backends.peak_lists import BENCHMARK_SETS, Tally, TrueList, simulated, trials

from gpu_check.plan import Plan
from gpu_check.report import Report
from gpu_check.trial_lists import (
    BENCHMARK,
    DATA,
    FIRST_SEED,
    MADE_UP,
    RANDOM,
    benchmark_lists,
    by_cell,
    cells_of,
    made_lists,
)
from gpuidx.backends.cuda.trial_tables import make_trial_tables
from gpuidx.backends.cuda.trials import DeviceTrials

SHARE_OF_TIME = 0.65
"""Of the whole, after which no further cell begins."""

MOST_APART = 0.01
"""Share of the lattices that may be further than `LARGEST_ANGLE` from the CPU's, or have another score."""

WAYS: dict[str, dict[str, bool]] = {"one lattice": {}, "several": {"multi": True, "retry": True}}
"""Options that each list is tried with."""


@dataclass
class Compared:
    """What was compared of some lists.

    Attributes
    ----------
    lists, lattices, largest
        Lists, each way counted; lattices of the CPU; the largest angle but for those `apart`, degrees.
    apart
        A line for each lattice that is further away, or has another score.
    bits
        Results that had to have the bits of others: of the same list alone, or in the same batch again.
    differences
        What else is not as it should be.
    left_out
        Cells for which there was no time.
    """

    lists: int = 0
    lattices: int = 0
    largest: float = 0.0
    bits: int = 0
    apart: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, name: str, found: Outcome, expected: Outcome) -> None:
        """Compare what came of one list."""
        self.lists += 1
        self.lattices += len(expected[0])
        differing = difference(found, expected)
        if differing:
            self.differences.append(f"{name}: {differing}")
        if len(found[0]) != len(expected[0]):
            return
        angles = angles_between(found[0], expected[0])
        for one, other, angle in zip(found[0], expected[0], angles, strict=True):
            if angle < LARGEST_ANGLE and same_score(one, other):
                self.largest = max(self.largest, angle)
            else:
                self.apart.append(
                    f"{name}: {angle:.3f} degrees apart, score {one.score:.2f}, on the CPU {other.score:.2f}"
                )

    def add_bits(self, name: str, results: Sequence[Outcome], expected: Sequence[Outcome]) -> None:
        """Compare results with those that must have the same bits."""
        for number, (one, other) in enumerate(zip(results, expected, strict=True)):
            self.bits += 1
            if bits(one) != bits(other):
                self.differences.append(f"{name}, list {number}: other bits")


class Check:
    """Comparison and success of one kind of lists.

    Attributes
    ----------
    compared
        With the CPU.
    tallies
        By way and set: what is true.
    """

    def __init__(self) -> None:
        self.compared = Compared()
        self.tallies: dict[str, dict[str, Tally]] = {way: {} for way in WAYS}
        self._given, self._found = hashlib.sha256(), hashlib.sha256()

    def add_cell(self, cell_name: str, lists: list[TrueList], n_alone: int) -> None:
        """Try the lists of a cell in batches, each way; with *n_alone* also all again, and so many alone."""
        for array in make_trial_tables(trials(cell_name).cell.tables).arrays().values():
            self._given.update(array.tobytes())
        for one in lists:
            self._given.update(one.q.tobytes())
        for way, options in WAYS.items():
            own, cpu = device_trials(cell_name, **options), trials(cell_name, **options)
            found = index_all(own, lists)
            for true, result in zip(lists, found, strict=True):
                # a frame without peaks is not tried
                expected = cpu.index(true.q, true.shift_sigma) if len(true.q) else ([], 0)
                self.compared.add(f"{cell_name}, {true.set_name}, {way}", result, expected)
                self.tallies[way].setdefault(true.set_name, Tally()).add(true, result[0])
                self._found.update(b"".join(bits(result)))
        if n_alone:  # found, own: of the last way
            single = device_trials(cell_name, **options, most_frames=1)
            alone = [index_all(single, [one])[0] for one in lists[:n_alone]]
            self.compared.add_bits(f"{cell_name}, alone", alone, found[:n_alone])
            self.compared.add_bits(f"{cell_name}, again", index_all(own, lists), found)

    def digests(self) -> dict[str, str]:
        """Of all that was given, tables included, and of all results: the same on every device."""
        return {"given": self._given.hexdigest()[:16], "results": self._found.hexdigest()[:16]}


def index_all(own: DeviceTrials, lists: Sequence[TrueList]) -> list[Outcome]:
    """What the trials give, in batches."""
    found: list[Outcome] = []
    for first in range(0, len(lists), MOST_FRAMES):
        part = lists[first : first + MOST_FRAMES]
        found += index_lists(own, [one.q for one in part], [one.shift_sigma for one in part])
    return found


def check_all(report: Report, plan: Plan, device: int) -> None:
    """Compare made-up lists, and those of the benchmark where it is."""
    import cupy

    report.title("indexing trials: CUDA against CPU, and against the truth")
    cupy.cuda.Device(device).use()
    report.data["trials"] = {}
    made = {name: made_lists(name, plan.trials) for name in cells_of(plan.trials)}
    _check(report, plan, MADE_UP, made, plan.trials.alone)
    known = by_cell(benchmark_lists(plan.trials))
    if known:
        _check(report, plan, BENCHMARK, known, 0)
    else:
        report.line(f"{BENCHMARK}: not looked at, or not there ({DATA}): made-up lists only")


def _check(report: Report, plan: Plan, what: str, lists: dict[str, list[TrueList]], n_alone: int) -> None:
    check = Check()
    compared = check.compared
    for name, own in lists.items():
        if report.spent > SHARE_OF_TIME * plan.seconds:
            compared.left_out.append(name)
            continue
        try:
            check.add_cell(name, own, n_alone)
        except Exception as error:  # the device, or the check itself: no parity is shown
            compared.differences.append(f"{name}: {type(error).__name__}: {error}")
            break
        finally:
            device_trials.cache_clear()
    digests = check.digests()
    report.data["trials"][what] = asdict(compared) | {"digests": digests, "sets": _table(report, what, check)}
    report.line(
        f"{what}: {compared.lists} results, {compared.lattices} lattices, {len(compared.apart)} of them "
        f"more than {LARGEST_ANGLE} degrees or 0.1 % of the score apart, the others up to "
        f"{compared.largest:.2g} degrees; {compared.bits} "
        f"results compared bit for bit; digest of lists and tables {digests['given']}, of results "
        f"{digests['results']}"
    )
    if compared.left_out:
        report.line(f"left out for time: {', '.join(compared.left_out)}")
    _judge(report, what, check)


def _table(report: Report, what: str, check: Check) -> dict[str, Any]:
    """What is true of each set: printed, and as data."""
    report.line(f"{what:22s} lists  right  wrong  median angle | lattices  found  false  double")
    rows = {}
    for name, one in check.tallies["one lattice"].items():
        if name not in BENCHMARK_SETS:
            continue
        several = check.tallies["several"][name]
        rows[name] = {
            "lists": one.n_lists, "right": one.n_right, "wrong": one.n_wrong, "angle": one.median_angle,
            "lattices": several.n_true, "found": several.n_found, "false": several.n_false,
            "double": several.n_double,
        }  # fmt: skip
        report.line(
            f"  {name:20s} {one.n_lists:5d} {one.n_right:6d} {one.n_wrong:6d} {one.median_angle:13.3f} | "
            f"{several.n_true:8d} {several.n_found:6d} {several.n_false:6d} {several.n_double:7d}"
        )
    random = rows.get(RANDOM, {"lists": 0, "wrong": 0})
    good = [row for name, row in rows.items() if name != RANDOM]
    report.line(
        f"  {sum(row['right'] for row in good)} of {sum(row['lists'] for row in good)} lists right; "
        f"{random['wrong']} of {random['lists']} random lists accepted"
    )
    return rows


def _judge(report: Report, what: str, check: Check) -> None:
    """Fail for what differs from the CPU; of the benchmark every list must be right, none random accepted."""
    compared = check.compared
    for text in compared.apart[:20]:
        report.line(f"  {text}")
    for text in compared.differences[:20]:
        report.fail(f"trials: {text}")
    if len(compared.apart) > MOST_APART * compared.lattices:
        report.fail(f"trials: {what}: {len(compared.apart)} of {compared.lattices} lattices are apart")
    if what != BENCHMARK:
        return
    for name, tally in check.tallies["one lattice"].items():
        if tally.n_wrong or tally.n_right != (0 if name == RANDOM else tally.n_lists):
            report.fail(f"{what}: {name}: {tally.n_right} of {tally.n_lists} right, {tally.n_wrong} wrong")


def check_few(device: int) -> tuple[int, list[str]]:
    """A short comparison for compute-sanitizer: how many lists, and what differs."""
    import cupy

    cupy.cuda.Device(device).use()
    two, none = (
        simulated("lyso", FIRST_SEED, **s)
        for s in ({"n_peaks": 50, "n_lattices": 2}, {"n_peaks": 12, "spurious": 1.0})
    )
    equal = TrueList("lyso", "equal peaks", np.repeat(two.q[:1], 20, axis=0), two.shift_sigma, none.truth)
    check = Check()
    check.add_cell("lyso", [two, none, equal], 0)
    device_trials.cache_clear()
    return check.compared.lists, check.compared.differences
