# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a device and page-locked memory of the host, taken once; and how many frames it is enough for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import PACKED_PIXEL
from gpuidx.backends.cuda.peakfinder8 import (
    PEAK,
    Outcome,
    Panels,
    Scratch,
    lanes_for,
    most_candidates,
    n_word,
)
from gpuidx.backends.rings import MAX_PEAKS
from gpuidx.errors import BackendError
from gpuidx.options import USUAL_BATCH

WIDEST = 4
"""Bytes of the widest pixel; there is room for it whatever comes first."""

FIRST_PEAKS = 256
"""Peaks of each frame that are copied back with the counts; of few frames the others are fetched too."""

BATCHES = (USUAL_BATCH, 8, 4, 2, 1)
"""Frames of a batch, the first for which there is memory."""

SHARE_OF_FREE = 0.8
"""Of the memory that is free, how much may be taken."""

KEPT_TABLES = 2
"""Sets of tables kept, and in a batch at most: for detectors that a header moves to and fro."""

COUNTS = ("n_candidate", "overflow", "n_peak", "damaged")
"""What is copied back of each frame besides its first peaks."""

ABOUT = 4
"""Numbers about compressed pixels that their kernel is given, see ``kernels/bslz4.cu``."""

_PEAK_WORDS = PEAK.itemsize // 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """What fixes the size of every buffer.

    Attributes
    ----------
    n_pixel, n_position, n_panel
        Pixels of the slab, pixels of all panels, panels.
    most
        Candidate pixels of a frame that there is room for.
    """

    n_pixel: int
    n_position: int
    n_panel: int
    most: int

    @classmethod
    def of(cls, rect: NDArray[np.int32], slab_shape: tuple[int, int]) -> "Sizes":
        """For panels *rect* (panel, 4) in a slab."""
        n_position = int((rect[:, 2].astype(np.int64) * rect[:, 3]).sum())
        return cls(slab_shape[0] * slab_shape[1], n_position, len(rect), most_candidates(n_position))

    def bytes_needed(self, n_frame: int, searched: int, unfinished: int) -> int:
        """Device memory of all buffers for batches of *n_frame*, and of all tables.

        *searched*: batches whose images are there at a time; *unfinished*: all that are under way.
        """
        ordered = WIDEST * self.n_position * filled(n_frame)
        found = self.most * (4 + PEAK.itemsize) + 4 * n_word(self.n_position)
        outcome = MAX_PEAKS * (PEAK.itemsize + 4 + 24) + 4 * len(COUNTS) + 72 * self.n_panel + 16
        tables = KEPT_TABLES * (1 + searched) * (6 * self.n_pixel + 4 * self.n_position)
        images = searched * (WIDEST * self.n_pixel + packed_stride(self.n_pixel) + 4 * ABOUT)
        return ordered + tables + n_frame * (found + images + unfinished * outcome)


def packed_stride(n_pixel: int) -> int:
    """Bytes that compressed pixels have on the device, places of their blocks included."""
    return -(-PACKED_PIXEL * n_pixel // 4) * 4


def filled(n_frame: int) -> int:
    """Frames that there must be room for where *n_frame* are sorted side by side."""
    lanes = lanes_for(n_frame)
    return lanes * -(-n_frame // lanes)


def batch_size(
    needed: Callable[[int], int], free: int, wanted: int | None = None, most_memory: float | None = None
) -> int:
    """Frames of a batch.

    Parameters
    ----------
    needed
        Gives the bytes that batches of so many frames need.
    free
        Bytes of memory that are free.
    wanted
        ``--gpu-batch``; without it the most of `BATCHES` that fits.
    most_memory
        ``--gpu-memory``, bytes.

    Raises
    ------
    BackendError
        If there is not memory for a single frame, or for those wanted.
    """
    may = SHARE_OF_FREE * free if most_memory is None else min(most_memory, SHARE_OF_FREE * free)
    for n_frame in (wanted,) if wanted else BATCHES:
        if needed(n_frame) <= may:
            return n_frame
    raise BackendError(
        f"batches of {n_frame} need {needed(n_frame) / 1e9:.3g} GB on the device, "
        f"{may / 1e9:.3g} GB may be used"
    )


def page_locked(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array in page-locked memory, which copies to and from the device do not block on."""
    import cupy

    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = cupy.cuda.alloc_pinned_memory(size)
    return np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)


def make_scratch(sizes: Sizes, n_frame: int) -> Scratch:
    """Room on the current device for searches of up to *n_frame* frames at a time."""
    import cupy

    return Scratch(
        sorted=cupy.empty(WIDEST * sizes.n_position * filled(n_frame), np.uint8),
        bits=cupy.empty((n_frame, n_word(sizes.n_position)), np.uint32),
        candidates=cupy.empty((n_frame, sizes.most), np.int32),
        records=cupy.empty((n_frame, sizes.most * _PEAK_WORDS), np.float32),
    )


