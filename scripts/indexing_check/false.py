# SPDX-License-Identifier: GPL-3.0-or-later
"""How often trials accept what is no lattice: random peaks, and real ones turned about the beam."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from backends.peak_lists import simulated
from numpy.typing import NDArray

from gpuidx.simulation.peaklists import EXPERIMENTS
from indexing_check.backends import Backend, NamedList, named
from indexing_check.comparison import Outcome
from indexing_check.lists import RealList
from indexing_check.report import bar, percentiles

MOST_RANDOM = 0.001


def accepted(
    backend: Backend, lists: Sequence[NamedList], group: str, retry: bool
) -> tuple[int, str, list[Outcome]]:
    """How many lists the first try accepts, which is all without retry; how many with *retry*, else "-"."""
    outcomes = backend.index(lists, f"{group}, {'with' if retry else 'no'} retry", retry=retry)
    tries = [one.n_tries for one in outcomes if one.candidates]
    return tries.count(1), str(len(tries)) if retry else "-", outcomes


def check_random(backend: Backend, count: int, retry: bool) -> None:
    """Peaks anywhere, for each cell in turn."""
    names, rng = list(EXPERIMENTS), np.random.default_rng(20)
    print(f"\nRandom lists of 10 to 120 peaks ({backend.title})")
    print("| lists | accepted, first try | with retry | ms median / 95 % | verdict |")
    print("|---|---|---|---|---|")
    lists = []
    for number in range(count):
        n_peaks = int(rng.integers(10, 121))
        true = simulated(names[number % len(names)], 10**6 + number, n_peaks=n_peaks, spurious=1.0)
        lists.append(named(true, number))
    first, with_retry, outcomes = accepted(backend, lists, "random", retry)
    verdict = bar("random lists", sum(bool(one.candidates) for one in outcomes) <= MOST_RANDOM * count)
    ms = percentiles((one.ms for one in outcomes), 50, 95)
    print(f"| {count} | {first} | {with_retry} | {ms} | {verdict} |")


def turned(q: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Peaks, each turned about the beam by a random angle of its own, so that only resolutions stay."""
    angle = rng.uniform(0, 2 * np.pi, len(q))
    c, s = np.cos(angle), np.sin(angle)
    return np.column_stack([c * q[:, 0] - s * q[:, 1], s * q[:, 0] + c * q[:, 1], q[:, 2]])


def check_turned(backend: Backend, frames: Sequence[RealList], count: int, retry: bool) -> None:
    """Real frames, each *count* times; no bars."""
    print(f"\nReal frames, each peak turned about the beam by a random angle ({backend.title})")
    print(
        "| frame | peaks | itself: score | crystals | lists | accepted, first try | with retry | crystals |"
    )
    print("|---|---|---|---|---|---|---|---|")
    n_first = n_accepted = n_crystal = 0
    for number, one in enumerate(frames):
        rng = np.random.default_rng([21, number])
        lists = [replace(one, q=turned(one.q, rng), name=f"{one.name}, turned {n}") for n in range(count)]
        first, with_retry, outcomes = accepted(backend, lists, "real frames turned", retry)
        crystals = sum(bool(each.crystals(o.candidates)) for each, o in zip(lists, outcomes, strict=True))
        (itself,) = backend.index([one], "real frames")
        score = f"{itself.candidates[0].score:.0f}" if itself.candidates else "-"
        print(
            f"| {one.name} | {len(one.q)} | {score} | {len(one.crystals(itself.candidates))} | {count} "
            f"| {first} | {with_retry} | {crystals} |"
        )
        n_first += first
        n_accepted += sum(bool(o.candidates) for o in outcomes)
        n_crystal += crystals
    all_lists = len(frames) * count
    print(f"| all | | | | {all_lists} | {n_first} | {n_accepted if retry else '-'} | {n_crystal} |")
