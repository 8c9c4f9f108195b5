# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of each stage and rates of the whole path, with the bytes that each must move beside them."""

from typing import Any

import numpy as np

from gpu_check.environment import nvidia_smi
from gpu_check.frames import PEAK_OPTIONS, Images, backend_options, in_ring
from gpu_check.parity import first_difference
from gpu_check.plan import Config, Plan, size_name
from gpu_check.report import Report
from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cuda.buffers import Sizes
from gpuidx.backends.cuda.clock import rate
from gpuidx.backends.cuda.ring import Ring, batch_of
from gpuidx.backends.cuda.tables import Tables
from gpuidx.backends.cuda.timing import bus_bandwidth, copy_bandwidth
from gpuidx.backends.cuda.traffic import Work, search_traffic, total, transfer
from gpuidx.errors import BackendError
from gpuidx.measure.device import search_times, tables_of, whole_path
from gpuidx.model import Frame

MARGIN = 25.0
"""Seconds before the end at which no further case begins."""

N_COMPARED = 8


class Bench:
    """What the measurements share: ring, bandwidths, frames of the present size."""

    def __init__(self, report: Report, plan: Plan, device: int) -> None:
        import cupy

        cupy.cuda.Device(device).use()
        self._pool = cupy.get_default_memory_pool()
        self.report, self.plan, self.device = report, plan, device
        self.ring = Ring(plan.ring_bytes)
        self.copy = copy_bandwidth(plan.copy_bytes, plan.repeats)
        self.up, self.down = bus_bandwidth(self.ring.memory[: plan.copy_bytes], plan.repeats)
        self.images: Images | None = None
        self.tables: Tables | None = None
        self.side = 0
        self.filled: tuple[tuple, list[Frame]] | None = None
        report.data["bandwidth"] = {
            "device_copy": self.copy,
            "host_to_device": self.up,
            "device_to_host": self.down,
        }
        report.line(
            f"copy within device memory {self.copy / 1e9:.0f} GB/s (read and written), "
            f"host to device {self.up / 1e9:.1f}, back {self.down / 1e9:.1f} GB/s"
        )
        if self.ring.note:
            report.line(self.ring.note)

    def change_size(self, side: int) -> None:
        """Make the frames and tables of a size."""
        if side == self.side:
            return
        self.side, self.images = side, Images(side)
        frame = self.images.frame(self.images.blanks[0])
        self.tables = tables_of(frame, self.images.geometry, PEAK_OPTIONS, self.images.masks)

    def measure(self, config: Config) -> dict[str, Any]:
        """All figures of a case."""
        self.change_size(config.side)
        frames = self.frames_of(config)
        case = {"case": vars(config) | {"size": size_name(config.side)}}
        stages = self._stages(config, batch_of(frames, config.n_frame, 0))
        self._pool.free_all_blocks()  # a backend asks the driver how much is free
        whole = self._whole(config, frames)
        self._pool.free_all_blocks()
        return case | stages | whole

    def frames_of(self, config: Config) -> list[Frame]:
        """The ring's frames, filled anew if they show something else."""
        key = config.side, config.dtype, config.content
        if self.filled is None or self.filled[0] != key:
            self.filled = key, in_ring(self.ring, self.images, config.content, config.dtype)
        return self.filled[1]

    def _stages(self, config: Config, frames: list[Frame]) -> dict[str, Any]:
        """Copy there, each kernel, copy back: one batch that stays on the device."""
        geometry, tables, masks = self.images.geometry, self.tables, self.images.masks
        sizes = Sizes.of(tables.rect, geometry.slab_shape)
        times = search_times(frames, geometry, tables, PEAK_OPTIONS, masks, self.plan.repeats)
        work = Work(
            n_frame=config.n_frame, n_pixel=sizes.n_pixel, itemsize=np.dtype(config.dtype).itemsize,
            n_position=sizes.n_position, n_place=tables.n_place, n_ring=tables.n_ring, n_panel=sizes.n_panel,
            n_candidate=round(times.n_candidate), n_peak=round(times.n_peak),
            local_bg_radius=PEAK_OPTIONS.local_bg_radius,
        )  # fmt: skip
        traffic, (up, down) = search_traffic(work), transfer(work)
        return {
            "copied_bytes": times.copied,
            "candidates_a_frame": times.n_candidate,
            "peaks_a_frame": times.n_peak,
            "upload": self._stage(times.upload, up, self.up),
            "kernels": {
                name: self._stage(ms, traffic[name].moved, self.copy) for name, ms in times.kernels.items()
            },
            "search": self._stage(times.search, total(traffic).moved, self.copy),
            "download": self._stage(times.download, down, self.down),
        }

    @staticmethod
    def _stage(ms: float, n_byte: float, bandwidth: float) -> dict[str, float]:
        """Of a batch: ms, bytes that must move, bytes per second, and their share of those measured."""
        speed = rate(n_byte, ms)
        return {
            "ms": ms,
            "bytes": n_byte,
            "bytes_per_s": speed,
            "share": speed / bandwidth if bandwidth else 0.0,
        }

    def _whole(self, config: Config, frames: list[Frame]) -> dict[str, Any]:
        """From the ring to peaks on the host, two batches under way; the first peaks against the CPU's."""
        geometry, masks = self.images.geometry, self.images.masks
        options = backend_options(config.n_frame)
        flow, found = whole_path(geometry, options, masks, None, frames, self.plan.flow_frames, self.device)
        finder = PeakFinder(geometry, PEAK_OPTIONS, masks)
        compared = batch_of(frames, config.n_frame, 0)[:N_COMPARED]
        difference = first_difference(found[0][:N_COMPARED], [finder.find(frame) for frame in compared])
        if difference:
            self.report.fail(f"parity: {config.name}: {difference}")
        return {
            "path": {
                "frames_per_s": rate(flow.n_frame, 1e3 * flow.seconds),
                "ms_a_frame": 1e3 * flow.seconds / flow.n_frame,
                "host_ms_a_frame": 1e3 * flow.host / flow.n_frame,
                "waiting_ms_a_frame": 1e3 * flow.waiting / flow.n_frame,
                "over_a_cap": sum(one is None for batch in found for one in batch),
            }
        }


