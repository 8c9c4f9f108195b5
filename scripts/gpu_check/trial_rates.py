# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of the indexing trials alone, and the rate of the whole path from pixels to lattices."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from backends.device_trials import angles_between, device_trials, difference, start
from backends.peak_lists import simulated

from gpu_check.frames import CELL, CrystalImages, backend_options, in_ring
from gpu_check.plan import Config, Plan, TrialPlan
from gpu_check.report import Report
from gpu_check.trial_lists import cells_of
from gpuidx.backends.constants import SAME_ANGLE
from gpuidx.backends.cpu.trials import Trials
from gpuidx.backends.cuda.clock import rate
from gpuidx.backends.cuda.ring import Ring, batch_of
from gpuidx.backends.cuda.trial_timing import TimedTrials, TrialTimes
from gpuidx.backends.known_cell import shift_sigma
from gpuidx.errors import BackendError
from gpuidx.measure.device import whole_path
from gpuidx.model import Found, Frame

SHARE_OF_TIME = 0.75
"""Of the whole, after which nothing more begins."""

GOAL_PEAKS, GOAL_BATCH = 100, 64
MOST_HIT_MS, MOST_ALONE_MS, LEAST_FRAMES = 0.08, 2.0, 2000.0
"""Goals: ms a hit in such batches, ms of a frame alone, frames/s of the whole path; on an H200."""

KINDS: dict[str, dict[str, Any]] = {
    "hits": {},
    "1 % bandwidth": {"bandwidth": 0.005},
    "random": {"spurious": 1.0},
}
"""Lists that end with their first attempt, mostly; with some attempts; with none, after all retries."""


def measure_all(report: Report, plan: Plan, device: int) -> None:
    """Measure as much as there is time for, the goals' cases first."""
    import cupy

    report.title("indexing trials: times and rates")
    cupy.cuda.Device(device).use()
    report.data["trial_rates"] = results = []
    for name, kind, n_peak, n_list in _cases(plan.trials):
        if _is_late(report, plan):
            report.line("the other cases are left out for time")
            break
        try:
            result = measure_lists(name, kind, n_peak, n_list, plan.trials.repeats)
        except (BackendError, MemoryError, RuntimeError) as error:
            report.line(f"{name}, {kind}: not measured: {type(error).__name__}: {error}")
            continue
        finally:
            device_trials.cache_clear()
        if result is not None:
            results.append(result)
            _print_lists(report, result)
            if len(results) == 1:  # the case of the goals
                _print_kernels(report, result)
    report.write()
    _measure_paths(report, plan, device)


def _is_late(report: Report, plan: Plan) -> bool:
    return report.spent > SHARE_OF_TIME * plan.seconds


def _goal_case(plan: TrialPlan) -> tuple[int, int]:
    return plan.peaks[0], plan.batches[0]


def _cases(plan: TrialPlan) -> Iterator[tuple[str, str, int, int]]:
    """Cell, kind, peaks of a list, lists of a batch: the case of the goals in all ways, then the table."""
    n_peak, n_list = _goal_case(plan)
    for kind in plan.kinds:
        yield plan.rate_cell, kind, n_peak, n_list
    for n_list in plan.batches:
        for n_peak in plan.peaks:
            if (n_peak, n_list) != _goal_case(plan):
                yield plan.rate_cell, "hits", n_peak, n_list
    for name in cells_of(plan):
        if name != plan.rate_cell:
            yield name, "hits", *_goal_case(plan)


def measure_lists(cell_name: str, kind: str, n_peak: int, n_list: int, repeats: int) -> dict[str, Any] | None:
    """Times of a batch of made-up lists, as a run tries them; None if the cell gives no lists so long."""
    import cupy

    lists = [simulated(cell_name, seed, n_peaks=n_peak, **KINDS[kind]) for seed in range(min(n_list, 64))]
    if max(len(one.q) for one in lists) < n_peak:
        return None
    lists = [lists[k % len(lists)] for k in range(n_list)]
    own = device_trials(cell_name, retry=True, most_frames=n_list)
    stream = cupy.cuda.Stream(non_blocking=True)
    batch = start(own, [one.q for one in lists], [one.shift_sigma for one in lists], stream)
    own.finish(batch, stream)
    n_indexed = sum(len(candidates) > 0 for candidates, _ in own.results(batch))
    times = TimedTrials(own, batch, stream).measure(repeats)
    return {
        "cell": cell_name, "kind": kind, "n_peak": n_peak, "n_list": n_list, "indexed": n_indexed,
        "ms_a_list": times.device / n_list, "wall_ms_a_list": times.wall / n_list, "times": asdict(times),
    }  # fmt: skip


