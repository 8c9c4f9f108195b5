# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to the peaks of a frame, two on the CPU and one on a device: tests are the same for all."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import fields, replace

import emulator
from emulator import pretended_cuda

from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.geometry.detector import Geometry
from gpuidx.model import Frame, PeakList
from gpuidx.options import Options, PeakOptions

WAYS = ("packed", "lanes", "cuda")

try:  # before anything loads NVIDIA's compiler: the first library of that name is CuPy's
    DEVICE = pretended_cuda.install(order="lazy")
except (ImportError, OSError):
    DEVICE = None


@contextmanager
def fresh_device():
    """The pretended device as it was at first; it must have nothing to complain of at the end."""
    DEVICE.reset()
    DEVICE.set(order="lazy", check=False, schedule=0)
    yield DEVICE
    messages = DEVICE.messages
    DEVICE.set(order="lazy", check=False, schedule=0)
    DEVICE.reset()
    assert messages == []


def all_options(options: PeakOptions) -> Options:
    """The options of a run that only searches peaks."""
    given = {field.name: getattr(options, field.name) for field in fields(PeakOptions)}
    run = {"geometry": "a.geom", "output": "a.stream", "pdb": "a.cell", "zmq_input": ("tcp://a:1",)}
    run |= {"indexing": "none"}
    return Options(**run, zmq_request="next", **given)


def cuda_backend(
    geometry: Geometry, options: PeakOptions, masks, cell=None, compile_for=(), ring=None, **more
):
    """A backend on the pretended device; compiles nothing ahead but for the types *compile_for*."""
    emulator.need("g++", "cupy")
    from gpuidx.backends.cuda.backend import CudaBackend

    run = options if isinstance(options, Options) else all_options(options)
    return CudaBackend(geometry, replace(run, **more), masks, cell, compile_for=compile_for, ring=ring)


def search_batch(backend, frames):
    """What a backend finds in a batch."""
    batch = backend.upload(frames)
    backend.find_peaks(batch)
    return backend.results(batch)


def finished(backend, batch, looks: int = 10_000) -> list:
    """The same as its results, as someone gets them who asks again and again and never waits."""
    given: dict = {}
    for _ in range(looks):
        given |= dict(backend.finished(batch))
        if len(given) == len(batch.frames):
            return [given[number] for number in range(len(given))]
    raise AssertionError(f"{len(given)} of {len(batch.frames)} frames are ready after {looks} looks")


def finder(way: str, geometry: Geometry, options: PeakOptions, masks) -> Callable[[Frame], PeakList]:
    """Gives the peaks of one frame after the other, one way."""
    if way != "cuda":
        return PeakFinder(geometry, options, masks, use_packed=way == "packed").find
    backend = cuda_backend(geometry, options, masks, gpu_batch=1)

    def find(frame: Frame) -> PeakList:
        (found,) = search_batch(backend, [frame])
        assert DEVICE.messages == []
        return found.peaks

    return find


def find(way: str, geometry: Geometry, options: PeakOptions, masks, frame: Frame) -> PeakList:
    """The peaks of one frame, one way."""
    return finder(way, geometry, options, masks)(frame)


def bits(peaks: PeakList) -> list[bytes]:
    """All numbers of a list, to compare."""
    return [array.tobytes() for array in (peaks.fs, peaks.ss, peaks.panel, peaks.intensity)]
