# SPDX-License-Identifier: GPL-3.0-or-later
"""The vectors that a trial looks at: peaks, and differences of peaks, the shortest first.

A difference of two lattice points is a lattice point.  Short vectors vary slowly with direction, so they
allow a coarse sampling and forgive a wrong cell length; differences are blind to a shifted beam centre.
But if a share f of the peaks is good, only f² of the pairs are.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import DIRECT, LONGEST_PEAK, PEAK_WEIGHT
from gpuidx.jit import jit

_BUFFER = 4096


@jit
def usable_peaks(q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Peaks that are finite and not zero, in an order that does not depend on how they came.

    Parameters
    ----------
    q : (peak, xyz)
        Å⁻¹.

    Returns
    -------
    peaks : (xyzw, peak)
        Sorted by length, then by coordinates; weight 1.
    length : (peak,)
        Å⁻¹, rising.
    """
    n = 0
    kept = np.empty(len(q), np.int64)
    all_length = np.empty(len(q))
    for i in range(len(q)):
        size = math.sqrt(q[i, 0] ** 2 + q[i, 1] ** 2 + q[i, 2] ** 2)
        if 0.0 < size < LONGEST_PEAK:  # false for NaN
            kept[n] = i
            all_length[n] = size
            n += 1
    order = np.argsort(all_length[:n], kind="mergesort")
    peaks = np.empty((4, n))
    for place in range(n):
        i = kept[order[place]]
        peaks[0, place], peaks[1, place], peaks[2, place], peaks[3, place] = q[i, 0], q[i, 1], q[i, 2], 1.0
    length = all_length[:n][order]
    for place in range(1, n):
        at = place
        while at > 0 and length[at] == length[at - 1] and _before(peaks, at, at - 1):
            for row in range(3):
                swap = peaks[row, at]
                peaks[row, at] = peaks[row, at - 1]
                peaks[row, at - 1] = swap
            at -= 1
    return peaks, length


@jit
def _before(peaks: NDArray[np.float64], one: int, other: int) -> bool:
    """Whether a peak comes before another of the same length."""
    for row in range(3):
        if peaks[row, one] != peaks[row, other]:
            return bool(peaks[row, one] < peaks[row, other])
    return False


@jit
def direct_vectors(
    peaks: NDArray[np.float64],
    length: NDArray[np.float64],
    shortest: float,
    limits: NDArray[np.float64],
    need: int,
    most: int,
) -> tuple[NDArray[np.float64], int]:
    """Peaks for the lowest level that has enough of them.

    Parameters
    ----------
    peaks, length
        From `usable_peaks`.
    shortest
        Shorter vectors are left out, Å⁻¹.
    limits : (level,)
        A level takes vectors shorter than this, Å⁻¹.
    need, most
        How many vectors a level must have, and how many are used at most.

    Returns
    -------
    vectors : (xyzw, vector)
    level
        If none has enough, the lowest that has all that the highest has.
    """
    begin = np.searchsorted(length, shortest)
    level = _lowest_level(length[begin:], limits, need)
    end = min(begin + most, np.searchsorted(length, limits[level]))
    return peaks[:, begin : max(begin, end)].copy(), level


@jit
def _lowest_level(length: NDArray[np.float64], limits: NDArray[np.float64], need: int) -> int:
    """Lowest level with *need* vectors, or else with all that the highest level has."""
    need = min(need, np.searchsorted(length, limits[-1]))
    level = 0
    while np.searchsorted(length, limits[level]) < need:
        level += 1
    return level


