# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics of any data: 16 rings side by side, each added up in its own order.

A float32 sum in a fixed order cannot be vectorised, but 16 such sums can run side by side.  So the frame is
scattered into a buffer in which 16 neighbouring rings, a *group*, are the columns: row k holds the k-th
pixel of each.  Bad pixels and the gaps below shorter rings are NaN, which fails every comparison, so
nobody has to ask whether a slot is in use.  All rounds run over one group while it is in the cache.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.clipping import FIRST_LOWER, FIRST_UPPER, ZERO, Clip, clip_limits
from gpuidx.backends.cpu.lane_layout import LANES, NO_RING, make_layout
from gpuidx.backends.rings import ROUNDS, Rings
from gpuidx.backends.values import LARGEST, NAN, Rules, is_bad
from gpuidx.jit import jit

TOTAL, TOTAL_SQ, N, UPPER, LOWER = range(0, 5 * LANES, LANES)
"""Where each quantity of a group begins; one array for all, so that the compiler sees no overlap."""

U = np.uint64  # possibly negative indices cost a test each and stop the vectoriser
ROW = U(LANES)
ONE = np.float32(1)


class LaneSums:
    """Radial statistics and candidate pixels of any frames.

    Attributes
    ----------
    mean, upper : (ring,) float32
        Of the last frame: mean of each ring and the limit above which a pixel is a candidate, ADU.
    """

    def __init__(self, rings: Rings, rules: Rules, clip: Clip) -> None:
        self.layout = make_layout(rings)
        self.rules, self.clip = rules, clip
        # one slot more, for all pixels that are not used; gaps stay NaN for ever
        self.buffer = np.full(len(self.layout.pixel_of) + 1, NAN)
        self.mean, self.upper = np.zeros(rings.n_ring, np.float32), np.full(rings.n_ring, LARGEST)
        self.found = np.empty(1 << 16, np.int32)

    def candidates(self, image: NDArray[Any]) -> NDArray[np.int32]:
        """Pixels above their ring's limit, along the slab.

        Parameters
        ----------
        image : (pixel,)
            The slab.
        """
        layout = self.layout
        _scatter(image, layout.slot_of, self.buffer, self.rules)
        while True:
            n = _clip_groups(
                self.buffer, layout.ring_of, layout.first, layout.pixel_of, self.clip, self.mean, self.upper,
                self.found,
            )  # fmt: skip
            if n <= len(self.found):
                return np.sort(self.found[:n])
            self.found = np.empty(2 * n, np.int32)


@jit
def _scatter(
    image: NDArray[Any], slot_of: NDArray[np.uint32], buffer: NDArray[np.float32], rules: Rules
) -> None:
    for pixel in range(len(image)):
        value = np.float32(image[pixel])
        buffer[slot_of[pixel]] = NAN if is_bad(value, rules) else value


@jit
def _clip_groups(
    buffer: NDArray[np.float32],
    ring_of: NDArray[np.int32],
    first: NDArray[np.int64],
    pixel_of: NDArray[np.int32],
    clip: Clip,
    mean: NDArray[np.float32],
    upper: NDArray[np.float32],
    found: NDArray[np.int32],
) -> int:
    """All rounds of all groups, then the pixels above the limits; their number, even if *found* is short."""
    state = np.empty(5 * LANES, np.float32)
    n_found = 0
    for group in range(len(ring_of)):
        begin, n_row = first[group], (first[group + 1] - first[group]) // LANES
        state[UPPER : UPPER + LANES] = FIRST_UPPER
        state[LOWER : LOWER + LANES] = FIRST_LOWER
        for _ in range(ROUNDS):
            state[:UPPER] = ZERO
            _add_rows(buffer, begin, n_row, state)
            if _set_limits(ring_of[group], clip, state, mean, upper):
                break
        n_found = _collect(buffer, begin, n_row, state, pixel_of, found, n_found)
    return n_found


