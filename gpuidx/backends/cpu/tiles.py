# SPDX-License-Identifier: GPL-3.0-or-later
"""The slab in tiles of 64 neighbouring pixels: what is known of a tile before any value is seen.

A tile is the unit that is asked "can there be anything of interest?" with one vectorised comparison, against
the extreme of the limits of all rings that it touches.  These are neighbouring numbers, so the extreme comes
from a table of ranges: of all 1, 2, 4, ... rings from each ring on.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.rings import MASKED, Rings
from gpuidx.jit import jit

TILE = 64
"""Pixels of a tile: short enough to lie in few rings, long enough for whole vectors."""
ALL_GOOD, MIXED, EMPTY = 0, 1, 2

U = np.uint64


class Tiles(NamedTuple):
    """What each tile holds; (tile,).

    Attributes
    ----------
    kind
        `ALL_GOOD`: 64 usable pixels; `EMPTY`: none; else `MIXED` (the last tile, too, if it is short).
    first_ring, last_ring
        Range of rings of the usable pixels, 0 and 0 if there are none.
    level
        Of the largest power of two in that range.
    """

    kind: NDArray[np.uint8]
    first_ring: NDArray[np.uint16]
    last_ring: NDArray[np.uint16]
    level: NDArray[np.uint8]


def make_tiles(rings: Rings) -> Tiles:
    """Look at every tile of the slab."""
    n_tile = -(-len(rings.ring) // TILE)
    tiles = Tiles(
        np.zeros(n_tile, np.uint8), np.zeros(n_tile, np.uint16), np.zeros(n_tile, np.uint16),
        np.zeros(n_tile, np.uint8),
    )  # fmt: skip
    _fill_tiles(rings.ring, tiles)
    return tiles


@jit
def _fill_tiles(ring: NDArray[np.uint16], tiles: Tiles) -> None:
    for tile in range(len(tiles.kind)):
        good, first, last = 0, np.uint16(MASKED), np.uint16(0)
        for number in ring[tile * TILE : (tile + 1) * TILE]:
            if number != MASKED:
                good += 1
                first = min(first, number)
                last = max(last, number)
        if good == 0:
            tiles.kind[tile] = EMPTY
            continue
        tiles.kind[tile] = ALL_GOOD if good == TILE else MIXED
        tiles.first_ring[tile], tiles.last_ring[tile] = first, last
        while 2 << tiles.level[tile] <= last - first + 1:
            tiles.level[tile] += 1


@jit
def range_table(values: NDArray[Any]) -> NDArray[Any]:
    """Least value of 2**level neighbouring rings from each ring on; (level, ring)."""
    n_ring = len(values)
    n_level = 1
    while 1 << n_level <= n_ring:
        n_level += 1
    table = np.empty((n_level, n_ring), values.dtype)
    table[0] = values
    for level in range(1, n_level):
        half = 1 << (level - 1)
        for number in range(n_ring):
            ahead = min(number + half, n_ring - 1)
            table[level, number] = min(table[level - 1, number], table[level - 1, ahead])
    return table


@jit
def least_of_tile(table: NDArray[Any], tiles: Tiles, tile: np.uint64) -> Any:
    """Least value of all rings of a tile: that of two overlapping ranges."""
    level, first, last = U(tiles.level[tile]), U(tiles.first_ring[tile]), U(tiles.last_ring[tile])
    return min(table[level, first], table[level, last + U(1) - (U(1) << level)])
