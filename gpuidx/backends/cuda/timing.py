# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring on a CUDA device: copies, the peak search, and whole batches.  Nothing a run needs."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cuda.backend import CudaBackend
from gpuidx.backends.cuda.buffers import BatchBuffers, ImageBuffer, Sizes, make_scratch
from gpuidx.backends.cuda.clock import TimedKernels, median_ms, rate
from gpuidx.backends.cuda.kernels import Kernels
from gpuidx.backends.cuda.peakfinder8 import (
    FILE,
    DeviceTables,
    Saturation,
    defines,
    find_vectors,
    lanes_for,
    search,
)
from gpuidx.backends.cuda.pixels import PixelUpload, arrays_of
from gpuidx.backends.cuda.tables import Tables
from gpuidx.backends.values import Rules
from gpuidx.model import Found, Frame
from gpuidx.options import PeakOptions


def copy_bandwidth(n_byte: int, repeats: int = 10) -> float:
    """Bytes per second that a copy within device memory reads and writes together."""
    import cupy
    from cupy.cuda import runtime

    stream = cupy.cuda.Stream(non_blocking=True)
    source, target = cupy.zeros(n_byte, np.uint8), cupy.empty(n_byte, np.uint8)
    cupy.cuda.Device().synchronize()

    def copy() -> None:
        runtime.memcpyAsync(
            target.data.ptr, source.data.ptr, n_byte, runtime.memcpyDeviceToDevice, stream.ptr
        )

    return rate(2 * n_byte, median_ms(stream, copy, repeats))


def bus_bandwidth(host: NDArray[np.uint8], repeats: int = 10) -> tuple[float, float]:
    """Bytes per second from page-locked memory to the device, and back into it; *host* is not changed."""
    import cupy
    from cupy.cuda import runtime

    stream = cupy.cuda.Stream(non_blocking=True)
    there = cupy.empty(host.nbytes, np.uint8)

    def up() -> None:
        runtime.memcpyAsync(
            there.data.ptr, host.ctypes.data, host.nbytes, runtime.memcpyHostToDevice, stream.ptr
        )

    def down() -> None:
        runtime.memcpyAsync(
            host.ctypes.data, there.data.ptr, host.nbytes, runtime.memcpyDeviceToHost, stream.ptr
        )

    return tuple(rate(host.nbytes, median_ms(stream, work, repeats)) for work in (up, down))  # type: ignore[return-value]


