# SPDX-License-Identifier: GPL-3.0-or-later
"""What the peak search moves and computes, kernel by kernel, by its sources' own parameters; without CuPy.

Computed, not measured: bytes that a kernel must read and write if nothing but the pixels of one warp's loads
is found in a cache.  Few and scattered accesses count as a whole sector of memory each.
"""

import math
from dataclasses import dataclass
from functools import cache

from gpuidx.backends.cuda import sources
from gpuidx.backends.cuda.buffers import COUNTS, FIRST_PEAKS, filled
from gpuidx.backends.cuda.kernels import integer_defines
from gpuidx.backends.cuda.peakfinder8 import FILE, PEAK, lanes_for, n_word
from gpuidx.backends.rings import ROUNDS

SECTOR = 32
"""Bytes that device memory gives at least."""

SORT_STEPS = 14
CLIP_STEPS = 8
MARK_STEPS = 4
LIST_STEPS = 0.1
"""Instructions of a lane a pixel, from the source: to sort it; to average it, once a round (load, convert,
compare twice, multiply, add twice, count); to mark it if above the limit; to look at its bit."""

PANEL_BYTES, FRAME_BYTES = 9 * 8, 4 + 8 + 4
"""Sent for each panel and each frame besides the pixels: corner and steps; detector, wavelength, shift."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A batch of alike frames.

    Attributes
    ----------
    n_frame, n_pixel, itemsize
        Frames, pixels of the slab, bytes of a pixel.
    n_position, n_place
        Pixels in panels, and those of them that are used.
    n_ring, n_panel
        Rings and panels.
    n_sample
        Pixels that are averaged with ``--peakfinder8-fast``, of all rings; 0 without.
    n_candidate, n_peak
        Of each frame.
    local_bg_radius
        px.
    """

    n_frame: int
    n_pixel: int
    itemsize: int
    n_position: int
    n_place: int
    n_ring: int
    n_panel: int = 1
    n_sample: int = 0
    n_candidate: int = 0
    n_peak: int = 0
    local_bg_radius: int = 3

    @classmethod
    def square(cls, side: int, itemsize: int, n_frame: int, **more: int) -> "Work":
        """Frames of one square panel about the beam, *side* pixels wide, all of them used."""
        n_ring = math.ceil(math.hypot(side / 2, side / 2)) + 1
        n = side * side
        return cls(
            n_frame=n_frame, n_pixel=n, itemsize=itemsize, n_position=n, n_place=n, n_ring=n_ring, **more
        )

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame's pixels."""
        return self.n_pixel * self.itemsize


@dataclass(frozen=True)
class Traffic:
    """Of one kernel and the whole batch: bytes of device memory, and instructions summed over lanes."""

    read: float
    written: float
    operations: float = 0.0

    @property
    def moved(self) -> float:
        """Bytes read and written."""
        return self.read + self.written


@cache
def source_numbers() -> dict[str, int]:
    """The whole numbers that the kernels' source defines, such as TILE and AHEAD."""
    return integer_defines((sources.folder() / FILE).read_text())


def search_traffic(work: Work) -> dict[str, Traffic]:
    """What each kernel moves, by its name, in order; ``clear`` is the clearing of the map of candidates."""
    frames, lanes = work.n_frame, filled(work.n_frame)
    groups = lanes // lanes_for(frames)
    averaged = work.n_sample or work.n_place
    words = 4.0 * n_word(work.n_position)
    candidates, peaks = float(frames * work.n_candidate), float(frames * work.n_peak)
    rows = 4 * work.local_bg_radius
    sample_list = 4.0 * work.n_sample * ROUNDS * groups
    return {
        "clear": Traffic(0.0, words * frames + 4 * frames),
        "sort_by_ring": Traffic(
            frames * work.frame_bytes + 4.0 * work.n_pixel * groups,
            float(lanes * work.n_place * work.itemsize),
            SORT_STEPS * lanes * work.n_pixel,
        ),
        "clip_rings": Traffic(
            float(lanes * work.itemsize) * (ROUNDS * averaged + work.n_place)
            + sample_list + 12.0 * work.n_ring * groups + 2 * SECTOR * candidates,
            8.0 * work.n_ring * frames + SECTOR * candidates,
            lanes * (CLIP_STEPS * ROUNDS * averaged + MARK_STEPS * work.n_place),
        ),
        "list_candidates": Traffic(
            words * frames, 4 * candidates + 4 * frames, LIST_STEPS * frames * work.n_position
        ),
        # a candidate: place, three rows of bits, pixel, ring, mean; a peak: rows of pixels, rings, limits
        "grow_peaks": Traffic(7 * SECTOR * candidates + 6 * SECTOR * rows * peaks, SECTOR * candidates),
        "collect_peaks": Traffic(SECTOR * (candidates + peaks), PEAK.itemsize * peaks + 4 * frames),
        "order_by_strength": Traffic(SECTOR * peaks, SECTOR * peaks),
        "scattering_vectors": Traffic((PEAK.itemsize + 4 + PANEL_BYTES) * peaks, SECTOR * peaks),
    }  # fmt: skip


