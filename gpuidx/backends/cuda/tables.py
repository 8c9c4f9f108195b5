# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernels of the peak search look up: where each pixel goes, by detector position and mask.

Host arrays; nothing here needs a device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.rings import Rings
from gpuidx.backends.sample import EMPTY_SLOT, sample_rings
from gpuidx.jit import jit

UNUSED = -1
"""In place of a pixel's place: it is not used."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Lookup tables for frames with the same rings.

    A *position* counts pixels panel by panel, each along its rows.  A *place* counts usable pixels ring by
    ring, longest ring first, each ring in CrystFEL's order.

    Attributes
    ----------
    n_ring, n_place, n_position
        Rings, usable pixels, pixels of all panels.
    slab_width
        Pixels in a row of the slab.
    place_of : (pixel,) int32
        `UNUSED` for pixels that are not used.
    position_of : (place,) int32
    ring_of, ring_start : (ring,), (ring + 1,) int32
        Numbers of the rings, longest first, and the first place of each.
    sample_start, sample : (ring + 1,), (n,) int32
        Places whose pixels are averaged with ``--peakfinder8-fast``, ring by ring; else one element.
    ring : (pixel,) uint16
    panel_start : (panel,) int32
        First position of each panel.
    rect : (panel, 4) int32
    placement : (panel, 6) float64
        These three as in `Rings`.
    """

    n_ring: int
    n_place: int
    n_position: int
    slab_width: int
    place_of: NDArray[np.int32]
    position_of: NDArray[np.int32]
    ring_of: NDArray[np.int32]
    ring_start: NDArray[np.int32]
    sample_start: NDArray[np.int32]
    sample: NDArray[np.int32]
    ring: NDArray[np.uint16]
    panel_start: NDArray[np.int32]
    rect: NDArray[np.int32]
    placement: NDArray[np.float64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Those that go to the device, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}


def make_tables(rings: Rings, *, sampled: bool) -> Tables:
    """Tables for the rings of one detector position and mask; *sampled* for ``--peakfinder8-fast``."""
    ring_of = np.argsort(-rings.count, kind="stable").astype(np.int32)
    ring_start = _starts(rings.count[ring_of])
    panel_start = _starts(rings.rect[:, 2] * rings.rect[:, 3])
    place_of = np.full(len(rings.ring), UNUSED, np.int32)
    position_of = np.empty(len(rings.members), np.int32)
    _fill_places(
        rings.members, rings.start, ring_of, rings.panel_of, rings.rect, rings.shape[1], panel_start,
        place_of, position_of,
    )  # fmt: skip
    sample_start, sample = np.zeros(1, np.int32), np.zeros(1, np.int32)
    if sampled:
        pixels = sample_rings(rings)[ring_of]
        sample_start = _starts((pixels != EMPTY_SLOT).sum(axis=1))
        sample = place_of[pixels[pixels != EMPTY_SLOT]]
    return Tables(
        n_ring=rings.n_ring,
        n_place=len(position_of),
        n_position=int(panel_start[-1]),
        slab_width=rings.shape[1],
        place_of=place_of,
        position_of=position_of,
        ring_of=ring_of,
        ring_start=ring_start,
        sample_start=sample_start,
        sample=np.append(sample, 0).astype(np.int32),  # never empty
        ring=rings.ring,
        panel_start=panel_start[:-1],
        rect=rings.rect,
        placement=rings.placement,
    )


def _starts(count: NDArray[Any]) -> NDArray[np.int32]:
    """Where each run of *count* begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(count)]).astype(np.int32)


@jit
def _fill_places(
    members: NDArray[np.int32],
    start: NDArray[np.int32],
    ring_of: NDArray[np.int32],
    panel_of: NDArray[np.uint16],
    rect: NDArray[np.int32],
    width: int,
    panel_start: NDArray[np.int32],
    place_of: NDArray[np.int32],
    position_of: NDArray[np.int32],
) -> None:
    """Count the pixels ring by ring; *place_of* and *position_of* are written.

    A detector that moves from frame to frame has to wait for this.
    """
    place = 0
    for ring in ring_of:
        for k in range(start[ring], start[ring + 1]):
            pixel = members[k]
            panel = panel_of[pixel]
            fs, ss = pixel % width - rect[panel, 0], pixel // width - rect[panel, 1]
            place_of[pixel] = place
            position_of[place] = panel_start[panel] + ss * rect[panel, 2] + fs
            place += 1
