# SPDX-License-Identifier: GPL-3.0-or-later
"""The slab in tiles of 64 neighbouring pixels: what is known of a tile before any value is seen.

A tile is the unit that is asked "can there be anything of interest?" with one vectorised comparison.
Its pixels lie in few rings, mostly fewer than 64; so a limit that holds for all of them is the extreme
over a window of 64 rings, made once a frame for every possible first ring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.rings import MASKED, Rings
from gpuidx.jit import jit

TILE = 64
"""Pixels of a tile; one cache line of bytes, 16 vectors of four 32-bit numbers."""
ALL_GOOD, MIXED, EMPTY = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Tiles:
    """What each tile holds.

    Attributes
    ----------
    kind : (tile,) uint8
        `ALL_GOOD`: 64 usable pixels; `EMPTY`: none; else `MIXED` (the last tile, too, if it is short).
    first_ring, last_ring : (tile,) uint16
        Range of rings of the usable pixels; `MASKED` and 0 if there are none.
    """

    kind: NDArray[np.uint8]
    first_ring: NDArray[np.uint16]
    last_ring: NDArray[np.uint16]


def make_tiles(rings: Rings) -> Tiles:
    """Look at every tile of the slab."""
    n_tile = -(-len(rings.ring) // TILE)
    tiles = Tiles(np.empty(n_tile, np.uint8), np.empty(n_tile, np.uint16), np.empty(n_tile, np.uint16))
    _fill_tiles(rings.ring, tiles.kind, tiles.first_ring, tiles.last_ring)
    return tiles


@jit
def _fill_tiles(
    ring: NDArray[np.uint16],
    kind: NDArray[np.uint8],
    first_ring: NDArray[np.uint16],
    last_ring: NDArray[np.uint16],
) -> None:
    for tile in range(len(kind)):
        good, first, last = 0, np.uint16(MASKED), np.uint16(0)
        for number in ring[tile * TILE : (tile + 1) * TILE]:
            if number != MASKED:
                good += 1
                first = min(first, number)
                last = max(last, number)
        kind[tile] = ALL_GOOD if good == TILE else (EMPTY if good == 0 else MIXED)
        first_ring[tile], last_ring[tile] = first, last


@jit
def lowest_ahead(values: NDArray[np.float32], lowest: NDArray[np.float32]) -> None:
    """For every ring the least value of the `TILE` rings from it on; float32, (ring,)."""
    n_ring = len(values)
    for number in range(n_ring):
        least = values[number]
        for ahead in range(number + 1, min(number + TILE, n_ring)):
            least = min(least, values[ahead])
        lowest[number] = least
