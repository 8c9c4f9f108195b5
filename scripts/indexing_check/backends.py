# SPDX-License-Identifier: GPL-3.0-or-later
"""The two backends behind one method; what a device gives is compared with what the CPU gives.

Needs ``tests`` on the path.  A device is a card where NVIDIA's driver is, else the emulator of the tests,
whose times mean nothing.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from backends.peak_lists import TrueList
from emulator import pretended_cuda
from numpy.typing import NDArray

from gpuidx.backends.cpu.trials import Trials
from gpuidx.backends.cuda.detect import driver_problem
from gpuidx.backends.cuda.trials import DeviceTrials
from gpuidx.cell import UnitCell
from gpuidx.options import IndexOptions
from gpuidx.simulation.peaklists import EXPERIMENTS
from indexing_check.comparison import Comparison, Outcome

BATCH = 64


@dataclass(frozen=True, eq=False)
class NamedList:
    """Peaks of one frame: a name for reports, the cell; q (peak, xyz) and the shift's sigma in Å⁻¹."""

    name: str
    cell: UnitCell
    q: NDArray[np.float64]
    shift_sigma: float


class Backend(Protocol):
    """Indexes lists of any cells; *group* is the line of a comparison that they belong to."""

    title: str

    def index(self, lists: Sequence[NamedList], group: str, **options: bool) -> list[Outcome]:
        """Outcomes in the order of the lists; *options*: ``retry``, ``multi``, both off if not given."""
        ...


def named(true: TrueList, number: int) -> NamedList:
    """A list with truth, as the backends take it; *number* tells it from others of its set."""
    name = f"{true.set_name} {number} ({true.cell_name})"
    return NamedList(name, EXPERIMENTS[true.cell_name].cell, true.q, true.shift_sigma)


@cache
def cpu_trials(cell: UnitCell, retry: bool = False, multi: bool = False) -> Trials:
    return Trials(cell, IndexOptions(retry=retry, multi=multi))


class Cpu:
    """One list after the other, with its CPU time."""

    title = "CPU, times are CPU times of one core"

    def index(self, lists: Sequence[NamedList], group: str, **options: bool) -> list[Outcome]:
        """See `Backend`."""
        outcomes = []
        for one in lists:
            own = cpu_trials(one.cell, **options)
            begun = time.process_time()
            candidates, n_tries = own.index(one.q, one.shift_sigma)
            outcomes.append(Outcome(candidates, n_tries, 1e3 * (time.process_time() - begun)))
        return outcomes


class Cuda:
    """In batches for each cell; what comes of them is compared with the CPU.

    Parameters
    ----------
    check
        Take the emulator, with all its checks.

    Attributes
    ----------
    device
        The emulator's; None for a card.
    comparisons
        By group.
    """

    def __init__(self, check: bool = False) -> None:
        self.device: Any = None
        self.comparisons: dict[str, Comparison] = {}
        if check or driver_problem() is not None:
            self.device = pretended_cuda.install(order="lazy", check=check)
        import cupy

        self.title = "CUDA, kernels run in the emulator on the CPU: no times"
        if self.device is None:
            self.title = "CUDA, times are a list's share of its batch, from the host and back"
        else:
            cupy.cuda.set_allocator(None)  # so that each array has guards of its own
        self._cpu = Cpu()
        self._trials: dict[tuple[UnitCell, bool, bool], DeviceTrials] = {}

    def index(self, lists: Sequence[NamedList], group: str, **options: bool) -> list[Outcome]:
        """See `Backend`."""
        outcomes: dict[int, Outcome] = {}
        for cell in dict.fromkeys(one.cell for one in lists):
            numbers = [number for number, one in enumerate(lists) if one.cell == cell]
            for start in range(0, len(numbers), BATCH):
                batch = numbers[start : start + BATCH]
                print(f"\r{group}: {len(outcomes)} of {len(lists)}", end="", file=sys.stderr, flush=True)
                outcomes |= zip(batch, self._index_batch([lists[n] for n in batch], **options), strict=True)
        print(file=sys.stderr)
        ordered = [outcomes[number] for number in range(len(lists))]
        comparison = self.comparisons.setdefault(group, Comparison())
        for one, own, other in zip(lists, ordered, self._cpu.index(lists, group, **options), strict=True):
            comparison.add(one.name, own, other)
        return ordered

    def _index_batch(self, lists: list[NamedList], **options: bool) -> list[Outcome]:
        from backends.device_trials import index_lists

        trials = self._of_cell(lists[0].cell, **options)
        begun = time.perf_counter()
        found = index_lists(trials, [one.q for one in lists], [one.shift_sigma for one in lists])
        ms = 1e3 * (time.perf_counter() - begun) / len(lists) if self.device is None else float("nan")
        return [Outcome(candidates, n_tries, ms) for candidates, n_tries in found]

    def _of_cell(self, cell: UnitCell, retry: bool = False, multi: bool = False) -> DeviceTrials:
        key = cell, retry, multi
        if key not in self._trials:
            options = IndexOptions(retry=retry, multi=multi)
            self._trials[key] = DeviceTrials(cpu_trials(cell).cell, options, BATCH)
            self._trials[key].compile()
        return self._trials[key]
