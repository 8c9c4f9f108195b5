# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported by the forkserver: compiles, or loads from Numba's cache, everything that workers call.

A worker is a fork of that process, so it finds every function compiled.  What is called here is a small
made-up frame of each pixel type on its whole way; what is not called here is compiled in the middle of a run.
Searches and trials that the run does not ask for (`PARTS_VARIABLE`) are left out.

Into an empty cache several processes compile parts of that way at the same time, before the whole is gone.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Collection
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.cell import UnitCell, real_axes
from gpuidx.flow.platform import end_with_parent, usable_cpus
from gpuidx.formats.byte_offset import unpack_byte_offset
from gpuidx.formats.chunks import unpack
from gpuidx.geometry import parse_geometry
from gpuidx.model import PIXEL_TYPES, Candidate, Crystal, Found, Message
from gpuidx.options import OPTIONAL_PARTS, PARTS_VARIABLE, Options
from gpuidx.pipeline import Pipeline
from gpuidx.simulation.compress import compress
from gpuidx.simulation.crystal import random_rotation
from gpuidx.simulation.peaklists import EXPERIMENTS, PeakListSettings, simulate_peaks

SIZE = 192
"""Width and height of the frame, px."""

_GEOMETRY = f"""
photon_energy = energy eV
clen = 0.03 m
adu_per_photon = 1
res = 10000
data = image
peak_list = peaks
a/min_fs = 0
a/max_fs = {SIZE - 1}
a/min_ss = 0
a/max_ss = {SIZE // 2 - 1}
a/corner_x = {-SIZE // 2}
a/corner_y = {-SIZE // 2}
a/fs = x
a/ss = y
b/min_fs = 0
b/max_fs = {SIZE - 1}
b/min_ss = {SIZE // 2}
b/max_ss = {SIZE - 1}
b/corner_x = {-SIZE // 2}
b/corner_y = 0
b/fs = x
b/ss = y
"""

_CELL = UnitCell(parameters=(29.0, 31.0, 37.0, 90.0, 90.0, 90.0), lattice_type="orthorhombic")
_ENERGY = 9000.0


def _options(
    peaks: str,
    fast: bool = False,
    filters: bool = False,
    integration: str = "rings-cen-grad",
    indexing: str | None = None,
) -> Options:
    return Options(
        geometry="warm.geom", output="warm.stream", pdb="warm.cell", zmq_input=("tcp://warm:1",),
        zmq_request="next",
        peaks=peaks, threshold=20.0, min_snr=3.0, min_pix_count=1, integration=integration, indexing=indexing,
        min_squared_gradient=100.0, min_sig=1.0, median_filter=2 * filters, filter_noise=filters,
        peakfinder8_fast=fast, refine_shift=fast,
    )  # fmt: skip


def _message(pixels: NDArray[Any]) -> bytes:
    """A frame, and a peak list that is not used unless asked for."""
    image = {"type": pixels.dtype.str, "shape": list(pixels.shape), "data": pixels.tobytes()}
    bright = np.argwhere(pixels > 50)[:30].astype(float)
    peaks = {"fs": bright[:, 1].tolist(), "ss": bright[:, 0].tolist(), "intensity": [200.0] * len(bright)}
    packed: bytes = msgpack.packb({"energy": _ENERGY, "image": image, "peaks": peaks})
    return packed


def _crystal() -> Crystal:
    """A crystal of the cell in some orientation."""
    assert _CELL.parameters is not None
    rotation = random_rotation(np.random.default_rng(2))
    return Crystal(
        recip=np.linalg.inv(real_axes(_CELL.parameters)).T @ rotation.T, lattice_type=_CELL.lattice_type,
        centering="P", unique_axis="*", score=0.0, shift=(0.0, 0.0), profile_radius=0.002,
        resolution_limit=0.5, residuals={},
    )  # fmt: skip


def _picture(pipeline: Pipeline, crystal: Crystal) -> NDArray[np.int32]:
    """Counts of a crystal: one bright pixel a spot over a flat background."""
    counts = np.random.default_rng(1).poisson(3.0, (SIZE, SIZE)).astype(np.int32)
    blank = pipeline.decode(_as_message(_message(counts)))
    spots = pipeline.integrator.predicted(blank, crystal)
    x = spots.fs.astype(int) + blank.detector.rect[spots.panel, 0]
    y = spots.ss.astype(int) + blank.detector.rect[spots.panel, 1]
    counts[y, x] += 100
    return counts


def _as_message(data: bytes) -> Message:
    return Message(serial=1, filename="warm", event="//1", data=memoryview(bytearray(data)))