class ImageBuffer:
    """Room on the device for the pixels of a batch as they came, until they have been searched.

    Attributes
    ----------
    packed : (frame, stride) uint8
        For those that came compressed.
    about : (frame, ABOUT) int32
        What there is to know of each of these.
    host_about
        The same on the host.
    """

    def __init__(self, sizes: Sizes, n_frame: int) -> None:
        import cupy

        self._n_pixel = sizes.n_pixel
        self._bytes = cupy.empty(WIDEST * sizes.n_pixel * n_frame, np.uint8)
        self.packed = cupy.empty((n_frame, packed_stride(sizes.n_pixel)), np.uint8)
        self.about = cupy.empty((n_frame, ABOUT), np.int32)
        self.host_about = page_locked((n_frame, ABOUT), np.int32)

    def images(self, first: int, end: int, dtype: Any) -> Any:
        """Room for frames *first* to *end*, of one type of pixels; (frame, pixel)."""
        start = WIDEST * self._n_pixel * first
        size = (end - first) * self._n_pixel * np.dtype(dtype).itemsize
        return self._bytes[start : start + size].view(dtype).reshape(end - first, self._n_pixel)


class BatchBuffers:
    """What else a batch has for itself while it is under way, on the device and on the host.

    Attributes
    ----------
    outcome, panels
        On the device.
    trials
        What the indexing trials have for themselves, a `TrialBatch` or `AxesBatch`; None without trials.
    counts : (4, frame) int32
        `COUNTS`, on the host.
    first : (frame, FIRST_PEAKS) PEAK
        On the host.
    shift_sigma : (frame,) float32
        Expected error of the beam centre, on the device, Å⁻¹.
    host_panels, host_detector_of, host_wavelength, host_shift_sigma
        These four on the host.
    """

    def __init__(self, sizes: Sizes, n_frame: int) -> None:
        import cupy

        self.trials: Any = None
        # cleared, for more of them is copied back than the kernels write
        self._counts = cupy.zeros((len(COUNTS), n_frame), np.int32)
        peaks = cupy.zeros((n_frame, MAX_PEAKS * _PEAK_WORDS), np.float32)
        self.outcome = Outcome(
            **{name: self._counts[row] for row, name in enumerate(COUNTS)},
            peaks=peaks,
            place_of=cupy.empty((n_frame, MAX_PEAKS), np.int32),
            q=cupy.empty((n_frame, MAX_PEAKS, 3), np.float64),
        )
        self.panels = Panels(
            panels=cupy.empty((n_frame, sizes.n_panel, 9), np.float64),
            detector_of=cupy.empty(n_frame, np.int32),
            wavelength=cupy.empty(n_frame, np.float64),
        )
        self.counts = page_locked((len(COUNTS), n_frame), np.int32)
        self.first = page_locked((n_frame, FIRST_PEAKS), PEAK)
        self.host_panels = page_locked((n_frame, sizes.n_panel, 9), np.float64)
        self.host_detector_of = page_locked((n_frame,), np.int32)
        self.host_wavelength = page_locked((n_frame,), np.float64)
        self.shift_sigma = cupy.empty(n_frame, np.float32)
        self.host_shift_sigma = page_locked((n_frame,), np.float32)

    def outcome_of(self, first: int, end: int) -> Outcome:
        """The part of the outcome that belongs to some frames of the batch."""
        return Outcome(**{name: array[first:end] for name, array in vars(self.outcome).items()})

    def panels_of(self, n_frame: int) -> Panels:
        """Panels of the first frames."""
        own = self.panels
        return Panels(own.panels, own.detector_of[:n_frame], own.wavelength[:n_frame])

    def send_panels(self, n_detector: int, n_frame: int, stream: Any) -> None:
        """Copy what the host has about the panels of some frames to the device."""
        for device, host, n in (
            (self.panels.panels, self.host_panels, n_detector),
            (self.panels.detector_of, self.host_detector_of, n_frame),
            (self.panels.wavelength, self.host_wavelength, n_frame),
            (self.shift_sigma, self.host_shift_sigma, n_frame),
        ):
            device[:n].set(host[:n], stream=stream)

    def fetch(self, n_frame: int, stream: Any) -> None:
        """Copy counts and first peaks of some frames back; to be waited for."""
        from cupy.cuda import runtime

        self._counts.get(stream=stream, out=self.counts, blocking=False)
        row = FIRST_PEAKS * PEAK.itemsize
        runtime.memcpy2DAsync(
            self.first.ctypes.data, row, self.outcome.peaks.data.ptr, MAX_PEAKS * PEAK.itemsize, row, n_frame,
            runtime.memcpyDeviceToHost, stream.ptr,
        )  # fmt: skip

    def further_peaks(self, frame: int, n_peak: int, stream: Any) -> NDArray[Any]:
        """All peaks of a frame with more than `FIRST_PEAKS`; waits for the device."""
        values: NDArray[np.float32] = self.outcome.peaks[frame, : n_peak * _PEAK_WORDS].get(stream=stream)
        return values.view(PEAK)