@jit
def _add_rows(buffer: NDArray[np.float32], begin: int, n_row: int, state: NDArray[np.float32]) -> None:
    """Add what is within the limits to sum, sum of squares and count of each lane.

    Four rows at a time: sums stay in registers in between.  What is outside adds a zero.
    """
    n_quad = n_row // 4 * 4
    for row in range(0, n_quad, 4):
        at = U(begin) + U(row) * ROW
        for lane in range(LANES):
            j = U(lane)
            upper, lower = state[U(UPPER) + j], state[U(LOWER) + j]
            v0, v1 = buffer[at + j], buffer[at + ROW + j]
            v2, v3 = buffer[at + U(2) * ROW + j], buffer[at + U(3) * ROW + j]
            in0, in1 = (v0 < upper) & (v0 > lower), (v1 < upper) & (v1 > lower)
            in2, in3 = (v2 < upper) & (v2 > lower), (v3 < upper) & (v3 > lower)
            v0, v1 = v0 if in0 else ZERO, v1 if in1 else ZERO
            v2, v3 = v2 if in2 else ZERO, v3 if in3 else ZERO
            total, total_sq = state[j], state[U(TOTAL_SQ) + j]
            state[j] = (((total + v0) + v1) + v2) + v3
            state[U(TOTAL_SQ) + j] = (((total_sq + v0 * v0) + v1 * v1) + v2 * v2) + v3 * v3
            # counts below 2²⁴ are exact in float32, and stay in vectors of the same width
            n01 = (ONE if in0 else ZERO) + (ONE if in1 else ZERO)
            n23 = (ONE if in2 else ZERO) + (ONE if in3 else ZERO)
            state[U(N) + j] += n01 + n23
    for row in range(n_quad, n_row):
        at = U(begin) + U(row) * ROW
        for lane in range(LANES):
            j = U(lane)
            value = buffer[at + j]
            inside = (value < state[U(UPPER) + j]) & (value > state[U(LOWER) + j])
            value = value if inside else ZERO
            state[j] += value
            state[U(TOTAL_SQ) + j] += value * value
            state[U(N) + j] += ONE if inside else ZERO


@jit
def _set_limits(
    rings: NDArray[np.int32],
    clip: Clip,
    state: NDArray[np.float32],
    mean: NDArray[np.float32],
    upper: NDArray[np.float32],
) -> bool:
    """New limits from the sums; True if none has changed, so that further rounds would give the same."""
    settled = True
    for lane in range(LANES):
        number = rings[lane]
        if number == NO_RING:
            continue
        n = int(state[N + lane])
        average, above, below = clip_limits(state[TOTAL + lane], state[TOTAL_SQ + lane], n, clip)
        settled &= (above == state[UPPER + lane]) & (below == state[LOWER + lane])
        mean[number], upper[number] = average, above
        state[UPPER + lane], state[LOWER + lane] = above, below
    return settled


@jit
def _collect(
    buffer: NDArray[np.float32],
    begin: int,
    n_row: int,
    state: NDArray[np.float32],
    pixel_of: NDArray[np.int32],
    found: NDArray[np.int32],
    n_found: int,
) -> int:
    """Append the pixels above their ring's limit; the number found so far.

    Four rows are asked at once whether there is any; few rows are looked at one by one.
    """
    for row in range(0, n_row, 4):
        at = U(begin) + U(row) * ROW
        n_ahead = min(4, n_row - row)
        hit = np.uint32(n_ahead < 4)
        if n_ahead == 4:
            for lane in range(LANES):
                j = U(lane)
                upper = state[U(UPPER) + j]
                hit |= np.uint32(
                    (buffer[at + j] > upper)
                    | (buffer[at + ROW + j] > upper)
                    | (buffer[at + U(2) * ROW + j] > upper)
                    | (buffer[at + U(3) * ROW + j] > upper)
                )
        if hit:
            for slot in range(at, at + U(n_ahead) * ROW):
                if buffer[slot] > state[U(UPPER) + slot % ROW]:
                    if n_found < len(found):
                        found[n_found] = pixel_of[slot]
                    n_found += 1
    return n_found
