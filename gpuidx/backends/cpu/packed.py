# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics of photon counts: one pass over the pixels, then rounds on whole numbers.

CrystFEL adds float32 numbers in a fixed order, five times over all pixels.  As long as the sum of squares
of a ring stays below 2²⁴ all its float32 sums are exact, whatever the order; so the sums may be made in
whole numbers, once, and each round only takes off the few pixels that lie beyond its limits:

1. One pass adds value and square to one 64-bit word per ring and notes each tile's least and greatest value.
2. Per ring a guess of limits that all rounds will stay beyond (`integer_rounds`).
3. Tiles whose extremes pass the guess are looked at again: their pixels beyond it are the *outliers*.
4. Rounds on the sums; a wrong guess or an inexact sum is noticed, and that ring is added up in order instead.

Data that do not suit (wide values, negative values, many photons) are left to `lanes`: `candidates` says so
by None, after 0.5 to 4 ms at 4.5 megapixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.clipping import Clip, clip_in_order
from gpuidx.backends.cpu.integer_rounds import (
    WORD_VALUES,
    Guess,
    Listed,
    Totals,
    chain,
    clip_rings,
    guess_limits,
    total_up,
)
from gpuidx.backends.cpu.tiles import ALL_GOOD, EMPTY, TILE, Tiles, least_of_tile, make_tiles, range_table
from gpuidx.backends.rings import MASKED, Rings
from gpuidx.backends.values import LARGEST, Rules, drop_bad, value_of
from gpuidx.jit import jit

WIDE_SHARE = 64
"""Give up if more than one in so many pixels is negative or 256 and more."""
LISTED_SHARE = 8
"""Give up if more than one in so many pixels is listed: then a pass over all of them is cheaper."""
BROAD_SHARE = 8
"""Give up if more than one in so many pixels is in a ring whose background is too bright."""
REDONE_SHARE = 5
"""Give up if more than one in so many pixels is in a ring that must be added up in order."""
SMALL = 4096
"""Slabs so small that shares mean nothing: that many pixels may always be listed."""

U = np.uint64  # possibly negative indices cost a test each and stop the vectoriser
HALF = U(32)