class Frames:
    """What is sent through a pipeline: a frame of each pixel type, all with the same spots."""

    def __init__(self) -> None:
        self.geometry = parse_geometry(_GEOMETRY, "warm.geom")
        self.place = memoryview(bytearray(1 << 20))
        self.crystal = _crystal()
        self.counts = _picture(self.pipeline("msgpack"), self.crystal)
        self.counts[1, 1] = -1  # its ring is added up pixel by pixel

    def pipeline(self, peaks: str, **settings: Any) -> Pipeline:
        """A pipeline with some peak search; *settings* are those of `_options`."""
        return Pipeline(_options(peaks, **settings), self.geometry, _CELL)

    def messages(self, level: int = 0) -> list[Message]:
        """One of each pixel type, *level* above the usual counts."""
        kinds = [(self.counts.astype(kind), np.array(level, kind)) for kind in PIXEL_TYPES]
        return [_as_message(_message(counts + more)) for counts, more in kinds]

    def send(self, peaks: str, **settings: Any) -> int:
        """Send all through a pipeline of their own; gives the number of frames that were indexed."""
        pipeline = self.pipeline(peaks, **settings)
        results = [pipeline.process(message, self.place).result for message in self.messages()]
        if peaks == "peakfinder8":
            # only now: after frames that are too wide for the way of photon counts that way rests for a while
            for message in self.messages(level=1000):
                pipeline.process(message, self.place)
        return sum(bool(result.crystals) for result in results)


def warm(parts: Collection[str]) -> int:
    """Send a frame of each pixel type through a pipeline; gives the number of frames that were indexed.

    *parts* are those of `OPTIONAL_PARTS` that are compiled, too.
    """
    frames = Frames()
    n_indexed = frames.send("peakfinder8")
    frames.send("peakfinder8", fast=True)
    for peaks in ("zaef", "peakfinder9"):
        if peaks in parts:
            frames.send(peaks)
    if "filters" in parts:
        frames.send("zaef", filters=True)
    if "prof2d" in parts:
        frames.send("msgpack", integration="prof2d")
    warm_decoding()
    if "no cell" in parts:
        warm_trials_without_cell()
    frames.send("msgpack")
    return n_indexed


def warm_decoding() -> None:
    """What decoders of compressed pixels have of their own."""
    pixels = np.zeros((8, 8), np.uint16)
    unpack(memoryview(compress(pixels, "bslz4")), "bslz4", pixels.dtype, pixels.shape)
    unpack_byte_offset(memoryview(b"\0"), 1)


def warm_trials_without_cell() -> None:
    """Half of the peaks are spurious, so direct vectors are not enough, and pairs are looked at too."""
    settings = PeakListSettings(n_peaks=30, spurious=0.5)
    q = simulate_peaks(EXPERIMENTS["lyso"], settings, np.random.default_rng(3)).q
    options = dataclasses.replace(_options("peakfinder8"), axis_range=(35.0, 85.0))
    UnknownCellTrials(options).index(q, 0.0)


def _compile_searches(parts: Collection[str]) -> None:
    """The peak searches, without what comes after them."""
    frames = Frames()
    for fast in (False, True):
        frames.send("peakfinder8", fast=fast, indexing="none")


def _compile_other_searches(parts: Collection[str]) -> None:
    frames = Frames()
    for peaks in ("zaef", "peakfinder9"):
        if peaks in parts:
            frames.send(peaks, indexing="none")
    if "filters" in parts:
        frames.send("zaef", filters=True, indexing="none")


def _compile_trials(parts: Collection[str]) -> None:
    """Indexing trials, to which all pixel types are the same."""
    frames = Frames()
    pipeline = frames.pipeline("msgpack")
    pipeline.search([pipeline.decode(frames.messages()[0])])
    if "no cell" in parts:
        warm_trials_without_cell()


def _compile_crystals(parts: Collection[str]) -> None:
    """Refinement and integration, as for lattices that a device has found."""
    frames = Frames()
    axes = np.ascontiguousarray(np.linalg.inv(frames.crystal.recip).T, np.float64)
    lattice = Candidate(axes=axes, shift=np.zeros(2), score=100.0)
    for integration in ("rings-cen-grad", "prof2d")[: 1 + ("prof2d" in parts)]:
        pipeline = frames.pipeline("msgpack", integration=integration)
        for message in frames.messages():
            frame = pipeline.decode(message)
            assert frame.peaks is not None
            pipeline.complete(
                frame, message, frames.place, Found(peaks=frame.peaks, candidates=(lattice,), n_tries=1)
            )


APART = (_compile_trials, _compile_crystals, _compile_searches, _compile_other_searches)
"""Functions that compile little in common, longest first."""


def compile_apart(parts: Collection[str]) -> None:
    """Fill an empty cache on several CPUs; what a process leaves out or fails at is compiled afterwards."""
    n_cpu = len(usable_cpus() or ())
    if n_cpu < 2 or any(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbi")):
        return
    waiting = [get_context("fork").Process(target=_compile, args=(each, parts)) for each in APART]
    running: list[ForkProcess] = []
    while waiting or running:
        while waiting and len(running) < n_cpu:
            running.append(waiting.pop(0))
            running[-1].start()
        wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]


def _compile(function: Callable[[Collection[str]], None], parts: Collection[str]) -> None:
    end_with_parent()
    function(parts)


_begun = time.perf_counter()
_given = os.environ.get(PARTS_VARIABLE)
_parts = OPTIONAL_PARTS if _given is None else tuple(_given.split(","))
compile_apart(_parts)
INDEXED = warm(_parts)
SECONDS = time.perf_counter() - _begun
