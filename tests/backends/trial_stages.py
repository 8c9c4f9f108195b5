# SPDX-License-Identifier: GPL-3.0-or-later
"""The first half of indexing attempts on the pretended device, and the CPU's functions of the same stages."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from backends.peak_lists import trials

from gpuidx.backends.constants import (
    ATTEMPTS,
    MAX_PEAKS,
    SCAN_MOST,
    SCAN_NEED,
    TURN_MOST,
    TURN_NEED,
)
from gpuidx.backends.cpu.vectors import scan_and_turn_vectors, usable_peaks
from gpuidx.backends.cuda import trial_tables
from gpuidx.backends.cuda.trial_directions import DirectionSearch
from gpuidx.backends.known_cell import CellTables

PLAN = trial_tables.make_plan(ATTEMPTS)


@cache
def search() -> DirectionSearch:
    """The kernels, made once: where they are compiled does not matter."""
    return DirectionSearch()


def tables(cell_name: str) -> CellTables:
    """Of one of the cells of `EXPERIMENTS`."""
    return trials(cell_name).cell.tables


class Stages:
    """Buffers for some frames of one cell; `run` makes one attempt for all of them.

    Attributes
    ----------
    found
        After `run`: host copies of the buffers, by name, records with their fields.
    """

    def __init__(self, cell_name: str, lists: Sequence[np.ndarray]) -> None:
        import cupy

        self.host = trial_tables.make_trial_tables(tables(cell_name))
        self.stream = cupy.cuda.Stream(non_blocking=True)
        n = self.n_frame = len(lists)
        self.arrays = {"plan": self.device(PLAN.view(np.uint8))}
        self.arrays |= {name: self.device(array) for name, array in self.host.arrays().items()}
        shapes = trial_tables.frame_shapes(n) | trial_tables.slot_shapes(n, self.host.most_directions)
        self.arrays |= {name: cupy.empty(*shape) for name, shape in shapes.items()}
        q, n_used = np.zeros((n, MAX_PEAKS, 3)), np.array([len(one) for one in lists], np.int32)
        for row, one in zip(q, lists, strict=True):
            row[: len(one)] = one
        self.set(q=q, n_used=n_used, excluded=np.zeros((n, MAX_PEAKS), np.uint8))
        self.found: dict[str, np.ndarray] = {}

    def device(self, array: np.ndarray):
        """A copy on the device."""
        import cupy

        copy = cupy.empty(array.shape, array.dtype)
        copy.set(np.ascontiguousarray(array), stream=self.stream)
        self.stream.synchronize()
        return copy

    def set(self, **values: np.ndarray) -> None:
        """New contents of buffers."""
        self.arrays |= {name: self.device(value) for name, value in values.items()}

    def run(self, attempts: int | Sequence[int]) -> dict[str, np.ndarray]:
        """Make an attempt, the same for all frames or one for each; what is in the buffers then.

        The usable peaks come first: an attempt that does not begin a trial takes those of one that does.
        """
        numbers = np.broadcast_to(np.asarray(attempts, np.int32), self.n_frame)
        if not PLAN["begins"][numbers].all():
            self.set(next_attempt=np.zeros(self.n_frame, np.int32))
            search().start(self.stream, self.arrays, self.n_frame)
        self.set(next_attempt=np.array(numbers))
        search().start(self.stream, self.arrays, self.n_frame)
        self.found = {name: array.get(stream=self.stream) for name, array in self.arrays.items()}
        self.stream.synchronize()
        self.found["tasks"] = self.found["tasks"].view(trial_tables.TASK)[:, 0]
        self.found["sets"] = self.found["sets"].view(trial_tables.VECTOR_SETS)[:, 0]
        return self.found

    def outcome(self, slot: int) -> dict[str, bytes]:
        """All numbers that a slot's attempt gave, to compare."""
        found, set_ = self.found, self.found["sets"][slot]
        frame = found["tasks"]["frame"][slot]
        n_sampled = found["n_sampled"][slot] if set_["n_scan"] else 0
        lists = {
            "peaks": found["peaks"][frame, : found["n_peak"][frame]],
            "sets": set_,
            "scan_vectors": found["scan_vectors"][slot, : set_["n_scan"]],
            "turn_vectors": found["turn_vectors"][slot, : set_["n_turn"]],
            "sampled": found["sampled"][slot, :n_sampled],
            "refined": found["refined"][slot, :n_sampled],
            "directions": found["directions"][slot, : found["n_direction"][slot]],
        }
        return {name: value.tobytes() for name, value in lists.items()}


def cpu_vectors(cell_name: str, q: np.ndarray, attempt: int):
    """Vectors (xyzw, vector) and level of the scan, and of the turn, on the CPU."""
    cell = tables(cell_name)
    peaks, length = usable_peaks(q)
    anchor, kind = ATTEMPTS[attempt]
    return scan_and_turn_vectors(
        peaks,
        length,
        kind,
        (cell.scan_shortest[anchor], cell.scan_limit[anchor], SCAN_NEED[kind], SCAN_MOST[kind]),
        (cell.turn_limit[anchor], TURN_NEED[kind], TURN_MOST[kind]),
        (cell.pair_shortest, cell.pair_longest),
    )
