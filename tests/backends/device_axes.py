# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for axes without a cell on a device, real or pretended, for peak lists."""

from collections.abc import Sequence

import numpy as np
from backends.device_trials import on_device
from numpy.typing import NDArray

from gpuidx.backends.constants import MAX_PEAKS, SCAN_CYCLES, STEP
from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.backends.cpu.unknown_vectors import find_axes
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.backends.cuda.axes_search import AxesSearch
from gpuidx.backends.known_cell import direction_grids
from gpuidx.options import IndexOptions

SAME_AXIS, SAME_SCORE = 1e-3, 1e-2
"""Å, and of the score: more than float32 takes away."""


def start(search: AxesSearch, lists: Sequence[NDArray], stream):
    """Start a batch of lists (peak, xyz), strongest first; gives it."""
    n = len(lists)
    q, n_given = np.full((n, MAX_PEAKS, 3), np.nan), np.array([len(one) for one in lists], np.int32)
    for row, one in zip(q, lists, strict=True):
        row[: len(one)] = one
    batch = search.new_batch()
    search.start(batch, on_device(q, stream), on_device(n_given, stream), None, n, stream)
    return batch


def axes_of(
    lists: Sequence[NDArray], axis_range: tuple[float, float] | None, retry: bool = False, min_peaks: int = 0
) -> list[NDArray | None]:
    """Axes of each list (try, kind, axis, xyz and score) from a device; None: left to the CPU."""
    import cupy

    options = IndexOptions(axis_range=axis_range, retry=retry)
    search = AxesSearch(options, len(lists), min_peaks=min_peaks)
    stream = cupy.cuda.Stream(non_blocking=True)
    batch = start(search, lists, stream)
    search.finish(batch, stream)
    return [axes for _, _, axes in batch.outcomes]


def lengths_of(q: NDArray, axis_range: tuple[float, float] | None) -> tuple[float, float]:
    """Shortest and longest axis to look for, Å: those given, or those that follow from the peaks."""
    return UnknownCellTrials(IndexOptions(axis_range=axis_range))._limits(q.T)


def cpu_axes(q: NDArray, kind: int, axis_range: tuple[float, float]) -> NDArray:
    """Axes of the CPU (axis, xyz and score)."""
    grid, grid_start = direction_grids()
    buffer = np.empty(int(2 * np.pi * (SCAN_CYCLES[-1] / STEP) ** 2), np.float32)
    peaks, length = usable_peaks(np.ascontiguousarray(q))
    axes, scores = find_axes(peaks, length, kind, axis_range, grid, grid_start, buffer)
    return np.column_stack([axes, scores])


def are_the_same(found: NDArray, expected: NDArray) -> bool:
    """Whether axes are those of the CPU, in order, the sign of each apart; rows with score 0 are none."""
    own = found[found[:, 3] > 0].astype(float)
    if len(own) != len(expected) or (found[len(own) :] != 0).any():
        return False
    sign = np.sign((own[:, :3] * expected[:, :3]).sum(1))
    near = np.abs(sign[:, None] * own[:, :3] - expected[:, :3]) < SAME_AXIS
    return bool(near.all() and (np.abs(own[:, 3] - expected[:, 3]) < SAME_SCORE).all())