class DeviceSearch:
    """The peak search of one batch that stays on the device, to be timed again and again.

    Parameters
    ----------
    tables
        Of the rings of all its frames.
    sizes
        Of the buffers.
    options, rules
        Of the search; saturation is not looked at.
    n_frame
        Frames of the batch.
    """

    def __init__(
        self, tables: Tables, sizes: Sizes, options: PeakOptions, rules: Rules, n_frame: int
    ) -> None:
        import cupy

        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.n_frame = n_frame
        self._options, self._rules = options, rules
        self._buffers, self._scratch = BatchBuffers(sizes, n_frame), make_scratch(sizes, n_frame)
        self._room, self._pixels = ImageBuffer(sizes, n_frame), PixelUpload()
        arrays = {name: cupy.asarray(array) for name, array in tables.arrays().items()}
        mean, upper = (cupy.empty((n_frame, tables.n_ring), np.float32) for _ in range(2))
        self._tables = DeviceTables(tables, arrays, mean, upper)
        max_adu = cupy.asarray(np.full(len(tables.rect), np.inf))
        self._saturation = Saturation(max_adu, limits=None, drop=False)
        cupy.cuda.Device().synchronize()

    def kernels(self, pixel: str, *, has_rules: bool) -> TimedKernels:
        """The kernels for a type of pixels, with clocks."""
        named = defines(self._options, lanes_for(self.n_frame), has_rules=has_rules)
        return TimedKernels(Kernels(FILE, pixel, named))

    def upload(self, frames: Sequence[Frame]) -> None:
        """Start to copy the images, perhaps compressed, and panels of a batch to the device."""
        self._frames = frames
        self._part = self._pixels.send(self._room, frames, 0, 0, self._tables, self.stream)
        n_packed = self._part.end_packed
        if n_packed:
            self._room.about[:n_packed].set(self._room.host_about[:n_packed], stream=self.stream)
        detector = frames[0].detector
        self._buffers.host_panels[0] = np.hstack([detector.corner, detector.fs, detector.ss])
        self._buffers.host_detector_of[:] = 0
        self._buffers.host_wavelength[:] = frames[0].wavelength
        self._buffers.send_panels(1, self.n_frame, self.stream)

    def search(self, kernels: Any) -> None:
        """Start to decode and search what was uploaded last; *kernels* as from `kernels`, or plain ones."""
        outcome = self._buffers.outcome_of(0, self.n_frame)
        self._pixels.decode(self._room, self._part, outcome.damaged, self.stream)
        search(
            kernels, lanes_for(self.n_frame), self.stream, self._part.images, self._tables, self._scratch,
            outcome, self._options, self._rules, self._saturation,
        )  # fmt: skip
        find_vectors(kernels, self.stream, outcome, self._buffers.panels_of(self.n_frame))

    def download(self) -> None:
        """Start to copy the results back."""
        self._buffers.fetch(self.n_frame, self.stream)

    def copied(self) -> tuple[int, int]:
        """Bytes of the arrays that `upload` and `download` copy."""
        own, n = self._buffers, self.n_frame
        up = (
            *(array for frame in self._frames for array in arrays_of(frame)),
            self._room.host_about[: self._part.end_packed],
            own.host_panels[:1],
            own.host_detector_of[:n],
            own.host_wavelength[:n],
            own.host_shift_sigma[:n],
        )
        down = (own.counts, own.first[:n])
        return sum(int(array.nbytes) for array in up), sum(array.nbytes for array in down)

    def counts(self) -> tuple[float, float]:
        """Mean number of candidate pixels and of peaks of the frames whose results were copied back."""
        self.stream.synchronize()
        n_candidate, _, n_peak, _ = self._buffers.counts[:, : self.n_frame]
        return float(n_candidate.mean()), float(n_peak.mean())


@dataclass(frozen=True)
class Flow:
    """How a backend kept up with batches that were always at hand.

    Attributes
    ----------
    n_frame, seconds
        Frames, and the time from the first upload to the last result.
    host
        Seconds of these in which the host put work on the device.
    waiting
        Seconds in which it waited for results, and took them.
    """

    n_frame: int
    seconds: float
    host: float
    waiting: float


def flow_through(
    backend: CudaBackend, batches: Iterable[Sequence[Frame]]
) -> tuple[Flow, list[list[Found | None]]]:
    """Send batches through a backend, as many under way as have room for images; their results in order.

    The first batches, as many as may be under way, are not timed.  Whole batches are waited for, so that a
    frame with many trials holds its batch up, which it does not in a run.
    """
    under_way: deque[Any] = deque()
    found: list[list[Found | None]] = []
    host = waiting = 0.0
    n_frame = 0
    begun = time.perf_counter()
    for number, frames in enumerate(batches):
        if number == backend.in_flight:
            while under_way:
                found.append(backend.results(under_way.popleft()))
            host = waiting = 0.0
            begun = time.perf_counter()
            n_frame = 0
        if len(under_way) == backend.in_flight:
            before = time.perf_counter()
            found.append(backend.results(under_way.popleft()))
            waiting += time.perf_counter() - before
        before = time.perf_counter()
        batch = backend.upload(frames)
        backend.find_peaks(batch)
        backend.index(batch)
        host += time.perf_counter() - before
        under_way.append(batch)
        n_frame += len(frames)
    before = time.perf_counter()
    while under_way:
        found.append(backend.results(under_way.popleft()))
    end = time.perf_counter()
    return Flow(n_frame, end - begun, host, waiting + end - before), found
