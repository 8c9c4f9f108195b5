# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported by the forkserver: compiles, or loads from Numba's cache, everything that workers call.

A worker is a fork of that process, so it finds every function compiled.  What is called here is a small
made-up frame of each pixel type on its whole way; what is not called here is compiled in the middle of a run.
Searches and trials that the run does not ask for (`PARTS_VARIABLE`) are left out.
"""

import dataclasses
import os
import time
from collections.abc import Collection
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.cell import UnitCell, real_axes
from gpuidx.formats.byte_offset import unpack_byte_offset
from gpuidx.formats.chunks import unpack
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.model import PIXEL_TYPES, Crystal, Message
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
    peaks: str, fast: bool = False, filters: bool = False, integration: str = "rings-cen-grad"
) -> Options:
    return Options(
        geometry="warm.geom", output="warm.stream", pdb="warm.cell", zmq_input=("tcp://warm:1",),
        zmq_request="next",
        peaks=peaks, threshold=20.0, min_snr=3.0, min_pix_count=1, integration=integration,
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


def _picture(pipeline: Pipeline, geometry: Geometry) -> NDArray[np.int32]:
    """Counts of a crystal in some orientation: one bright pixel a spot over a flat background."""
    assert _CELL.parameters is not None
    counts = np.random.default_rng(1).poisson(3.0, (SIZE, SIZE)).astype(np.int32)
    rotation = random_rotation(np.random.default_rng(2))
    crystal = Crystal(
        recip=np.linalg.inv(real_axes(_CELL.parameters)).T @ rotation.T, lattice_type=_CELL.lattice_type,
        centering="P", unique_axis="*", score=0.0, shift=(0.0, 0.0), profile_radius=0.002,
        resolution_limit=0.5, residuals={},
    )  # fmt: skip
    blank = pipeline.decode(_as_message(_message(counts)))
    spots = pipeline.integrator.predicted(blank, crystal)
    x = spots.fs.astype(int) + blank.detector.rect[spots.panel, 0]
    y = spots.ss.astype(int) + blank.detector.rect[spots.panel, 1]
    counts[y, x] += 100
    return counts


def _as_message(data: bytes) -> Message:
    return Message(serial=1, filename="warm", event="//1", data=memoryview(bytearray(data)))


def warm(parts: Collection[str]) -> int:
    """Send a frame of each pixel type through a pipeline; gives the number of frames that were indexed.

    *parts* are those of `OPTIONAL_PARTS` that are compiled, too.
    """
    geometry = parse_geometry(_GEOMETRY, "warm.geom")
    place = memoryview(bytearray(1 << 20))
    pipeline = Pipeline(_options("peakfinder8"), geometry, _CELL)
    counts = _picture(pipeline, geometry)
    counts[1, 1] = -1  # its ring is added up pixel by pixel
    n_indexed = 0
    for kind in PIXEL_TYPES:
        done = pipeline.process(_as_message(_message(counts.astype(kind))), place)
        n_indexed += bool(done.result.crystals)
    # only now: after frames that are too wide for the way of photon counts that way rests for a while
    for kind in PIXEL_TYPES:
        wide = counts.astype(kind) + np.array(1000, kind)
        pipeline.process(_as_message(_message(wide)), place)
    fast = Pipeline(_options("peakfinder8", fast=True), geometry, _CELL)
    for kind in PIXEL_TYPES:
        fast.process(_as_message(_message(counts.astype(kind))), place)
    for peaks in ("zaef", "peakfinder9"):
        if peaks not in parts:
            continue
        other = Pipeline(_options(peaks), geometry, _CELL)
        for kind in PIXEL_TYPES:
            other.process(_as_message(_message(counts.astype(kind))), place)
    if "filters" in parts:
        filtered = Pipeline(_options("zaef", filters=True), geometry, _CELL)
        for kind in PIXEL_TYPES:
            filtered.process(_as_message(_message(counts.astype(kind))), place)
    if "prof2d" in parts:
        profiles = Pipeline(_options("peakfinder8", integration="prof2d"), geometry, _CELL)
        for kind in PIXEL_TYPES:
            profiles.process(_as_message(_message(counts.astype(kind))), place)
    warm_decoding()
    if "no cell" in parts:
        warm_trials_without_cell()
    supplied = Pipeline(_options("msgpack"), geometry, _CELL)
    for kind in PIXEL_TYPES:
        supplied.process(_as_message(_message(counts.astype(kind))), place)
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


_begun = time.perf_counter()
_parts = os.environ.get(PARTS_VARIABLE)
INDEXED = warm(OPTIONAL_PARTS if _parts is None else _parts.split(","))
SECONDS = time.perf_counter() - _begun
