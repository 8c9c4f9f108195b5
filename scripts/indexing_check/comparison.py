# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattices of a device beside the CPU's, one by one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from backends.peak_lists import nearest

from gpuidx.model import Candidate
from indexing_check.report import bar

NEAR = 0.01
"""Degrees between a lattice of a device and the CPU's that count as none."""

LEAST_NEAR = 0.99
"""Share of the lattices that must be so near."""


class Outcome(NamedTuple):
    """What trials gave; *ms* is NaN where a time means nothing."""

    candidates: Sequence[Candidate]
    n_tries: int
    ms: float


@dataclass
class Comparison:
    """Of one group of lists.

    Attributes
    ----------
    n_list, n_alike
        Lists; those with as many lattices and trials as on the CPU.
    n_lattice, n_near
        Lattices of the CPU; those that the device gives to within `NEAR`.
    largest
        Angle among these, degrees.
    exceptions
        A line for each other one.
    """

    n_list: int = 0
    n_alike: int = 0
    n_lattice: int = 0
    n_near: int = 0
    largest: float = 0.0
    exceptions: list[str] = field(default_factory=list)

    def add(self, name: str, device: Outcome, cpu: Outcome) -> None:
        """Compare what came of one list."""
        self.n_list += 1
        counts = [(len(each.candidates), each.n_tries) for each in (device, cpu)]
        self.n_alike += counts[0] == counts[1]
        if counts[0] != counts[1]:
            ours, theirs = (
                f"{[round(c.score, 1) for c in each.candidates]} in {each.n_tries} trials"
                for each in (device, cpu)
            )
            self.exceptions.append(f"{name}: {ours}, CPU {theirs}")
        axes = np.array([c.axes for c in device.candidates]).reshape(-1, 3, 3)
        for expected in cpu.candidates:
            self.n_lattice += 1
            which, angle = nearest(expected.axes, axes)
            if which >= 0 and angle < NEAR:
                self.n_near += 1
                self.largest = max(self.largest, angle)
                continue
            ours = (
                f"{angle:.3f} degrees, score {device.candidates[which].score:.2f}" if which >= 0 else "none"
            )
            self.exceptions.append(f"{name}: {ours}, CPU {expected.score:.2f}")

    @property
    def holds(self) -> bool:
        """Whether all lists are alike and enough of the lattices are near."""
        return self.n_alike == self.n_list and self.n_near >= LEAST_NEAR * self.n_lattice


def total(comparisons: Iterable[Comparison]) -> Comparison:
    """Of several groups together, without the exceptions."""
    added = Comparison()
    for own in comparisons:
        for name in ("n_list", "n_alike", "n_lattice", "n_near"):
            setattr(added, name, getattr(added, name) + getattr(own, name))
        added.largest = max(added.largest, own.largest)
    return added


def show(comparisons: Mapping[str, Comparison], title: str) -> None:
    """Print a table with a verdict on all lists together, and every exception."""
    print(f"\nLattices beside the CPU's ({title}); near: within {NEAR} degrees")
    print("| lists | number | alike | lattices | near | % | largest angle of these |")
    print("|---|---|---|---|---|---|---|")
    together = total(comparisons.values())
    for group, own in [*comparisons.items(), ("all", together)]:
        share = f"{100 * own.n_near / own.n_lattice:.2f}" if own.n_lattice else "-"
        print(
            f"| {group} | {own.n_list} | {own.n_alike} | {own.n_lattice} | {own.n_near} | {share} "
            f"| {own.largest:.5f} |"
        )
    for group, own in comparisons.items():
        for line in own.exceptions:
            print(f"  {group}: {line}")
    print(f"As on the CPU: {bar('comparison with the CPU', together.holds)}")
