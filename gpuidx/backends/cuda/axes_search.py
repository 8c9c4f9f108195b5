# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors of the lattice without a cell, on a device; a worker makes cells of them.

See ``kernels/indexing_bands.cu`` and ``kernels/indexing_axes.cu`` for what the kernels do;
`gpuidx.backends.cpu.unknown_vectors` is the definition.  Both kinds of vectors are looked for in every
frame, and with ``--retry`` those of the second try too, for only the worker sees whether the first is enough.
What a worker finds beside that (further lattices) it finds with axes of its own.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import MAX_PEAKS
from gpuidx.backends.cuda.buffers import page_locked
from gpuidx.backends.cuda.events import has_happened
from gpuidx.backends.cuda.kernels import Kernels, Launch
from gpuidx.backends.cuda.trial_directions import prepare_named
from gpuidx.backends.cuda.trial_tables import BAND_RECORD, MOST_DIRECTIONS, PEAK_SET, Shapes, defines
from gpuidx.backends.known_cell import direction_grids
from gpuidx.backends.unknown_cell_constants import (
    BAND,
    BAND_MOST,
    BAND_SAMPLED,
    LONGEST_AXIS,
    MOST_PEAKS_UNKNOWN,
    MOST_TRIES_UNKNOWN,
    MOST_VECTORS,
    SHORTEST_AXIS,
)
from gpuidx.options import IndexOptions

BANDS_FILE, AXES_FILE = "indexing_bands.cu", "indexing_axes.cu"

LENGTH_BLOCKS = 16
"""Blocks that share the lengths of a band, as in the kernels."""

AxesOutcome = tuple[None, int, NDArray[np.float32] | None]
"""No candidates, no trials, and axes as `gpuidx.model.Found` has them."""


def n_try(options: IndexOptions) -> int:
    """Lists of peaks of a frame that are looked at."""
    return MOST_TRIES_UNKNOWN if options.retry else 1


def most_bands(options: IndexOptions) -> int:
    """Bands of lengths that there may be."""
    shortest, longest = options.axis_range or (SHORTEST_AXIS, LONGEST_AXIS)
    return max(1, math.ceil(math.log(longest / shortest) / math.log(BAND)))


def shapes(n_frame: int, options: IndexOptions) -> Shapes:
    """Buffers of a search; batches use them one after the other.

    ======================  ==========================================================================
    lists                   `PEAK_SET` of each list: frame by frame, try by try.
    list_peaks              Its usable peaks (x y z length), Å⁻¹.
    bands                   `BAND_RECORD` of each slot: list by list, kind by kind.
    band_vectors            Vectors of each band (x y z weight), Å⁻¹.
    best_keys               Best directions of the lengths of each block.
    axes                    The best of each band (x y z score), Å.
    found_axes, n_axis      The best that differ of each slot; negative if the CPU must look for them.
    ======================  ==========================================================================
    """
    n_list, bands = n_frame * n_try(options), most_bands(options)
    n_slot = 2 * n_list
    return {
        "lists": ((n_list, PEAK_SET.itemsize), "u1"),
        "list_peaks": ((n_list, MOST_PEAKS_UNKNOWN, 4), "f4"),
        "bands": ((n_slot, bands, BAND_RECORD.itemsize), "u1"),
        "band_vectors": ((n_slot, bands, BAND_MOST, 4), "f4"),
        "best_keys": ((n_slot, bands, LENGTH_BLOCKS, BAND_SAMPLED), "u8"),
        "axes": ((n_slot, bands, BAND_SAMPLED, 4), "f4"),
        "found_axes": ((n_slot, MOST_VECTORS, 4), "f4"),
        "n_axis": ((n_slot,), "i4"),
    }


def axes_bytes(n_frame: int, options: IndexOptions) -> int:
    """Device memory of all buffers for batches of *n_frame*."""
    each = shapes(n_frame, options).values()
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in each)


class AxesBatch:
    """What the search of one batch has for itself; its attributes are those of `trials.TrialBatch`.

    Attributes
    ----------
    n_frame
        Frames of the batch.
    axes, n_axis
        On the host.
    launches
        Ready for *key*.
    outcomes
        Of each frame; None as long as it is searched.
    fetched
        Event: the axes are there; None if nothing is under way.
    """

    def __init__(self, most_frames: int, n_try: int) -> None:
        self.n_frame = 0
        self.axes = page_locked((most_frames, n_try, 2, MOST_VECTORS, 4), np.float32)
        self.n_axis = page_locked((most_frames, n_try, 2), np.int32)
        self.key: tuple[int, ...] = ()
        self.launches: list[Launch] = []
        self.outcomes: list[AxesOutcome | None] = []
        self.fetched: Any = None