def measure_all(report: Report, plan: Plan, device: int) -> None:
    """Measure the cases of the plan, as many as there is time for."""
    report.title("times and rates")
    bench = Bench(report, plan, device)
    results: list[dict[str, Any]] = []
    report.data["rates"] = results
    left_out = []
    try:
        for config in plan.configs:
            if report.left < MARGIN:
                left_out.append(config.name)
                continue
            try:
                results.append(bench.measure(config))
            except (BackendError, MemoryError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                report.line(f"{config.name}: not measured: {type(error).__name__}: {reason}")
                continue
            _print(report, config, results[-1])
            report.write()
    finally:
        bench.ring.close()
    report.data["rates_left_out"] = left_out
    report.data["nvidia_smi_after"] = nvidia_smi(device)
    if left_out:
        report.line(f"left out for time: {len(left_out)} cases, from {left_out[0]} on")


def _print(report: Report, config: Config, result: dict[str, Any]) -> None:
    """Lines of one case: ms of a frame, GB/s, share of what was measured for copies."""
    n, path = config.n_frame, result["path"]
    report.line(
        f"{config.name}: {path['frames_per_s']:.0f} frames/s, {path['ms_a_frame']:.4f} ms a frame "
        f"(host at work {path['host_ms_a_frame']:.4f}); a frame has {result['candidates_a_frame']:.0f} "
        f"candidates, {result['peaks_a_frame']:.0f} peaks"
    )
    for name, stage in (
        ("upload", result["upload"]), ("search", result["search"]), *result["kernels"].items(),
        ("download", result["download"]),
    ):  # fmt: skip
        shown = f"  {name}" if name in result["kernels"] else name
        report.line(
            f"    {shown:20s} {stage['ms'] / n:9.5f} ms a frame {stage['bytes'] / n / 1e6:9.3f} MB "
            f"{stage['bytes_per_s'] / 1e9:8.1f} GB/s  {100 * stage['share']:5.1f} % of a copy"
        )