def _print_lists(report: Report, result: dict[str, Any]) -> None:
    times, n = TrialTimes(**result["times"]), result["n_list"]
    goal = ""
    if result["kind"] == "hits" and n in (1, GOAL_BATCH) and result["n_peak"] == GOAL_PEAKS:
        goal = f" (goal {MOST_ALONE_MS if n == 1 else MOST_HIT_MS} on an H200)"
    report.line(
        f"{result['cell']:5s} {result['kind']}, {result['n_peak']} peaks, x{n}: "
        f"{result['ms_a_list']:.4f} ms a list on the device, {result['wall_ms_a_list']:.4f} by the clock"
        f"{goal}; {result['indexed']} indexed, {times.rounds} rounds; first round: {times.first_round:.3f} "
        f"ms, {times.launches} launches, {times.enqueue:.3f} ms of the host to enqueue"
    )


def _print_kernels(report: Report, result: dict[str, Any]) -> None:
    times, n = TrialTimes(**result["times"]), result["n_list"]
    total = sum(times.kernels.values())
    for name, ms in times.kernels.items():
        share = 100 * ms / total if total else 0.0
        report.line(f"    {name:22s} {ms:9.4f} ms a round {1e3 * ms / n:9.3f} µs a list {share:5.1f} %")


def _measure_paths(report: Report, plan: Plan, device: int) -> None:
    """The whole path, several sizes of batches."""
    report.data["trial_paths"] = results = []
    ring = Ring(plan.ring_bytes)
    images: CrystalImages | None = None
    try:
        for config in plan.trials.paths:
            if _is_late(report, plan):
                report.line(f"path, {config.name}: left out for time")
                continue
            if images is None or images.geometry.slab_shape[0] != config.side:
                images = CrystalImages(config.side)
                frames = in_ring(ring, images, config.content, config.dtype)
            try:
                results.append(measure_path(report, plan, device, config, images, frames))
            except (BackendError, MemoryError, RuntimeError) as error:
                report.line(f"path, {config.name}: not measured: {type(error).__name__}: {error}")
                continue
            _print_path(report, config, results[-1])
    finally:
        ring.close()


def measure_path(
    report: Report, plan: Plan, device: int, config: Config, images: CrystalImages, frames: list[Frame]
) -> dict[str, Any]:
    """From page-locked memory to candidate lattices on the host; the first batch against the CPU."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()  # a backend asks the driver how much is free
    options = backend_options(config.n_frame, indexing=None, pdb="gpu-check.cell")
    flow, found = whole_path(images.geometry, options, images.masks, CELL, frames, plan.flow_frames, device)
    own = Trials(CELL, options)
    differing = [
        text
        for frame, one in zip(batch_of(frames, config.n_frame, 0), found[0], strict=True)
        if one is not None and (text := _differing(own, frame, one))
    ]
    for text in differing[:5]:
        report.fail(f"trials: path, {config.name}: {text}")
    all_found = [one for batch in found for one in batch if one is not None]
    return {
        "case": vars(config),
        "frames_per_s": rate(flow.n_frame, 1e3 * flow.seconds),
        "ms_a_frame": 1e3 * flow.seconds / flow.n_frame,
        "host_ms_a_frame": 1e3 * flow.host / flow.n_frame,
        "waiting_ms_a_frame": 1e3 * flow.waiting / flow.n_frame,
        "indexed": sum(bool(one.candidates) for one in all_found) / len(all_found),
        "peaks_a_hit": float(np.mean([len(one.peaks) for one in all_found if one.candidates] or [0.0])),
    }


def _differing(own: Trials, frame: Frame, found: Found) -> str:
    """How the candidates of a frame differ from the CPU's, from the same peaks; empty if not."""
    peaks = found.peaks
    q = frame.detector.q(peaks.panel.astype(np.intp), peaks.fs, peaks.ss, frame.wavelength)
    q = q[np.argsort(-peaks.intensity, kind="stable")]
    sigma = shift_sigma(frame.detector, frame.wavelength)
    expected = own.index(q, sigma) if len(q) else ([], 0)
    result = found.candidates or (), found.n_tries
    differing = difference(result, expected)
    if not differing and max(angles_between(result[0], expected[0]), default=0.0) > SAME_ANGLE:
        return "another lattice than on the CPU"
    return differing


def _print_path(report: Report, config: Config, result: dict[str, Any]) -> None:
    report.line(
        f"path, {config.name}: {result['frames_per_s']:.0f} frames/s from pixels to candidate lattices "
        f"(goal {LEAST_FRAMES:.0f} at 4M, 16 bit, on an H200), {result['ms_a_frame']:.4f} ms a frame "
        f"(host at work {result['host_ms_a_frame']:.4f}); {100 * result['indexed']:.0f} % indexed, "
        f"{result['peaks_a_hit']:.0f} peaks a hit"
    )
