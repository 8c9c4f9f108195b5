# SPDX-License-Identifier: GPL-3.0-or-later
"""Each stage alone: CPU time, medians over simulated 4-megapixel hits, beside indexamajig's profile.

Decoding is compared with the decompressor instead: see `bench_decoding`.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_common import PEAK_OPTIONS, header, load, make_frames, median_stage, reference, row
from bench_decoding import decoding

from gpuidx.arguments import parse
from gpuidx.cell import parse_cell
from gpuidx.indexing.cell_check import TargetCell
from gpuidx.measure.stages import cpu_ms
from gpuidx.model import Frame, Reflections, Result
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline
from gpuidx.simulation.detector import LYSOZYME

N_REFLECTION = 1000

BRIGHT = {"background": (900.0, 1000.0), "photons": 30000.0}
"""Frames with a background that is far above any threshold."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=50)
    n_frame = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as name:
        _peak_search(Path(name), n_frame)
        _other_searches(Path(name), n_frame)
        _after_peaks(Path(name), n_frame)
    decoding(n_frame)
    return 0


def _pipeline(folder: Path, *more: str) -> Pipeline:
    words = ["-g", "bench.geom", "-p", "bench.cell", "-o", "bench.stream", "-i", "bench.lst", *PEAK_OPTIONS]
    options = parse(Options, [*words, *more], "bench", "")
    frames = make_frames(folder, 1)
    return Pipeline(options, frames.geometry, parse_cell(LYSOZYME, "bench.cell"))


def _peak_search(folder: Path, n_frame: int) -> None:
    pipeline = _pipeline(folder, "--indexing=none")
    print(f"Peak search, {load()}")
    header()
    for dtype, more, what, goal in (
        ("i4", {}, "4M int32, photon counts", "12 times"),
        ("u2", {}, "4M uint16, photon counts", "12 times"),
        ("f4", {}, "4M float32", "5 times"),
        ("u2", BRIGHT, "4M uint16, background of 1000", "5 times"),
    ):
        frames = [f.frame() for f in make_frames(folder, n_frame, dtype, **more).frames]
        theirs = median_stage(reference(folder, ["--indexing=none"]), "peak-search")
        row(what, cpu_ms(lambda frame: pipeline.search([frame]), frames), theirs, goal)


def _other_searches(folder: Path, n_frame: int) -> None:
    zaef = ["--peaks=zaef", "--min-squared-gradient=100", "--min-snr=4", "--peak-radius=3,4,5"]
    print(f"Other searches, {load()}")
    header()
    for what, more, words, stages in (
        ("zaef, 4M uint16, photon counts", {}, zaef, ("peak-search",)),
        ("zaef, background of 1000, all above threshold", BRIGHT, zaef, ("peak-search",)),
        ("zaef, --median-filter=3", {}, [*zaef, "--median-filter=3"], ("peak-search", "median-filter")),
        ("peakfinder9", {}, ["--peaks=peakfinder9", "--min-sig=1.5"], ()),
    ):
        pipeline = _pipeline(folder, "--indexing=none", *words)
        frames = [f.frame() for f in make_frames(folder, n_frame, "u2", **more).frames]
        theirs = reference(folder, ["--indexing=none", *words]) if stages else None
        times = [median_stage(theirs, stage) for stage in stages]
        total = sum(t for t in times if t is not None) or None
        row(what, cpu_ms(lambda frame, pipeline=pipeline: pipeline.search([frame]), frames), total, "")


def _after_peaks(folder: Path, n_frame: int) -> None:
    pipeline = _pipeline(folder)
    made = make_frames(folder, n_frame)
    frames = [f.frame() for f in made.frames]
    found = [pipeline.search([frame])[0] for frame in frames]
    n_peak = [len(f.peaks) for f in found]
    profile = reference(folder, ["--indexing=asdf"])
    print(f"\nAfter the peak search: {min(n_peak)} to {max(n_peak)} peaks a frame, {load()}")
    header()
    given = [replace(frame, peaks=f.peaks) for frame, f in zip(frames, found, strict=True)]
    indexed = sum(bool(f.candidates) for f in found)
    row(
        f"known-cell trials ({indexed} of {n_frame} indexed)",
        cpu_ms(lambda frame: pipeline.search([frame]), given),
        median_stage(profile, "asdf"),
        "at most 4; 30 times",
    )
    target = TargetCell(parse_cell(LYSOZYME, "bench.cell"), pipeline.options.tolerance)
    axes = [f.candidates[0].axes for f in found if f.candidates]
    row(
        "cell check",
        cpu_ms(target.setting, axes),
        median_stage(profile, "prerefine-cell-check"),
        "at most 0.1",
    )
    accept, pairs = pipeline.acceptance, [(g, f) for g, f in zip(given, found, strict=True) if f.candidates]
    assert accept is not None
    row(
        "cell check, refinement, peak check, radius",
        cpu_ms(lambda pair: accept.crystals(pair[0], pair[1].peaks, pair[1].candidates), pairs),
        None,
        "",
    )
    crystals = [(g, accept.crystals(g, f.peaks, f.candidates)) for g, f in pairs]
    crystals = [pair for pair in crystals if pair[1]]
    measured = [pipeline.integrator.measure(*pair) for pair in crystals]
    n_spot = int(np.median([len(m[0].reflections or ()) for m in measured]))
    row(
        f"prediction and integration ({n_spot} reflections)",
        cpu_ms(lambda pair: pipeline.integrator.measure(*pair), crystals),
        median_stage(profile, "integration"),
        "at most 1",
    )
    place = memoryview(bytearray(1 << 22))
    results = [
        _thousand(pipeline, pair[0], f, m) for pair, f, m in zip(crystals, found, measured, strict=False)
    ]
    row(
        f"text of a chunk, {N_REFLECTION} reflections",
        cpu_ms(lambda result: pipeline.write(result, place), results),
        None,
        "at most 0.5",
    )


def _thousand(pipeline: Pipeline, frame: Frame, found: object, crystals: tuple) -> Result:
    """A result with a thousand reflections: those of the crystal again and again."""
    reflections = crystals[0].reflections
    index = np.resize(np.arange(len(reflections)), N_REFLECTION)
    arrays = {
        name: getattr(reflections, name)[index]
        for name in ("hkl", "intensity", "sigma", "peak", "background", "fs", "ss", "panel")
    }
    many = Reflections(**arrays, n_saturated=0, n_implausible=0)
    result = pipeline.finish(frame, found)
    return replace(result, crystals=(replace(crystals[0], reflections=many),))


if __name__ == "__main__":
    sys.exit(main())
