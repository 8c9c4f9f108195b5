# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials on a device, real or pretended, for peak lists as the CPU's trials take them."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
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


Outcome = tuple[Sequence[Candidate], int]
"""Candidates of a list, strongest first, and how many trials were made."""


def difference(found: Outcome, expected: Outcome) -> str:
    """Whether a device gives other numbers of candidates and trials than the CPU, or left-handed axes.

    Empty if not.
    """
    (candidates, n_tries), (wanted, n_wanted) = found, expected
    if (len(candidates), n_tries) != (len(wanted), n_wanted):
        scores = f"scores {[c.score for c in candidates]}, CPU {[c.score for c in wanted]}"
        return f"{len(candidates)} lattices, {n_tries} trials, CPU {len(wanted)}, {n_wanted}; {scores}"
    return "left-handed axes" if any(np.linalg.det(one.axes) <= 0 for one in candidates) else ""


def same_score(one: Candidate, other: Candidate) -> bool:
    """Whether two scores are those of one lattice, refined to the same place."""
    return math.isclose(one.score, other.score, rel_tol=1e-3)


def angles_between(candidates: Sequence[Candidate], expected: Sequence[Candidate]) -> list[float]:
    """Degrees between the candidates and those of the CPU; 180 for another lattice."""
    pairs = zip(candidates, expected, strict=True)
    each = [same_lattice(one.axes, other.axes) for one, other in pairs]
    return [angle if same else 180.0 for same, angle in each]


def compare_lists(own: Trials, device: DeviceTrials, lists: list[tuple[np.ndarray, float]]) -> list[float]:
    """Angles between the candidates of a device and of the CPU, of which there must be as many.

    *lists*: peaks, and the shift's sigma.
    """
    angles = []
    found = index_lists(device, [q for q, _ in lists], [sigma for _, sigma in lists])
    for result, (q, sigma) in zip(found, lists, strict=True):
        expected = own.index(q, sigma)
        differing = difference(result, expected)
        assert not differing, f"{len(q)} peaks: {differing}"
        own_angles = angles_between(result[0], expected[0])
        for one, other, angle in zip(result[0], expected[0], own_angles, strict=True):
            assert angle > LARGEST_ANGLE or same_score(one, other), (
                f"{len(q)} peaks: {one.score}, {other.score}"
            )
        angles += own_angles
    return angles


def compare(lists: list[TrueList], **options: bool) -> list[float]:
    """As `compare_lists`, for made-up lists of any cells."""
    angles = []
    for name in dict.fromkeys(one.cell_name for one in lists):
        own = [(one.q, one.shift_sigma) for one in lists if one.cell_name == name]
        angles += compare_lists(trials(name, **options), device_trials(name, **options), own)
    return angles
