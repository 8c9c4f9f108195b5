# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds of peakfinder8 on whole-number sums: limits of a ring without looking at its pixels again.

Works for rings whose pixels are whole numbers, none negative.  What is known of a ring: its sums, and a
list of all its pixels beyond a guess of limits.  See `packed` for where they come from.

Exactness.  A float32 sum of whole numbers is exact, in any order, while it stays below 2²⁴.  Strong spots
push the sum of squares beyond in the first rounds.  It is then known within n·2⁻²⁴ only, but the formula of
the limits is monotone: two evaluations bound the limits, and if no pixel lies between, the set of
pixels of the next round is certain.  The last round must be exact.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.clipping import FIRST_LOWER, FIRST_UPPER, ZERO, Clip, clip_limits
from gpuidx.backends.rings import ROUNDS
from gpuidx.jit import jit

WORD_VALUES = 256
"""Values 0 to 255 are summed by `packed`; all others are always listed."""
EXACT = 2**24
"""Whole numbers below this, and sums of them, are exact in float32."""
ROUNDING = 6.1e-8
"""Relative error of a float32 sum per number added: 2⁻²⁴ and a little."""
LARGEST_SQUARED = 2**23
"""Values below this have squares whose sums over a ring of 2¹⁶ pixels fit 63 bits."""
NEIGHBOURS = 4
"""Rings on either side whose least mean and spread make the guess: no spot covers all nine."""
GUESS = 0.8
"""Share of the expected distance from mean to limit at which pixels are listed."""
SPARSE = 0.05
"""Photons per pixel below which every pixel that is not zero is listed."""
LIST_ALL = 1
"""The upper guess of such a ring: what is not listed is zero."""
UNKNOWN = 1e30


class Totals(NamedTuple):
    """Of each ring: number of pixels, sum of their values, sum of squares; (ring,)."""

    n: NDArray[np.int32]
    total: NDArray[np.int64]
    total_sq: NDArray[np.int64]

    @classmethod
    def of(cls, n_ring: int) -> "Totals":
        """Room for that many rings."""
        return cls(np.empty(n_ring, np.int32), np.empty(n_ring, np.int64), np.empty(n_ring, np.int64))


class Guess(NamedTuple):
    """Of each ring: values from *upper* on and down from *lower* are listed; (ring,)."""

    upper: NDArray[np.int16]
    lower: NDArray[np.int16]

    @classmethod
    def of(cls, n_ring: int) -> "Guess":
        """Room for that many rings."""
        return cls(np.empty(n_ring, np.int16), np.empty(n_ring, np.int16))


class Listed(NamedTuple):
    """Pixels and their values, chained by ring: *first* of each ring, then *after*, -1 at the end."""

    pixel: NDArray[np.int32]
    value: NDArray[np.int64]
    after: NDArray[np.int32]
    first: NDArray[np.int32]

    @classmethod
    def with_room(cls, n_listed: int, n_ring: int) -> "Listed":
        """Room for that many pixels; memory is taken up only as it is used."""
        return cls(
            np.empty(n_listed, np.int32), np.empty(n_listed, np.int64), np.empty(n_listed, np.int32),
            np.empty(n_ring, np.int32),
        )  # fmt: skip


@jit
def chain(listed: Listed, entry: int, number: int) -> None:
    """Put an entry before the others of its ring."""
    listed.after[entry] = listed.first[number]
    listed.first[number] = entry


@jit
def total_up(
    words: NDArray[np.uint64],
    ring: NDArray[np.uint16],
    listed: Listed,
    n_wide: int,
    totals: Totals,
    in_order: NDArray[np.bool_],
) -> None:
    """Unpack the sums, add the wide pixels, and begin the chains with these.

    Parameters
    ----------
    words : (2, ring)
        Sum of values in the low half, of squares in the high half.
    in_order : (ring,)
        Written: True for rings that do not suit, because of negative or huge values.
    """
    low_half, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for number in range(len(totals.n)):
        word = words[0, number] + words[1, number]
        totals.total[number] = np.int64(word & low_half)
        totals.total_sq[number] = np.int64(word >> half)
    in_order[:] = False
    listed.first[:] = -1
    for entry in range(n_wide):
        number, value = ring[listed.pixel[entry]], listed.value[entry]
        chain(listed, entry, number)
        if 0 <= value < LARGEST_SQUARED:
            totals.total[number] += value
            totals.total_sq[number] += value * value
        else:
            in_order[number] = True