@jit
def pair_vectors(
    peaks: NDArray[np.float64],
    shortest: float,
    longest: float,
    limits: NDArray[np.float64],
    need: int,
    most: int,
) -> tuple[NDArray[np.float64], int]:
    """Differences of two peaks, and the peaks, for the lowest level that has enough of them.

    Parameters and returns as in `direct_vectors`; differences of *longest* or more do not count.  Any number
    of peaks is possible: only the shortest vectors are kept, while all pairs are looked at.
    """
    longest = min(longest, limits[-1])
    square, first, second = _shortest_pairs(peaks, shortest * shortest, longest * longest, most)
    length = np.sqrt(square)
    level = _lowest_level(length, limits, need)
    count = np.searchsorted(length, limits[level])
    vectors = np.empty((4, count))
    for k in range(count):
        i, j = first[k], second[k]
        for row in range(3):
            vectors[row, k] = peaks[row, i] - (peaks[row, j] if j >= 0 else 0.0)
        vectors[3, k] = 1.0 if j >= 0 else PEAK_WEIGHT
    return vectors, level


@jit
def _shortest_pairs(
    peaks: NDArray[np.float64], least: float, limit: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Squared lengths, and the two peaks, of the *most* shortest pairs in [least, limit), sorted.

    The second peak of a peak by itself is -1.  A buffer takes what is below the limit; when it is full it is
    cut to the shortest, and the limit sinks to the longest of those, so nearly all further pairs fail one
    comparison.
    """
    n = peaks.shape[1]
    square, first, second = np.empty(_BUFFER), np.empty(_BUFFER, np.int64), np.empty(_BUFFER, np.int64)
    row_square = np.empty(n)
    count = 0
    for i in range(n):
        x, y, z = peaks[0, i], peaks[1, i], peaks[2, i]
        for j in range(i):
            row_square[j] = (x - peaks[0, j]) ** 2 + (y - peaks[1, j]) ** 2 + (z - peaks[2, j]) ** 2
        row_square[i] = x * x + y * y + z * z
        for j in range(i + 1):
            if least <= row_square[j] < limit:
                square[count], first[count], second[count] = row_square[j], i, j if j < i else -1
                count += 1
                if count == _BUFFER:
                    count = _cut(square, first, second, count, most)
                    limit = square[count - 1]
    count = _cut(square, first, second, count, most)
    return square[:count], first[:count], second[:count]


@jit
def _cut(
    square: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    count: int,
    most: int,
) -> int:
    """Sort the *most* smallest of the first *count* entries to the front; how many they are."""
    if count > most:
        limit = np.partition(square[:count], most - 1)[most - 1]
        n_equal = most - (square[:count] < limit).sum()
        kept = 0
        for k in range(count):
            if square[k] > limit or (square[k] == limit and n_equal == 0):
                continue
            n_equal -= square[k] == limit
            square[kept], first[kept], second[kept] = square[k], first[k], second[k]
            kept += 1
        count = kept
    order = np.argsort(square[:count], kind="mergesort")
    square[:count] = square[order]
    first[:count] = first[order]
    second[:count] = second[order]
    return count


@jit
def scan_and_turn_vectors(
    peaks: NDArray[np.float64],
    length: NDArray[np.float64],
    kind: int,
    scan: tuple[float, NDArray[np.float64], int, int],
    turn: tuple[NDArray[np.float64], int, int],
    pair_range: tuple[float, float],
) -> tuple[NDArray[np.float64], int, NDArray[np.float64], int]:
    """Vectors and level of the direction scan, and of the turn, for one kind of vectors.

    Parameters
    ----------
    peaks, length
        From `usable_peaks`.
    kind
        `DIRECT` or `PAIRS`.
    scan
        Shortest length, limits of the levels, need, most.
    turn
        Limits of the levels, need, most.
    pair_range
        Shortest and longest pair, Å⁻¹.
    """
    if kind == DIRECT:
        for_scan, scan_level = direct_vectors(peaks, length, scan[0], scan[1], scan[2], scan[3])
        for_turn, turn_level = direct_vectors(peaks, length, 0.0, turn[0], turn[1], turn[2])
    else:
        low, high = pair_range
        for_scan, scan_level = pair_vectors(peaks, max(low, scan[0]), high, scan[1], scan[2], scan[3])
        for_turn, turn_level = pair_vectors(peaks, low, high, turn[0], turn[1], turn[2])
    return for_scan, scan_level, for_turn, turn_level