def decoding_traffic(work: Work, compression: float) -> Traffic:
    """What `decode_bslz4` moves for frames that came compressed, so many times smaller."""
    packed = work.n_frame * work.frame_bytes / compression
    return Traffic(packed, float(work.n_frame * work.frame_bytes))


def total(traffic: dict[str, Traffic]) -> Traffic:
    """The sum over kernels."""
    each = traffic.values()
    return Traffic(sum(t.read for t in each), sum(t.written for t in each), sum(t.operations for t in each))


def transfer(work: Work, n_detector: int = 1) -> tuple[int, int]:
    """Bytes of a batch that are copied to the device and back; *n_detector* positions of the detector."""
    up = work.n_frame * (work.frame_bytes + FRAME_BYTES) + n_detector * work.n_panel * PANEL_BYTES
    down = work.n_frame * (4 * len(COUNTS) + FIRST_PEAKS * PEAK.itemsize)
    return up, down


@dataclass(frozen=True)
class Card:
    """A GPU as its data sheet describes it.

    Attributes
    ----------
    name
        With its bus.
    memory, bus
        Bytes per second: of device memory; from the host, as is usually reached.
    instructions
        Per second, summed over lanes: multiprocessors × 128 × clock.
    """

    name: str
    memory: float
    bus: float
    instructions: float


CARDS = (
    Card("A100, PCIe 4", 2.0e12, 25e9, 108 * 128 * 1.41e9),
    Card("H100, PCIe 5", 3.35e12, 50e9, 132 * 128 * 1.83e9),
    Card("H200, PCIe 5", 4.8e12, 50e9, 132 * 128 * 1.83e9),
)

LATENCY = 0.6e-6
"""Seconds that a load from device memory takes; assumed, the same for all cards."""


@dataclass(frozen=True)
class Bounds:
    """Least seconds of a batch: by each limit on its own.

    Attributes
    ----------
    memory, instructions
        Of all kernels.
    chain
        Of `clip_rings`: the longest ring is one chain of loads, however many multiprocessors there are.
    bus
        Of the copy to the device.
    """

    memory: float
    instructions: float
    chain: float
    bus: float

    @property
    def kernels(self) -> float:
        """Of all kernels: the greatest of their limits."""
        return max(self.memory, self.instructions, self.chain)

    @property
    def path(self) -> float:
        """From the host to the peaks, where copies and kernels overlap."""
        return max(self.kernels, self.bus)


def bounds(work: Work, card: Card) -> Bounds:
    """The roofline of a batch on a card, for a detector whose longest ring is a whole circle."""
    each = search_traffic(work)
    whole, chained = total(each), each["clip_rings"]
    longest = math.pi * math.sqrt(work.n_place)  # of the greatest circle in a square
    loads = (ROUNDS + 1) * longest / source_numbers()["AHEAD"]
    others = (whole.moved - chained.moved) / card.memory
    up, _ = transfer(work)
    return Bounds(
        memory=whole.moved / card.memory,
        instructions=whole.operations / card.instructions,
        chain=others + loads * LATENCY,
        bus=up / card.bus,
    )
