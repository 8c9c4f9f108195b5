# SPDX-License-Identifier: GPL-3.0-or-later
"""Device processes without a device: the CPU backend in batches, and what can go wrong with it.

They are found by name (`device_program`), and meet the tests in files of their working directory.
"""

import os
import signal
from pathlib import Path

from gpuidx.backends.cpu.backend import CpuBackend
from gpuidx.device import serve_with
from gpuidx.errors import BackendError
from gpuidx.formats.no_data import NoData
from gpuidx.formats.packed import with_pixels
from gpuidx.formats.setting import Setting
from gpuidx.geometry.masks import Masks
from gpuidx.model import Found


class Batches(CpuBackend):
    """The CPU backend as a device that finds peaks and leaves the trials to the workers."""

    name = "cuda"
    batch_size = 4
    has_room = True

    def __init__(self, geometry, *args):
        super().__init__(geometry, *args)
        self.shape = geometry.slab_shape
        self.no_data = NoData(Setting.of(geometry, *args[:2]))

    def upload(self, frames):
        assert len(frames) <= self.batch_size
        return super().upload([with_pixels(frame, self.shape, self.no_data) for frame in frames])

    def finished(self, batch):
        return list(enumerate(self.results(batch)))

    def index(self, batch):
        """Leave it to the workers."""

    def results(self, batch):
        return [Found(peaks=peaks, candidates=None, n_tries=0) for peaks in batch.peaks]


def _serve(backend, port, slots, options, geometry, cell):
    masks = Masks(geometry, options.highres, options.mask_data)
    with Path("devices").open("a") as file:
        file.write(f"{os.getpid()}\n")
    serve_with(port, slots, geometry, backend(geometry, options, masks, cell), options.gpu_max_latency / 1e3)


def healthy(port, slots, options, geometry, cell, devices):
    assert devices[port.number] == port.number
    _serve(Batches, port, slots, options, geometry, cell)


class _Indexing(Batches):
    index, results = CpuBackend.index, CpuBackend.results


def with_trials(port, slots, options, geometry, cell, devices):
    """Peaks and lattices from the device."""
    _serve(_Indexing, port, slots, options, geometry, cell)


class _Small(Batches):
    def results(self, batch):
        return [
            None if frame.serial % 2 else found
            for frame, found in zip(batch.frames, super().results(batch), strict=True)
        ]


def small(port, slots, options, geometry, cell, devices):
    """Each second frame is too much for it."""
    _serve(_Small, port, slots, options, geometry, cell)


def _is_first(what):
    try:
        Path(what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class _Mortal(Batches):
    def find_peaks(self, batch):
        if _is_first("died"):
            os.kill(os.getpid(), signal.SIGKILL)
        super().find_peaks(batch)


def mortal(port, slots, options, geometry, cell, devices):
    """The first process is killed in its first batch."""
    _serve(_Mortal, port, slots, options, geometry, cell)


class _Doomed(Batches):
    def find_peaks(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)


def doomed(port, slots, options, geometry, cell, devices):
    """Every process is killed in its first batch."""
    _serve(_Doomed, port, slots, options, geometry, cell)


class _Failing(Batches):
    def find_peaks(self, batch):
        super().find_peaks(batch)
        if len(batch.frames) < self.batch_size and _is_first("failed"):
            raise BackendError("an illegal memory access was encountered")


def failing(port, slots, options, geometry, cell, devices):
    """The first process ends with an error when a batch is not full."""
    _serve(_Failing, port, slots, options, geometry, cell)


class _Slow(Batches):
    def find_peaks(self, batch):
        if _is_first("hung"):
            signal.pause()
        super().find_peaks(batch)


def slow(port, slots, options, geometry, cell, devices):
    """The first process hangs."""
    _serve(_Slow, port, slots, options, geometry, cell)


class _Gated(Batches):
    def find_peaks(self, batch):
        if Path("gate").exists():
            Path("gate").read_bytes()  # a FIFO: until the test opens and closes it
        super().find_peaks(batch)


def gated(port, slots, options, geometry, cell, devices):
    """It waits at the FIFO "gate" before each batch, as long as that is there."""
    _serve(_Gated, port, slots, options, geometry, cell)


def broken(port, slots, options, geometry, cell, devices):
    """It cannot start."""
    raise BackendError("no CUDA device (made up)")


def half_broken(port, slots, options, geometry, cell, devices):
    """The first of two cannot start."""
    if port.number == 0:
        raise BackendError("no CUDA device (made up)")
    healthy(port, slots, options, geometry, cell, devices)
