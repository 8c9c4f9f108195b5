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
from gpuidx.backends.cuda.trial_directions import DirectionSearch, prepare_named
from gpuidx.backends.known_cell import CellTables

PLAN = trial_tables.make_plan(ATTEMPTS)
RECORDS = {"tasks": trial_tables.TASK, "sets": trial_tables.VECTOR_SETS}


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
        with cupy.cuda.using_allocator(None):  # so that each has guards of its own
            self.arrays |= {name: cupy.empty(*shape) for name, shape in shapes.items()}
        q, n_used = np.zeros((n, MAX_PEAKS, 3)), np.array([len(one) for one in lists], np.int32)
        for row, one in zip(q, lists, strict=True):
            row[: len(one)] = one
        self.set(q=q, n_used=n_used, excluded=np.zeros((n, MAX_PEAKS), np.uint8))
        self.found: dict[str, np.ndarray] = {}

    def device(self, array: np.ndarray):
        """A copy on the device."""
        import cupy

        with cupy.cuda.using_allocator(None):
            copy = cupy.empty(array.shape, array.dtype)
        copy.set(np.ascontiguousarray(array), stream=self.stream)
        self.stream.synchronize()
        return copy

    def set(self, **values: np.ndarray) -> None:
        """New contents of buffers."""
        self.arrays |= {name: self.device(value) for name, value in values.items()}

    def launch(self, kernels, name: str, grid: tuple[int, ...], **numbers: float) -> None:
        """Start one kernel on the buffers."""
        prepare_named(kernels, name, grid, self.arrays, **numbers).start(self.stream)

    def get(self, name: str, *part: int | slice) -> np.ndarray:
        """What is in a buffer, or a part of it; records with their fields."""
        array = self.arrays[name][part].get(stream=self.stream)
        self.stream.synchronize()
        return array.view(RECORDS[name])[..., 0] if name in RECORDS else array

    def run(self, attempts: int | Sequence[int], *, fetch: bool = True) -> dict[str, np.ndarray]:
        """Make an attempt, the same for all frames or one for each (negative: none); *fetch* all buffers.

        The usable peaks come first: an attempt that does not begin a trial takes those of one that does.
        """
        numbers = np.array(np.broadcast_to(attempts, self.n_frame), np.int32)
        if not PLAN["begins"][numbers[numbers >= 0]].all():
            self.set(next_attempt=np.zeros(self.n_frame, np.int32))
            self.launch(search().vectors, "list_tasks", (1,), n_frame=self.n_frame)
            self.launch(search().vectors, "take_peaks", (self.n_frame,))
        self.set(next_attempt=numbers)
        search().start(self.stream, self.arrays, self.n_frame)
        self.found = {name: self.get(name) for name in self.arrays} if fetch else {}
        return self.found

    def outcome(self, slot: int) -> dict[str, bytes]:
        """All that a slot's attempt gave, to compare; nothing that was not written is looked at."""
        sets, frame = self.get("sets", slot), int(self.get("tasks", slot)["frame"])
        n_sampled = self.get("n_sampled", slot) if sets["n_scan"] else 0
        lists = {
            "peaks": (frame, self.get("n_peak", frame)),
            "scan_vectors": (slot, sets["n_scan"]),
            "turn_vectors": (slot, sets["n_turn"]),
            "sampled": (slot, n_sampled),
            "refined": (slot, n_sampled),
            "directions": (slot, self.get("n_direction", slot)),
        }
        numbers = {name: self.get(name, row, slice(0, int(n))) for name, (row, n) in lists.items()}
        return {name: value.tobytes() for name, value in (numbers | {"sets": sets}).items()}


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