class PackedSums:
    """Radial statistics and candidate pixels of frames of photon counts.

    Attributes
    ----------
    mean, upper : (ring,) float32
        Of the last frame: mean of each ring and the limit above which a pixel is a candidate, ADU.
    n_redone
        Pixels of the last frame that were added up in order.
    """

    def __init__(self, rings: Rings, rules: Rules, clip: Clip) -> None:
        n_pixel, n_ring = len(rings.ring), rings.n_ring
        self.rings, self.rules, self.clip = rings, rules, clip
        self.tiles = make_tiles(rings)
        n_tile = len(self.tiles.kind)
        self.low, self.high = np.empty(n_tile, np.int16), np.empty(n_tile, np.int16)
        self.words = np.empty((2, n_ring), np.uint64)
        self.most_wide = max(n_pixel // WIDE_SHARE, SMALL)
        self.listed = Listed.with_room(max(n_pixel // LISTED_SHARE, self.most_wide), n_ring)
        self.totals = Totals.of(n_ring)
        self.guess = Guess.of(n_ring)
        self.in_order = np.empty(n_ring, np.bool_)
        self.mean, self.upper = np.empty(n_ring, np.float32), np.empty(n_ring, np.float32)
        self.n_redone = 0

    def suits(self) -> bool:
        """Whether sums fit their words, and no rule makes a value bad that the pass adds unseen."""
        fits = int(self.rings.count.max(initial=0)) * WORD_VALUES**2 < 2**32
        below, above, equal = self.rules
        harmless = below <= 0 and above >= WORD_VALUES - 1 and not 0 <= equal < WORD_VALUES
        return bool(fits and harmless and self.clip.min_snr >= 0)

    def candidates(self, image: NDArray[Any]) -> NDArray[np.int32] | None:
        """Pixels above their ring's limit, along the slab; None if these data do not suit.

        Parameters
        ----------
        image : (pixel,)
            The slab, whole numbers.
        """
        rings, tiles, listed = self.rings, self.tiles, self.listed
        self.words[:] = 0
        self.totals.n[:] = rings.count
        n_wide = _add_up(
            image, rings.ring, tiles.kind, self.rules, self.words, self.low, self.high, self.totals.n,
            listed, self.most_wide,
        )  # fmt: skip
        if n_wide < 0:
            return None
        total_up(self.words, rings.ring, listed, n_wide, self.totals, self.in_order)
        n_broad = guess_limits(self.totals, self.clip, self.guess)
        if n_broad > len(image) // BROAD_SHARE:
            return None
        n_listed = _list_outliers(image, rings.ring, tiles, self.low, self.high, self.guess, listed, n_wide)
        if n_listed < 0:
            return None
        clip_rings(self.totals, self.guess, listed, self.clip, self.in_order, self.mean, self.upper)
        redo = np.flatnonzero(self.in_order)
        self.n_redone = int(rings.count[redo].sum())
        if self.n_redone > max(len(image) // REDONE_SHARE, SMALL):
            return None
        return self._pick(image, redo, n_listed)

    def _pick(self, image: NDArray[Any], redo: NDArray[np.intp], n_listed: int) -> NDArray[np.int32]:
        """The listed pixels above their limits, and those of the rings added up in order."""
        self.upper[redo] = LARGEST  # what is listed of these rings is found again below
        pixel = self.listed.pixel[:n_listed]
        found = [pixel[_above(self.listed, n_listed, self.rings.ring, self.upper)]]
        for number in redo:
            members = self.rings.members[self.rings.start[number] : self.rings.start[number + 1]]
            values = image[members].astype(np.float32)
            drop_bad(values, self.rules)
            self.mean[number], self.upper[number] = clip_in_order(values, self.clip)
            found.append(members[values > self.upper[number]])
        return np.sort(np.concatenate(found))


@jit
def _add_up(
    image: NDArray[Any],
    ring: NDArray[np.uint16],
    kind: NDArray[np.uint8],
    rules: Rules,
    words: NDArray[np.uint64],
    low: NDArray[np.int16],
    high: NDArray[np.int16],
    n: NDArray[np.int32],
    listed: Listed,
    most_wide: int,
) -> int:
    """Step 1.  The number of wide pixels, which begin the list; -1 if there are too many.

    Tiles of usable pixels with values 0 to 255 are added at once; others go pixel by pixel.

    Parameters
    ----------
    words : (2, ring)
        Zeros; in: sum of values in the low half, of squares in the high half; two that take turns, so that
        the load for a pixel need not wait for the store of its neighbour, which is in the same ring.
    low, high : (tile,)
        Extremes of the tile's values from 0 to 255; 256 and -1 if there are none.
    n : (ring,)
        Usable pixels by the mask; those that are bad in this frame are taken off.
    """
    n_wide = 0
    for tile in range(len(kind)):
        low[tile], high[tile] = WORD_VALUES, -1
        if kind[tile] == EMPTY:
            continue
        first = U(tile) * U(TILE)
        if kind[tile] == ALL_GOOD:
            least, greatest = _extremes(image, first)
            if least >= 0 and greatest < WORD_VALUES:
                low[tile], high[tile] = least, greatest
                _add_tile(image, ring, first, words[0], words[1])
                continue
        n_wide = _add_mixed(
            image, ring, tile, first, rules, words[0], low, high, n, listed, n_wide, most_wide
        )
        if n_wide < 0:
            return -1
    return n_wide


@jit
def _extremes(image: NDArray[Any], first: np.uint64) -> tuple[Any, Any]:
    least = greatest = image[first]
    for j in range(TILE):
        value = image[first + U(j)]
        greatest = max(greatest, value)
        least = min(least, value)
    return least, greatest


@jit
def _add_tile(
    image: NDArray[Any],
    ring: NDArray[np.uint16],
    first: np.uint64,
    even: NDArray[np.uint64],
    odd: NDArray[np.uint64],
) -> None:
    for j in range(0, TILE, 2):
        pixel = first + U(j)
        value, neighbour = U(np.uint32(image[pixel])), U(np.uint32(image[pixel + U(1)]))
        even[ring[pixel]] += value * (U(1) + (value << HALF))
        odd[ring[pixel + U(1)]] += neighbour * (U(1) + (neighbour << HALF))


@jit
def _add_mixed(
    image: NDArray[Any],
    ring: NDArray[np.uint16],
    tile: int,
    first: np.uint64,
    rules: Rules,
    words: NDArray[np.uint64],
    low: NDArray[np.int16],
    high: NDArray[np.int16],
    n: NDArray[np.int32],
    listed: Listed,
    n_wide: int,
    most_wide: int,
) -> int:
    """One tile pixel by pixel; the number of wide pixels so far, -1 if there are too many."""
    least, greatest = np.int64(WORD_VALUES), np.int64(-1)
    for pixel in range(first, min(U(len(ring)), first + U(TILE))):
        number = ring[pixel]
        if number == MASKED:
            continue
        value = np.int64(image[pixel])
        if 0 <= value < WORD_VALUES:
            least, greatest = min(least, value), max(greatest, value)
            words[number] += U(value) * (U(1) + (U(value) << HALF))
        elif np.isnan(value_of(image, pixel, rules)):
            n[number] -= 1
        else:
            if n_wide == most_wide:
                return -1
            listed.pixel[n_wide], listed.value[n_wide] = pixel, value
            n_wide += 1
    low[tile], high[tile] = least, greatest
    return n_wide


@jit
def _list_outliers(
    image: NDArray[Any],
    ring: NDArray[np.uint16],
    tiles: Tiles,
    low: NDArray[np.int16],
    high: NDArray[np.int16],
    guess: Guess,
    listed: Listed,
    n_listed: int,
) -> int:
    """Step 3: list the pixels beyond the guessed limits of their rings; -1 if the list is full."""
    uppers, negative_lowers = range_table(guess.upper), range_table(-guess.lower)
    least_upper, greatest_lower = np.min(guess.upper), np.max(guess.lower)
    for tile_ in range(len(tiles.kind)):
        tile = U(tile_)
        # few tiles pass limits that hold for all rings; tiles without any value never do
        if high[tile] < least_upper and low[tile] > greatest_lower:
            continue
        if high[tile] < least_of_tile(uppers, tiles, tile) and -low[tile] < least_of_tile(
            negative_lowers, tiles, tile
        ):
            continue
        if n_listed + TILE > len(listed.pixel):
            return -1
        first = tile * U(TILE)
        for pixel in range(first, min(U(len(ring)), first + U(TILE))):
            number = ring[pixel]
            value = np.int64(image[pixel])
            if number == MASKED or value < 0 or value >= WORD_VALUES:
                continue
            if value >= guess.upper[number] or value <= guess.lower[number]:
                listed.pixel[n_listed], listed.value[n_listed] = pixel, value
                chain(listed, n_listed, number)
                n_listed += 1
    return n_listed


@jit
def _above(
    listed: Listed, n_listed: int, ring: NDArray[np.uint16], upper: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which listed pixels are above their ring's limit."""
    above = np.empty(n_listed, np.bool_)
    for entry in range(n_listed):
        above[entry] = np.float32(listed.value[entry]) > upper[ring[listed.pixel[entry]]]
    return above
