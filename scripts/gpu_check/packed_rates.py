# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames from slots to what is found in them, through the loop of a device process; and decoding alone.

The device process itself is not started: a `Feed` stands for its pipe to the main process, all else is what a
run has, `gpuidx.device.Service` with its batches, slots and page-locked memory.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from gpu_check.feed import Feed
from gpu_check.frames import CELL, DISTINCT, HIT_EVERY, PEAK_OPTIONS, CrystalImages, backend_options
from gpu_check.needs import has_compression
from gpu_check.parity import first_difference
from gpu_check.plan import Config, Plan
from gpu_check.report import Report
from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cuda.backend import IN_FLIGHT, CudaBackend
from gpuidx.backends.cuda.buffers import ImageBuffer, Sizes
from gpuidx.backends.cuda.clock import median_ms, rate
from gpuidx.backends.cuda.pixels import PixelUpload
from gpuidx.backends.cuda.timing import copy_bandwidth
from gpuidx.backends.cuda.traffic import Work, decoding_traffic
from gpuidx.errors import GpuidxError
from gpuidx.flow.slots import Slots
from gpuidx.handover import (
    ALIGNMENT,
    FOUND,
    FOUND_BYTES,
    FRAMES,
    PLACES,
    Descriptor,
    laid_down,
    read_found,
)
from gpuidx.model import Frame

LOAD = 0.8
"""Share of the measured rate at which latency is measured."""

PACKED, PLAIN = "compressed", "plain"

LEAST_FRAMES = {2048: 5000.0, 4096: 1000.0}
"""Goals: compressed frames in a second with so many pixels along a side, 20 % hits, on an H200."""

MOST_MEDIAN_MS, MOST_LATE_MS = 100.0, 300.0
"""Goals: latency of half of the frames, and of 99 %."""

SHARE_OF_TIME = 0.6
"""Of the whole, after which no further case begins."""

BACKGROUND = 0.3, 2.0
"""Photons a pixel at the edge and at the beam: 16-bit pixels are compressed about seven times."""

N_COMPARED = 8
"""Frames whose peaks are compared with the CPU's."""


@dataclass
class Laid:
    """A ring with a frame in each slot."""

    slots: Slots
    descriptors: list[Descriptor]
    frames: list[Frame]
    n_byte: int


