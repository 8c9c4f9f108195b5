# SPDX-License-Identifier: GPL-3.0-or-later
"""Peaks and scattering vectors of the device against those of the CPU, frame by frame and bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gpu_check.cases import Run, all_runs, for_cpu, run_options
from gpu_check.plan import Plan
from gpu_check.report import Report
from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cuda.backend import CudaBackend
from gpuidx.backends.cuda.peakfinder8 import PEAK
from gpuidx.backends.peak_table import peak_list, strongest_first
from gpuidx.model import Found, Frame, PeakList

COLUMNS = ("fs", "ss", "panel", "intensity")
SHARE_OF_TIME = 0.3
"""Of the whole, after which no further case begins."""


@dataclass
class Tally:
    """What was compared."""

    runs: int = 0
    frames: int = 0
    peaks: int = 0
    vectors: int = 0
    over: int = 0
    differences: list[str] = field(default_factory=list)


def check_all(report: Report, plan: Plan, device: int) -> None:
    """Compare every case of the plan that there is time for."""
    report.title("parity: peaks and scattering vectors, CUDA against CPU, bit for bit")
    tally, left_out, until = Tally(), 0, SHARE_OF_TIME * plan.seconds
    for run in all_runs(plan.small, plan.large, plan.groups):
        if report.spent > until:
            left_out += 1
            continue
        try:
            check_run(run, tally, device)
        except Exception as error:  # the device, or the check itself: no parity is shown
            tally.differences.append(f"{run.name}: {type(error).__name__}: {error}")
        tally.runs += 1
        if len(tally.differences) > 10:
            break
    report.data["parity"] = {**vars(tally), "left_out": left_out}
    report.line(
        f"{tally.runs} runs, {tally.frames} frames, {tally.peaks} peaks, {tally.vectors} scattering vectors; "
        f"{tally.over} frames over a cap; {left_out} runs left out for time"
    )
    for text in tally.differences:
        report.fail(f"parity: {text}")
    if not tally.differences:
        report.line("no difference")


def check_run(run: Run, tally: Tally, device: int) -> None:
    """Compare the batches of a run; differences go to the tally."""
    options = run_options(run.options, gpu_batch=max(map(len, run.batches)))
    types = dict.fromkeys(frame.image.dtype.str[1:] for frames in run.batches for frame in frames)
    backend = CudaBackend(run.geometry, options, run.masks, None, device=device, compile_for=tuple(types))
    finder = PeakFinder(run.geometry, run.options, run.masks)
    expected: dict[int, PeakList] = {}
    try:
        for number, frames in enumerate(run.batches):
            for frame in frames:
                if id(frame) not in expected:
                    expected[id(frame)] = finder.find(for_cpu(frame))
            wanted = [expected[id(frame)] for frame in frames]
            _check_batch(backend, frames, wanted, f"{run.name}, batch {number}", run.has_over, tally)
    finally:
        backend.close()


def _check_batch(
    backend: CudaBackend,
    frames: Sequence[Frame],
    wanted: list[PeakList],
    name: str,
    has_over: bool,
    tally: Tally,
) -> None:
    batch = backend.upload(frames)
    backend.find_peaks(batch)
    backend.index(batch)
    buffers, rows = batch.buffers, dict(batch.rows)
    found = backend.results(batch)
    tally.frames += len(frames)
    tally.over += sum(one is None for one in found)
    if has_over and all(one is not None for one in found):
        tally.differences.append(f"{name}: a frame over a cap came back with peaks")
    difference = first_difference(found, wanted)
    if difference:
        tally.differences.append(f"{name}: {difference}")
        return
    tally.peaks += sum(len(one.peaks) for one in found if one is not None)
    counts = buffers.outcome.n_peak.get()
    peaks, vectors = buffers.outcome.peaks.get().view(PEAK), buffers.outcome.q.get()
    for number, frame in enumerate(frames):
        if found[number] is None:
            continue
        row = rows[number]
        n = int(counts[row])
        own = peaks[row, :n]
        positions = peak_list(own["fs"], own["ss"], own["panel"], own["intensity"])
        q = frame.detector.q(positions.panel.astype(np.intp), positions.fs, positions.ss, frame.wavelength)
        q = q[strongest_first(positions.intensity)]
        tally.vectors += n
        if vectors[row, :n].tobytes() != q.tobytes():
            peak = int(np.argmax((vectors[row, :n] != q).any(axis=1)))
            tally.differences.append(
                f"{name}, frame {number}, peak {peak}: q is {vectors[row, peak]}, on the CPU {q[peak]}"
            )
            return


def first_difference(found: Sequence[Found | None], wanted: Sequence[PeakList]) -> str:
    """The first frame and peak that are not the same; empty if all are.  None in *found* is no difference."""
    for number, (one, peaks) in enumerate(zip(found, wanted, strict=True)):
        if one is None or all(
            getattr(one.peaks, c).tobytes() == getattr(peaks, c).tobytes() for c in COLUMNS
        ):
            continue
        n = min(len(one.peaks), len(peaks))
        same = np.ones(n, bool)
        for column in COLUMNS:
            same &= getattr(one.peaks, column)[:n] == getattr(peaks, column)[:n]
        at = int(np.argmin(same)) if not same.all() else n
        theirs, ours = (
            [getattr(each, c)[at].item() for c in COLUMNS] if at < len(each) else "none"
            for each in (peaks, one.peaks)
        )
        return (
            f"frame {number}: {len(one.peaks)} peaks, on the CPU {len(peaks)}; first differing: peak {at} "
            f"({', '.join(COLUMNS)}) is {ours}, on the CPU {theirs}"
        )
    return ""
