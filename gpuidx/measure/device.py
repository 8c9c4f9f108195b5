# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CUDA device takes for frames: copies, the peak search, the whole path to candidate lattices."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpuidx.backends.cuda.backend import CudaBackend
from gpuidx.backends.cuda.buffers import Sizes
from gpuidx.backends.cuda.clock import median_ms
from gpuidx.backends.cuda.pixels import pixels_of
from gpuidx.backends.cuda.ring import batch_of
from gpuidx.backends.cuda.tables import Tables, make_tables
from gpuidx.backends.cuda.timing import DeviceSearch, Flow, flow_through
from gpuidx.backends.rings import make_rings
from gpuidx.backends.values import float32_rules
from gpuidx.cell import UnitCell
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Found, Frame
from gpuidx.options import Options, PeakOptions


def tables_of(frame: Frame, geometry: Geometry, options: PeakOptions, masks: Masks) -> Tables:
    """Tables of the search for frames like this one."""
    bad = masks.at(frame.detector, frame.wavelength)
    rings = make_rings(frame.detector, geometry.slab_shape, bad, options.min_res, options.max_res)
    return make_tables(rings, sampled=options.peakfinder8_fast)


@dataclass(frozen=True, kw_only=True)
class SearchTimes:
    """Of a batch that stays on the device, medians, ms.

    Attributes
    ----------
    upload, search, download
        Copy there, all kernels, copy back.
    kernels
        Each kernel of the search by name; not that which decodes.
    n_candidate, n_peak
        Candidate pixels and peaks of a frame, means.
    copied
        Bytes that the copies there and back move.
    """

    upload: float
    search: float
    download: float
    kernels: dict[str, float]
    n_candidate: float
    n_peak: float
    copied: tuple[int, int]


def search_times(
    frames: Sequence[Frame],
    geometry: Geometry,
    tables: Tables,
    options: PeakOptions,
    masks: Masks,
    repeats: int,
) -> SearchTimes:
    """Copy a batch there, search it, copy the results back, each again and again."""
    sizes = Sizes.of(tables.rect, geometry.slab_shape)
    on_device = DeviceSearch(tables, sizes, options, float32_rules(masks.rules), len(frames))
    clocked = on_device.kernels(pixels_of(frames[0]).dtype.str[1:], has_rules=False)
    stream = on_device.stream
    upload = median_ms(stream, lambda: on_device.upload(frames), repeats)
    for _ in range(repeats + 1):
        on_device.search(clocked)
    stream.synchronize()
    kernels = clocked.take_times()
    plain = clocked.plain
    search = median_ms(stream, lambda: on_device.search(plain), repeats)
    download = median_ms(stream, on_device.download, repeats)
    n_candidate, n_peak = on_device.counts()
    return SearchTimes(
        upload=upload, search=search, download=download, kernels=kernels, n_candidate=n_candidate,
        n_peak=n_peak, copied=on_device.copied(),
    )  # fmt: skip


def whole_path(
    geometry: Geometry,
    options: Options,
    masks: Masks,
    cell: UnitCell | None,
    frames: Sequence[Frame],
    least_frames: int,
    device: int = 0,
) -> tuple[Flow, list[list[Found | None]]]:
    """From the ring to peaks and lattices on the host, in batches as of a run, two under way."""
    types = (pixels_of(frames[0]).dtype.str[1:],)
    backend = CudaBackend(geometry, options, masks, cell, device=device, compile_for=types)
    try:
        n_frame = backend.batch_size
        n_batch = backend.in_flight + max(4, -(-least_frames // n_frame))
        return flow_through(backend, (batch_of(frames, n_frame, k) for k in range(n_batch)))
    finally:
        backend.close()
