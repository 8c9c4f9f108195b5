# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share: the frames, the reference program, medians."""

import os
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuidx.cell import parse_cell
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.simulation.detector import LYSOZYME
from gpuidx.simulation.files import write_frames
from gpuidx.simulation.frames import SimulatedFrame, Simulator
from gpuidx.simulation.settings import FrameSettings

SIZE = 2048
CLEN = 0.12
PEAK_OPTIONS = ["--peaks=peakfinder8", "--threshold=10", "--min-snr=5"]

GEOMETRY = f"""photon_energy = {{energy}} eV
clen = {{clen}} mm
adu_per_photon = 1
res = 13333.3
data = {{data}}
{{more}}
p/min_fs = 0
p/max_fs = {SIZE - 1}
p/min_ss = 0
p/max_ss = {SIZE - 1}
p/corner_x = {-SIZE / 2 + 0.3}
p/corner_y = {-SIZE / 2 + 0.3}
p/fs = x
p/ss = y
"""
MESSAGE_GEOMETRY = GEOMETRY.format(
    energy="beam_energy", clen="detector_distance", data="detector_data", more=""
)
FILE_GEOMETRY = GEOMETRY.format(
    energy="/entry/energy", clen="/entry/clen", data="/entry/data", more="dim0 = %\ndim1 = ss\ndim2 = fs"
)
SETTINGS: dict[str, Any] = {"clen": CLEN, "seed": 3, "background": (1.0, 4.0), "profile_radius": 0.0002}
PHOTONS = 700.0
"""Of a strong reflection: 60 to 120 peaks a frame."""


@dataclass(frozen=True)
class Frames:
    """Simulated 4-megapixel hits with 60 to 120 peaks, in memory and in a file."""

    geometry: Geometry
    frames: list[SimulatedFrame]
    folder: Path


def make_frames(folder: Path, n_frame: int, dtype: str = "i4", **more: Any) -> Frames:
    """Simulate frames and write them for the reference program."""
    geometry = parse_geometry(FILE_GEOMETRY, "bench.geom")
    cell = parse_cell(LYSOZYME, "bench.cell")
    simulator = Simulator(
        geometry, cell, FrameSettings(**(SETTINGS | {"dtype": dtype, "photons": PHOTONS} | more))
    )
    frames = [simulator.numbered(number) for number in range(n_frame)]
    write_frames(iter(frames), n_frame, folder / "bench", geometry)
    (folder / "bench.geom").write_text(FILE_GEOMETRY)
    (folder / "message.geom").write_text(MESSAGE_GEOMETRY)
    (folder / "bench.cell").write_text(LYSOZYME)
    return Frames(geometry, frames, folder)


def reference(folder: Path, words: list[str]) -> list[dict[str, float]] | None:
    """Run indexamajig on one core over the file; times in ms by stage of each frame, the first left out.

    None if indexamajig is not on PATH.
    """
    program = shutil.which("indexamajig")
    if program is None:
        return None
    command = [
        program, "-i", str(folder / "bench.lst"), "-g", str(folder / "bench.geom"),
        "-o", str(folder / "ref.stream"), "-p", str(folder / "bench.cell"), "-j", "1", "--profile",
        *PEAK_OPTIONS, *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    frames = [line for line in done.stdout.splitlines() if "(process-image" in line]
    return [_stages(line) for line in frames[1:]]


def _stages(line: str) -> dict[str, float]:
    times: dict[str, float] = {}
    for name, seconds in re.findall(r"\(([\w-]+) (\d+\.\d+)", line):
        times[name] = times.get(name, 0.0) + 1e3 * float(seconds)
    return times


def median_stage(frames: list[dict[str, float]] | None, name: str) -> float | None:
    """Median of one stage, ms; None without a reference."""
    if not frames:
        return None
    return statistics.median(frame.get(name, 0.0) for frame in frames)


def row(what: str, ours: float, theirs: float | None, goal: str) -> None:
    """Print a line: ours, theirs, ratio, goal."""
    ratio = f"{theirs / ours:8.1f}" if theirs else f"{'-':>8s}"
    other = f"{theirs:10.2f}" if theirs else f"{'-':>10s}"
    print(f"{what:46s} {ours:9.3f} {other} {ratio}   {goal}", flush=True)


def header(unit: str = "ms") -> None:
    print(f"\n{'':46s} {'gpuidx':>9s} {'CrystFEL':>10s} {'ratio':>8s}   goal ({unit})")


def load() -> str:
    return f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores"