@contextmanager
def laid(images: CrystalImages, config: Config, way: str, count: int) -> Iterator[Laid]:
    """Lay frames down in so many slots, as workers do."""
    n_distinct = min(count, HIT_EVERY * DISTINCT)  # then all come again
    frames = [_frame(images, config, way, slot) for slot in range(n_distinct)]
    sizes = [_n_byte(frame) for frame in frames]
    slots = Slots(count, max(sizes) + FOUND_BYTES + 2 * ALIGNMENT)
    try:
        descriptors = []
        for slot in range(count):
            _, descriptor = laid_down(frames[slot % len(frames)], slots[slot], 0)
            assert descriptor is not None
            descriptors.append(descriptor)
        yield Laid(slots, descriptors, frames, sum(sizes) // len(sizes))
    finally:
        slots.close()


def _frame(images: CrystalImages, config: Config, way: str, slot: int) -> Frame:
    image = images.image(config.content, slot).astype(config.dtype)
    if way == PLAIN:
        return images.frame(image)
    from backends.packed_pixels import packed

    return replace(images.frame(image), image=None, packed=packed(image))


def _n_byte(frame: Frame) -> int:
    if frame.packed is None:
        return frame.image.nbytes
    return frame.packed.data.nbytes + frame.packed.starts.nbytes


def measure_all(report: Report, plan: Plan, device: int) -> None:
    """Each case: decoding alone, then the path, compressed and plain."""
    import cupy

    report.title("from slots to candidate lattices, as a device process does it")
    cupy.cuda.Device(device).use()
    report.data["decoding"], report.data["service"] = [], []
    if not has_compression(report):
        return
    copy = copy_bandwidth(plan.copy_bytes, plan.repeats)
    images: CrystalImages | None = None
    for config in plan.service.paths:
        if report.spent > SHARE_OF_TIME * plan.seconds:
            report.line(f"{config.name}: left out for time")
            continue
        if images is None or images.geometry.slab_shape[0] != config.side:
            images = CrystalImages(config.side, BACKGROUND)
        for way in (PACKED, PLAIN):
            try:
                with laid(images, config, way, (IN_FLIGHT + 1) * config.n_frame) as ring:
                    if way == PACKED:
                        _decoding(report, plan, config, ring, copy)
                    _path(report, plan, config, way, ring, images, device)
            except (GpuidxError, MemoryError, RuntimeError) as error:
                report.line(f"{config.name}, {way}: not measured: {type(error).__name__}: {error}")
            report.write()


def _decoding(report: Report, plan: Plan, config: Config, ring: Laid, copy: float) -> None:
    """The kernel that decodes, alone, on a batch that lies on the device."""
    import cupy

    frames = [ring.frames[k % len(ring.frames)] for k in range(config.n_frame)]
    work = Work.square(config.side, np.dtype(config.dtype).itemsize, config.n_frame)
    room = ImageBuffer(Sizes(work.n_pixel, work.n_position, 1, 1), config.n_frame)
    pixels, stream = PixelUpload(), cupy.cuda.Stream(non_blocking=True)
    part = pixels.send(room, frames, 0, 0, None, stream)
    room.about.set(room.host_about, stream=stream)
    damaged = cupy.empty(config.n_frame, np.int32)
    ms = median_ms(stream, lambda: pixels.decode(room, part, damaged, stream), plan.repeats)
    if damaged.get(stream=stream).any():
        report.fail(f"decoding: {config.name}: whole frames are called damaged")
    compression = work.frame_bytes / ring.n_byte
    out = rate(work.n_frame * work.frame_bytes, ms)
    moved = rate(decoding_traffic(work, compression).moved, ms)
    report.data["decoding"].append(
        {
            "case": vars(config), "compression": compression, "ms_a_frame": ms / config.n_frame,
            "pixel_bytes_per_s": out, "share": moved / copy if copy else 0.0,
        }
    )  # fmt: skip
    report.line(
        f"{config.name}, decoding alone, compression {compression:.1f}: {ms / config.n_frame:.4f} ms a "
        f"frame, {out / 1e9:.0f} GB/s of pixels, {100 * moved / copy if copy else 0:.0f} % of a copy"
    )


def _path(
    report: Report, plan: Plan, config: Config, way: str, ring: Laid, images: CrystalImages, device: int
) -> None:
    """As fast as it goes, then at `LOAD` of that."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()  # a backend asks the driver how much is free
    own = plan.service
    options = backend_options(config.n_frame, indexing=None, pdb="gpu-check.cell")
    backend = CudaBackend(
        images.geometry, options, images.masks, CELL, device=device, ring=ring.slots.memory,
        compile_for=(config.dtype,),
    )  # fmt: skip
    try:
        feeds = [Feed(ring.descriptors, own.n_frame, own.seconds)]
        _serve(feeds[0], ring, images, backend, options.gpu_max_latency / 1e3)
        feeds.append(Feed(ring.descriptors, own.n_frame, own.seconds, LOAD * feeds[0].frames_per_s))
        _serve(feeds[1], ring, images, backend, options.gpu_max_latency / 1e3)
    finally:
        backend.close()
    fast, steady = feeds
    found = [read_found(ring.slots[slot]) for slot in range(min(N_COMPARED, len(ring.frames)))]
    finder = PeakFinder(images.geometry, PEAK_OPTIONS, images.masks)
    shown = [_frame(images, config, PLAIN, slot) for slot in range(len(found))]
    difference = first_difference(found, [finder.find(frame) for frame in shown])
    if difference:
        report.fail(f"service: {config.name}, {way}: {difference}")
    median, late = np.percentile(1e3 * np.array(steady.latencies or [np.nan]), [50, 99])
    result = {
        "case": vars(config), "way": way, "bytes_a_frame": ring.n_byte, "frames_per_s": fast.frames_per_s,
        "offered_frames_per_s": steady.speed, "median_ms": float(median), "late_ms": float(late),
        "full": fast.counters[FRAMES] / max(1, fast.counters[PLACES]),
        "left_to_cpu": sum(feed.answers.total() - feed.answers[FOUND] for feed in feeds),
        "indexed": sum(bool(one.candidates) for one in found) / len(found),
    }  # fmt: skip
    report.data["service"].append(result)
    has_goal = way == PACKED and config.side in LEAST_FRAMES
    goal = f" (goal {LEAST_FRAMES[config.side]:.0f} on an H200)" if has_goal else ""
    report.line(
        f"{config.name}, {way}, {ring.n_byte / 1e6:.2f} MB a frame: {fast.frames_per_s:.0f} frames/s{goal}, "
        f"batches {100 * result['full']:.0f} % full; at {steady.speed:.0f} frames/s latency {median:.1f} ms "
        f"in the median (goal {MOST_MEDIAN_MS:.0f}), {late:.1f} ms for 99 % (goal {MOST_LATE_MS:.0f}); "
        f"{result['left_to_cpu']} frames left to the CPU"
    )


def _serve(feed: Feed, ring: Laid, images: CrystalImages, backend: CudaBackend, latency: float) -> None:
    from gpuidx.device import Service  # which needs one of the packages of compression

    Service(feed, ring.slots, images.geometry, backend, latency, time.monotonic).run()