@jit
def guess_limits(totals: Totals, clip: Clip, guess: Guess) -> int:
    """Guess limits that the rounds stay beyond; the number of pixels in rings where that cannot help.

    The guess is the least mean of the nearest rings with a part of their least spread (a Poisson
    spread at most), so a spot does not lift it.  A wrong guess costs time, never truth.  It cannot help
    where the background itself, not a few spots, brings the sum of squares over `EXACT`.
    """
    n_ring = len(totals.n)
    mean, spread = np.full(n_ring + 2 * NEIGHBOURS, UNKNOWN), np.full(n_ring + 2 * NEIGHBOURS, UNKNOWN)
    n_broad = 0
    for number in range(n_ring):
        n = totals.n[number]
        if n > 0:
            m = totals.total[number] / n
            mean[number + NEIGHBOURS] = m
            spread[number + NEIGHBOURS] = np.sqrt(max(totals.total_sq[number] / n - m * m, 0.0))
            if totals.total_sq[number] >= EXACT and m * m * n > 0.5 * totals.total_sq[number]:
                n_broad += n
    for number in range(n_ring):
        least_mean = np.min(mean[number : number + 2 * NEIGHBOURS + 1])
        least_spread = min(
            np.min(spread[number : number + 2 * NEIGHBOURS + 1]), np.sqrt(max(least_mean, 0.0))
        )
        guess.upper[number], guess.lower[number] = WORD_VALUES, -1
        if totals.n[number] == 0:
            continue
        if least_mean < SPARSE:
            guess.upper[number] = LIST_ALL
            continue
        reach = GUESS * np.float64(clip.min_snr) * least_spread
        upper = np.ceil(max(least_mean + reach, np.float64(clip.threshold)))
        if upper < WORD_VALUES:
            guess.upper[number] = upper
        if least_mean > reach:
            guess.lower[number] = min(np.floor(least_mean - reach), WORD_VALUES - 1)
    return n_broad


@jit
def clip_rings(
    totals: Totals,
    guess: Guess,
    listed: Listed,
    clip: Clip,
    in_order: NDArray[np.bool_],
    mean: NDArray[np.float32],
    upper: NDArray[np.float32],
) -> None:
    """All rounds of all rings: mean and upper limit, or *in_order* set where sums do not tell; (ring,)."""
    for number in range(len(totals.n)):
        if not in_order[number]:
            sure, mean[number], upper[number] = _clip_ring(number, totals, guess, listed, clip)
            in_order[number] = not sure


@jit
def _clip_ring(
    number: int, totals: Totals, guess: Guess, listed: Listed, clip: Clip
) -> tuple[bool, np.float32, np.float32]:
    """Rounds of one ring: whether the sums tell, mean, upper limit.

    The true limits lie between (upper_a, lower_a), which let in less, and (upper_b, lower_b).
    """
    all_listed = guess.upper[number] <= LIST_ALL
    mean, upper_a, upper_b, lower_a, lower_b = ZERO, FIRST_UPPER, FIRST_UPPER, FIRST_LOWER, FIRST_LOWER
    for round_ in range(ROUNDS):
        sure, n, total, total_sq = _within(
            number, totals, listed, all_listed, upper_a, upper_b, lower_a, lower_b
        )
        if not sure or total >= EXACT:
            return False, mean, upper_a
        upper_before, lower_before = upper_a, lower_a
        exact = total_sq < EXACT
        if exact:
            mean, upper_a, lower_a = clip_limits(np.float32(total), np.float32(total_sq), n, clip)
            upper_b, lower_b = upper_a, lower_a
        else:
            error = n * ROUNDING
            least, most = total_sq * (1 - error), total_sq * (1 + error)
            average = total / n
            if round_ == ROUNDS - 1 or not least / n > 1.0001 * average * average:
                return False, mean, upper_a  # near zero variance the formula is not monotone
            least32 = np.nextafter(np.float32(least), ZERO)
            most32 = np.nextafter(np.float32(most), np.float32(np.inf))
            mean, upper_a, lower_a = clip_limits(np.float32(total), least32, n, clip)
            mean, upper_b, lower_b = clip_limits(np.float32(total), most32, n, clip)
        if not all_listed and totals.n[number] > 0:
            # what is not listed must be inside; after an empty round the lower limit leaves zeros out
            inside = upper_a > guess.upper[number] - 1 and lower_a < guess.lower[number] + 1
            if not inside:
                return False, mean, upper_a
        if exact and upper_a == upper_before and lower_a == lower_before:
            break  # the same limits let in the same pixels: nothing changes any more
    return True, mean, upper_a


@jit
def _within(
    number: int,
    totals: Totals,
    listed: Listed,
    all_listed: bool,
    upper_a: np.float32,
    upper_b: np.float32,
    lower_a: np.float32,
    lower_b: np.float32,
) -> tuple[bool, int, int, int]:
    """Take the listed pixels beyond the limits off: whether that is certain, n, total, total of squares."""
    n, total, total_sq = int(totals.n[number]), int(totals.total[number]), int(totals.total_sq[number])
    zeros = n
    entry = listed.first[number]
    while entry >= 0:
        value = listed.value[entry]
        value32 = np.float32(value)
        inside = value32 < upper_a and value32 > lower_a
        if inside != (value32 < upper_b and value32 > lower_b):
            return False, n, total, total_sq
        if not inside:
            n -= 1
            total -= value
            total_sq -= value * value
        zeros -= 1
        entry = listed.after[entry]
    if all_listed:
        inside = upper_a > ZERO and lower_a < ZERO
        if inside != (upper_b > ZERO and lower_b < ZERO):
            return False, n, total, total_sq
        if not inside:
            n -= zeros  # an empty ring ends with a lower limit just above 0
    return True, n, total, total_sq
