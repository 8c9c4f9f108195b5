# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials on the pretended device, for peak lists as the CPU's trials take them."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from backends.peak_lists import TrueList, trials
from numpy.typing import NDArray

from gpuidx.backends.constants import MAX_PEAKS
from gpuidx.backends.cpu.trials import Trials
from gpuidx.backends.cuda.trials import DeviceTrials
from gpuidx.lattice import same_lattice
from gpuidx.model import Candidate
from gpuidx.options import IndexOptions

MOST_FRAMES = 64


@cache
def device_trials(
    cell_name: str,
    retry: bool = False,
    multi: bool = False,
    min_peaks: int = 0,
    most_frames: int = MOST_FRAMES,
) -> DeviceTrials:
    """Trials for one of the cells of `EXPERIMENTS`, made once."""
    options = IndexOptions(retry=retry, multi=multi)
    return DeviceTrials(trials(cell_name).cell, options, most_frames, min_peaks=min_peaks)


def on_device(array: NDArray, stream):
    """A copy on the device."""
    import cupy

    copy = cupy.empty(array.shape, array.dtype)
    copy.set(np.ascontiguousarray(array), stream=stream)
    return copy


def start(own: DeviceTrials, lists: Sequence[NDArray], shift_sigma: float | Sequence[float], stream):
    """Start a batch of lists (peak, xyz); gives it."""
    n = len(lists)
    q, n_given = np.full((n, MAX_PEAKS, 3), np.nan), np.array([len(one) for one in lists], np.int32)
    for row, one in zip(q, lists, strict=True):
        row[: len(one)] = one
    sigma = np.array(np.broadcast_to(shift_sigma, n), np.float32)
    batch = own.new_batch()
    own.start(batch, *(on_device(a, stream) for a in (q, n_given, sigma)), n, stream)
    return batch


def index_lists(
    own: DeviceTrials, lists: Sequence[NDArray], shift_sigma: float | Sequence[float]
) -> list[tuple[tuple[Candidate, ...], int]]:
    """What the trials of a batch of lists give."""
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    batch = start(own, lists, shift_sigma, stream)
    own.finish(batch, stream)
    return own.results(batch)


def bits(found: tuple[tuple[Candidate, ...], int]) -> list[bytes]:
    """All numbers of a frame's result, to compare."""
    candidates, n_tries = found
    each = [(c.axes.tobytes(), c.shift.tobytes(), np.float64(c.score).tobytes()) for c in candidates]
    return [np.int64(n_tries).tobytes(), *(b"".join(one) for one in each)]


LARGEST_ANGLE = 0.01
"""Degrees between the lattices of a device and of the CPU, in 99 % of all."""


def compare_lists(own: Trials, device: DeviceTrials, lists: list[tuple[np.ndarray, float]]) -> list[float]:
    """Angles between the candidates of a device and of the CPU, of which there must be as many.

    *lists*: peaks, and the shift's sigma.
    """
    angles = []
    found = index_lists(device, [q for q, _ in lists], [sigma for _, sigma in lists])
    for (candidates, n_tries), (q, sigma) in zip(found, lists, strict=True):
        expected, n_expected = own.index(q, sigma)
        what = f"{len(q)} peaks: {[c.score for c in candidates]}, CPU {[c.score for c in expected]}"
        assert (len(candidates), n_tries) == (len(expected), n_expected), what
        for one, other in zip(candidates, expected, strict=True):
            same, angle = same_lattice(one.axes, other.axes)
            angles.append(angle if same else 180.0)
            if angles[-1] < LARGEST_ANGLE:
                assert one.score == pytest.approx(other.score, rel=1e-3), what
            assert np.linalg.det(one.axes) > 0
    return angles


def compare(lists: list[TrueList], **options: bool) -> list[float]:
    """As `compare_lists`, for made-up lists of any cells."""
    angles = []
    for name in dict.fromkeys(one.cell_name for one in lists):
        own = [(one.q, one.shift_sigma) for one in lists if one.cell_name == name]
        angles += compare_lists(trials(name, **options), device_trials(name, **options), own)
    return angles
