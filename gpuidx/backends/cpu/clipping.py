# SPDX-License-Identifier: GPL-3.0-or-later
"""The float32 arithmetic of one ring.

Every way to the statistics of a frame (`packed`, `lanes`, `sampled`) ends in `clip_limits`; all give
the same bits, those of CrystFEL 0.12 built for x86-64.  So the order of operations is part of the result:
no multiply-adds, no wider type in between (a bare ``0.0`` is float64 and would widen what it touches).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.rings import FIRST_LIMIT, ROUNDS
from gpuidx.backends.values import LARGEST, SMALLEST
from gpuidx.jit import jit

ZERO = np.float32(0)
FIRST_UPPER, FIRST_LOWER = np.float32(FIRST_LIMIT), np.float32(-FIRST_LIMIT)


class Clip(NamedTuple):
    """``--min-snr`` and ``--threshold`` as float32: what sets the limits of a ring."""

    min_snr: np.float32
    threshold: np.float32


@jit
def clip_limits(
    total: np.float32, total_sq: np.float32, n: int, clip: Clip
) -> tuple[np.float32, np.float32, np.float32]:
    """Mean of one ring and the limits for its next round.

    Parameters
    ----------
    total, total_sq
        Sums of the values and of their squares, as rounded by adding in the ring's order.
    n
        Number of values added.

    Returns
    -------
    mean, upper, lower
        A ring without values has mean 0 and limits that let in every positive value next time.  A
        negative variance (of rounding) is used as it is, without a root.
    """
    if n == 0:
        return ZERO, LARGEST, SMALLEST
    mean = total / np.float32(n)
    sigma = total_sq / np.float32(n) - mean * mean
    if sigma >= ZERO:
        sigma = np.sqrt(sigma)
    upper = mean + clip.min_snr * sigma
    lower = mean - clip.min_snr * sigma
    if upper < clip.threshold:
        upper = clip.threshold
    return mean, upper, lower


@jit
def clip_in_order(values: NDArray[np.float32], clip: Clip) -> tuple[np.float32, np.float32]:
    """Mean and upper limit of one ring, by adding its values one after the other; NaN do not count."""
    mean, upper, lower = ZERO, FIRST_UPPER, FIRST_LOWER
    for _ in range(ROUNDS):
        total, total_sq, n = ZERO, ZERO, 0
        for value in values:
            if value < upper and value > lower:
                total += value
                total_sq += value * value
                n += 1
        upper_before, lower_before = upper, lower
        mean, upper, lower = clip_limits(total, total_sq, n, clip)
        if upper == upper_before and lower == lower_before:
            break  # the same limits let in the same values: nothing changes any more
    return mean, upper