class AxesSearch:
    """The search for axes on the current device; belongs to the thread that made it.

    Its methods are those of `trials.DeviceTrials`.

    Parameters
    ----------
    options
        `retry` and `axis_range` are used.
    most_frames
        Of a batch.
    min_peaks
        Frames with fewer are not looked at.

    Attributes
    ----------
    arrays
        On the device, by name.
    """

    def __init__(self, options: IndexOptions, most_frames: int, *, min_peaks: int = 0) -> None:
        import cupy

        grid, start = direction_grids()
        assert np.diff(start).max() <= MOST_DIRECTIONS
        unit = np.zeros((grid.shape[1], 4), np.float32)
        unit[:, :3] = grid.T
        self._most_frames, self._n_try, self._bands = most_frames, n_try(options), most_bands(options)
        shortest, longest = options.axis_range or (0.0, LONGEST_AXIS)
        self._numbers = {
            "n_try": self._n_try, "min_peaks": min_peaks, "shortest": shortest, "longest": longest,
            "most_bands": self._bands,
        }  # fmt: skip
        self.arrays = {"grid": cupy.asarray(unit), "grid_start": cupy.asarray(start.astype(np.int32))}
        self.arrays |= {name: cupy.empty(*shape) for name, shape in shapes(most_frames, options).items()}
        self._of_bands = Kernels(BANDS_FILE, None, defines())
        self._of_axes = Kernels(AXES_FILE, None, defines())
        assert self._of_axes.numbers["LENGTH_BLOCKS"] == LENGTH_BLOCKS
        cupy.cuda.Device().synchronize()  # what was copied was so on the default stream

    def compile(self) -> None:
        """Compile and load all kernels now, not at the first launch."""
        self._of_bands.compile()
        self._of_axes.compile()

    def new_batch(self) -> AxesBatch:
        """Buffers for a batch; there must be one for each that is under way."""
        return AxesBatch(self._most_frames, self._n_try)

    def start(
        self, batch: AxesBatch, q: Any, n_given: Any, shift_sigma: Any, n_frame: int, stream: Any
    ) -> None:
        """Start the search of a batch; see `trials.DeviceTrials.start`.  The shift's sigma is not used."""
        batch.n_frame, batch.outcomes, batch.fetched = n_frame, [None] * n_frame, None
        if n_frame == 0:
            return
        key = n_frame, q.data.ptr, n_given.data.ptr
        if key != batch.key:
            assert q.shape[1] == MAX_PEAKS
            batch.launches = self._launches({**self.arrays, "q": q, "n_given": n_given}, n_frame)
            batch.key = key
        for launch in batch.launches:
            launch.start(stream)
        n_slot = 2 * n_frame * self._n_try
        for name, host in (("found_axes", batch.axes), ("n_axis", batch.n_axis)):
            device = self.arrays[name][:n_slot]
            device.get(stream=stream, out=host[:n_frame].reshape(device.shape), blocking=False)
        batch.fetched = stream.record()

    def _launches(self, arrays: Mapping[str, Any], n_frame: int) -> list[Launch]:
        n_list, bands, own, of_axes = n_frame * self._n_try, self._bands, self._of_bands, self._of_axes
        n_slot = 2 * n_list
        warps = of_axes.threads("refine_axes") // 32
        scan, refine = (LENGTH_BLOCKS, bands, n_slot), (BAND_SAMPLED // warps, bands, n_slot)
        return [
            prepare_named(own, "take_lists", (n_list,), arrays, **self._numbers),
            prepare_named(own, "fill_bands", (bands, n_slot), arrays),
            prepare_named(of_axes, "scan_bands", scan, arrays),
            prepare_named(of_axes, "choose_axes", (bands, n_slot), arrays),
            prepare_named(of_axes, "refine_axes", refine, arrays),
            prepare_named(of_axes, "keep_axes", (n_slot,), arrays, most_bands=bands),
        ]

    def advance(self, batch: AxesBatch, stream: Any) -> bool:
        """Whether the search of a batch is over; takes its outcome.  Never waits."""
        if batch.fetched is None:
            return True
        if not has_happened(batch.fetched):
            return False
        batch.fetched = None
        for row in range(batch.n_frame):
            is_whole = (batch.n_axis[row] >= 0).all()
            batch.outcomes[row] = None, 0, batch.axes[row].copy() if is_whole else None
        return True

    def finish(self, batch: AxesBatch, stream: Any) -> None:
        """Wait until `advance` gives True."""
        if batch.fetched is not None:
            batch.fetched.synchronize()
        self.advance(batch, stream)
