# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each pixel goes when 16 rings are laid side by side.

Rings of one group fill at different speeds.  After every 64 rows of the image (a *band*) they start level
again, so that what is written during a band is a compact piece of memory: without it the scatter takes
three times as long at 16 megapixels.  The gaps cost 8 to 10 % of the buffer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.rings import MASKED, Rings
from gpuidx.jit import jit

LANES = 16
"""Rings side by side: 64 bytes, one cache line."""
BAND = 64
"""Rows of the image after which the rings of a group start level."""
NO_RING = -1


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each pixel goes.

    Attributes
    ----------
    ring_of : (group, lane) int32
        Ring of each column; `NO_RING` for those that the last group lacks.
    first : (group + 1,) int64
        First slot of each group, and the end; a group has whole rows of `LANES` slots.
    slot_of : (pixel,) uint32
        Slot of each pixel; the one after the last for pixels that are not used.
    pixel_of : (slot,) int32
        The inverse; nothing sensible in gaps.
    """

    ring_of: NDArray[np.int32]
    first: NDArray[np.int64]
    slot_of: NDArray[np.uint32]
    pixel_of: NDArray[np.int32]


def make_layout(rings: Rings) -> Layout:
    """Give every usable pixel its slot."""
    used = np.flatnonzero(rings.count)
    n_group = -(-len(used) // LANES)
    ring_of = np.full((n_group, LANES), NO_RING, np.int32)
    ring_of.reshape(-1)[: len(used)] = used
    lane_of = np.full(rings.n_ring, NO_RING, np.int32)
    lane_of[used] = np.arange(len(used))
    n_band = int(rings.rect[:, 3].sum()) // BAND + 1
    depth = _band_depths(
        rings.ring, rings.rect, rings.shape[1], lane_of, np.zeros((n_group, n_band), np.int32)
    )
    rows = np.concatenate([[0], np.cumsum(depth.astype(np.int64))])  # group by group, band by band
    first = rows[::n_band] * LANES
    band_slot = rows[:-1].reshape(n_group, n_band) * LANES
    slot_of = np.full(len(rings.ring), first[-1], np.uint32)
    pixel_of = np.empty(int(first[-1]), np.int32)
    _assign(rings.ring, rings.rect, rings.shape[1], lane_of, band_slot, slot_of, pixel_of)
    return Layout(ring_of, first, slot_of, pixel_of)


@jit
def _band_depths(
    ring: NDArray[np.uint16],
    rect: NDArray[np.int32],
    width: int,
    lane_of: NDArray[np.int32],
    depth: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Pixels of the fullest ring of each group in each band, into *depth*; (group, band)."""
    n_group = len(depth)
    count = np.zeros(n_group * LANES, np.int32)
    row = 0
    for panel in range(len(rect)):
        x0, y0, n_fs, n_ss = rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]
        for ss in range(n_ss):
            first = (y0 + ss) * width + x0
            for number in ring[first : first + n_fs]:
                if number != MASKED:
                    count[lane_of[number]] += 1
            row += 1
            last_row = panel == len(rect) - 1 and ss == n_ss - 1
            if row % BAND == 0 or last_row:
                band = (row - 1) // BAND
                for group in range(n_group):
                    depth[group, band] = np.max(count[group * LANES : (group + 1) * LANES])
                count[:] = 0
    return depth


@jit
def _assign(
    ring: NDArray[np.uint16],
    rect: NDArray[np.int32],
    width: int,
    lane_of: NDArray[np.int32],
    band_slot: NDArray[np.int64],
    slot_of: NDArray[np.uint32],
    pixel_of: NDArray[np.int32],
) -> None:
    """Number the slots; *band_slot* (group, band) is where each piece begins."""
    n_group = len(band_slot)
    next_slot = np.zeros(n_group * LANES, np.int64)
    row = 0
    for panel in range(len(rect)):
        x0, y0, n_fs, n_ss = rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]
        for ss in range(n_ss):
            if row % BAND == 0:
                for lane in range(n_group * LANES):
                    next_slot[lane] = band_slot[lane // LANES, row // BAND] + lane % LANES
            row += 1
            first = (y0 + ss) * width + x0
            for pixel in range(first, first + n_fs):
                number = ring[pixel]
                if number != MASKED:
                    lane = lane_of[number]
                    slot_of[pixel] = next_slot[lane]
                    pixel_of[next_slot[lane]] = pixel
                    next_slot[lane] += LANES
