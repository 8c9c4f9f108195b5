# SPDX-License-Identifier: GPL-3.0-or-later
"""The pixels that ``--peakfinder8-fast`` averages, the same on every backend.

CrystFEL draws at most 100 pixels per ring by reservoir sampling (Vitter 1985, algorithm R) with the C
library's `rand`, never seeded.  The sample, and with it the peaks, depends on that generator; so glibc's is
rebuilt here.  CrystFEL draws once per worker if nothing in the geometry comes from headers, which
is followed here; else it draws anew for each frame, which would make results depend on the order of frames.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.rings import MASKED, SAMPLE, Rings, radius_of
from gpuidx.jit import jit

LONG_LAG, SHORT_LAG = 31, 3
"""glibc's `rand` adds the numbers it gave 31 and 3 calls ago."""
WARM_UP = 310
"""Numbers that glibc throws away at the start."""
EMPTY_SLOT = -1
"""In place of a pixel."""


def sample_rings(rings: Rings) -> NDArray[np.int32]:
    """The sampled pixels of each ring in the order in which CrystFEL adds them.

    Masked pixels are drawn too, as in CrystFEL, and leave their places empty.

    Returns
    -------
    sample : (ring, SAMPLE) int32
        Pixels; `EMPTY_SLOT` where there is none.
    """
    sample = np.full((rings.n_ring, SAMPLE), EMPTY_SLOT, np.int32)
    _draw(
        rings.rect, rings.placement, rings.shape[1], _first_state(), np.zeros(rings.n_ring, np.int64), sample
    )
    _order(sample, rings.ring, rings.panel_of)
    return sample


def _first_state() -> NDArray[np.uint32]:
    """What glibc begins with: Park and Miller's generator from 1 fills the lags, oldest first; (31,)."""
    state = [1]
    for _ in range(LONG_LAG - 1):
        state.append(16807 * state[-1] % 2147483647)
    return np.array(state, np.uint32)


@jit
def _next_random(state: NDArray[np.uint32], calls: int) -> np.uint32:
    """The next number before its lowest bit is dropped; *calls* counts from 0."""
    at = (calls + SHORT_LAG) % LONG_LAG  # holds the number of 31 calls ago
    state[at] += state[calls % LONG_LAG]
    return np.uint32(state[at])


@jit
def _draw(
    rect: NDArray[np.int32],
    placement: NDArray[np.float64],
    width: int,
    state: NDArray[np.uint32],
    seen: NDArray[np.int64],
    sample: NDArray[np.int32],
) -> None:
    """Reservoir sampling of every ring over all pixels of all panels, in CrystFEL's order."""
    calls = 0
    while calls < WARM_UP:
        _next_random(state, calls)
        calls += 1
    for panel in range(len(rect)):
        x0, y0, n_fs, n_ss = rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]
        for ss in range(n_ss):
            for fs in range(n_fs):
                number = int(np.rint(radius_of(placement, panel, fs, ss)))
                slot = seen[number]
                seen[number] += 1
                if slot >= SAMPLE:
                    slot = np.int64(_next_random(state, calls) >> np.uint32(1)) % seen[number]
                    calls += 1
                if slot < SAMPLE:
                    sample[number, slot] = (y0 + ss) * width + x0 + fs


@jit
def _order(sample: NDArray[np.int32], ring: NDArray[np.uint16], panel_of: NDArray[np.uint16]) -> None:
    """Drop what is masked and sort each ring by panel; within a panel the places drawn keep their order."""
    for number in range(len(sample)):
        drawn = sample[number].copy()
        sample[number] = EMPTY_SLOT
        n = 0
        for pixel in drawn:
            if pixel == EMPTY_SLOT or ring[pixel] == MASKED:
                continue
            at = n
            while at > 0 and panel_of[sample[number, at - 1]] > panel_of[pixel]:
                sample[number, at] = sample[number, at - 1]
                at -= 1
            sample[number, at] = pixel
            n += 1
