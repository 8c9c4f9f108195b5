# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics from a sample of each ring's pixels: ``--peakfinder8-fast``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.clipping import Clip, clip_in_order
from gpuidx.backends.cpu.tiles import EMPTY, TILE, Tiles, least_of_tile, make_tiles, range_table
from gpuidx.backends.rings import MASKED, SAMPLE, Rings
from gpuidx.backends.sample import EMPTY_SLOT, sample_rings
from gpuidx.backends.values import Rules, value_of
from gpuidx.jit import jit

U = np.uint64


class SampledSums:
    """Radial statistics of a sample, and all candidate pixels of frames.

    Attributes
    ----------
    mean, upper : (ring,) float32
        Of the last frame: mean of each ring's sample and the limit above which a pixel is a candidate, ADU.
    """

    def __init__(self, rings: Rings, rules: Rules, clip: Clip) -> None:
        self.rings, self.rules, self.clip = rings, rules, clip
        self.tiles = make_tiles(rings)
        self.sample = sample_rings(rings)
        self.mean, self.upper = np.empty(rings.n_ring, np.float32), np.empty(rings.n_ring, np.float32)
        self.found = np.empty(1 << 16, np.int32)

    def candidates(self, image: NDArray[Any]) -> NDArray[np.int32]:
        """Pixels above their ring's limit, along the slab.

        Parameters
        ----------
        image : (pixel,)
            The slab.
        """
        _clip_sample(image, self.sample, self.rules, self.clip, self.mean, self.upper)
        while True:
            n = _find_above(image, self.rings.ring, self.tiles, self.upper, self.rules, self.found)
            if n <= len(self.found):
                return self.found[:n].copy()
            self.found = np.empty(2 * n, np.int32)


@jit
def _clip_sample(
    image: NDArray[Any],
    sample: NDArray[np.int32],
    rules: Rules,
    clip: Clip,
    mean: NDArray[np.float32],
    upper: NDArray[np.float32],
) -> None:
    """Mean and upper limit of every ring from its sample."""
    values = np.empty(SAMPLE, np.float32)
    for number in range(len(sample)):
        n = 0
        for pixel in sample[number]:
            if pixel == EMPTY_SLOT:
                break
            values[n] = value_of(image, pixel, rules)
            n += 1
        mean[number], upper[number] = clip_in_order(values[:n], clip)


@jit
def _find_above(
    image: NDArray[Any],
    ring: NDArray[np.uint16],
    tiles: Tiles,
    upper: NDArray[np.float32],
    rules: Rules,
    found: NDArray[np.int32],
) -> int:
    """Usable pixels above their ring's limit into *found*: their number, even if it is too short."""
    uppers = range_table(upper)
    n_found = 0
    for tile_ in range(len(tiles.kind)):
        tile = U(tile_)
        if tiles.kind[tile] == EMPTY:
            continue
        first, end = tile * U(TILE), min(U(len(image)), (tile + U(1)) * U(TILE))
        if not _any_above(image, first, end, least_of_tile(uppers, tiles, tile)):
            continue
        for pixel in range(first, end):
            number = ring[pixel]
            if number != MASKED and value_of(image, pixel, rules) > upper[number]:
                if n_found < len(found):
                    found[n_found] = pixel
                n_found += 1
    return n_found


@jit
def _any_above(image: NDArray[Any], first: np.uint64, end: np.uint64, limit: np.float32) -> bool:
    above = np.uint32(0)
    for pixel in range(first, end):
        above |= np.uint32(np.float32(image[pixel]) > limit)
    return bool(above)
