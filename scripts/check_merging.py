# SPDX-License-Identifier: GPL-3.0-or-later
"""Merges a stream of gpuidx with CrystFEL's own programs, and fails on any complaint of theirs.

Without --stream, the stream is written from simulated crystals: true lattices, intensities as counted.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from gpuidx import __version__
from gpuidx.cell import parse_cell
from gpuidx.geometry import parse_geometry
from gpuidx.model import Crystal, PeakList, Reflections, Result
from gpuidx.options import OutputOptions
from gpuidx.simulation.crystal import Crystals, Spots
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.frames import SimulatedFrame, Simulator
from gpuidx.simulation.settings import FrameSettings
from gpuidx.stream.chunk import ChunkWriter
from gpuidx.stream.head import head_bytes
from gpuidx.stream.reader import read_stream

COMPLAINT = re.compile(
    r"warn|error|fail|bad |invalid|incomplete|too much|too many|couldn't|can't|could not|cannot|corrupt"
    r"|duplicate|unrecogni|not found|no such|problem",
    re.IGNORECASE,
)
SETTINGS = FrameSettings(photons=1500.0, scale_spread=0.3)
PEAK_PHOTONS, PIXELS_OF_A_SPOT = 60, 29
LEAST_CORRELATION = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", type=Path, help="the stream to merge")
    parser.add_argument("--crystals", type=int, default=100, help="how many to simulate, without --stream")
    parser.add_argument("--symmetry", default="4/mmm", help="point group of the merged data")
    parser.add_argument("--true-symmetry", default="4/m", help="lower point group, for ambigator")
    options = parser.parse_args()
    missing = [name for name in ("process_hkl", "partialator", "ambigator") if shutil.which(name) is None]
    if missing:
        print(f"CrystFEL's programs must be on PATH; {', '.join(missing)} not found", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        stream = options.stream.resolve() if options.stream else Path(folder) / "simulated.stream"
        if not options.stream:
            _write_stream(stream, options.crystals)
        n_crystal = _count(stream)
        accepted = [_run(command, Path(folder)) for command in _commands(stream, options)]
        good = all(accepted)
        good &= _merged(Path(folder) / "merged.hkl", n_crystal, compare=not options.stream)
        good &= _count(Path(folder) / "resolved.stream") == n_crystal
    print("accepted by all three" if good else "NOT accepted")
    return 0 if good else 1


def _commands(stream: Path, options: argparse.Namespace) -> list[list[str]]:
    high, low = options.symmetry, options.true_symmetry
    given = ["-i", str(stream)]
    return [
        [*f"process_hkl -o merged.hkl -y {high} --scale".split(), *given],
        # Its "delta CC½" calls the outliers of a statistic "bad crystals": nothing to do with the stream.
        [*f"partialator -o refined.hkl -y {high} -n 1 -m xsphere --no-deltacchalf --no-logs".split(), *given],
        [*f"ambigator -o resolved.stream -y {low} -w {high}".split(), str(stream)],
    ]


def _run(command: list[str], folder: Path) -> bool:
    """Run a program; whether it ended well and said nothing that looks like a complaint."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = re.split(r"[\r\n]+", done.stdout + done.stderr)
    complaints = [line for line in lines if COMPLAINT.search(line)]
    print(f"{' '.join(command)}: exit code {done.returncode}, {len(complaints)} complaints")
    for line in [*dict.fromkeys(complaints)][:20]:
        print("    " + line)
    if done.returncode != 0:
        print("    " + "\n    ".join(lines[-10:]))
    return done.returncode == 0 and not complaints


def _count(stream: Path) -> int:
    """Crystals in a stream, every line of which must be understood."""
    with read_stream(stream) as file:
        return sum(len(chunk.crystals) for chunk in file.chunks)


def _merged(path: Path, n_crystal: int, compare: bool) -> bool:
    """Whether reflections were merged, and those of simulated crystals resemble the truth."""
    rows = re.findall(r"^ *(-?\d+) +(-?\d+) +(-?\d+) +(\S+) +- +\S+ +(\d+)", path.read_text(), re.MULTILINE)
    values = np.array(rows, float)
    print(
        f"{n_crystal} crystals, {len(values)} merged reflections, {values[:, 4].mean():.1f} measurements each"
    )
    if not compare:
        return len(values) > 0
    crystals = Crystals(parse_cell(LYSOZYME, "built-in cell"), SETTINGS)
    truth = crystals.intensities(values[:, :3].astype(np.int32))
    correlation = np.corrcoef(truth, values[:, 3])[0, 1]
    print(f"correlation with the true intensities {correlation:.3f}, at least {LEAST_CORRELATION}")
    return len(values) > 0 and bool(correlation > LEAST_CORRELATION)


def _write_stream(path: Path, n_crystal: int) -> None:
    geometry = parse_geometry(default_geometry(1024), "built-in geometry")
    cell = parse_cell(LYSOZYME, "built-in cell")
    simulator = Simulator(geometry, cell, SETTINGS)
    writer = ChunkWriter(geometry, OutputOptions())
    buffer = memoryview(bytearray(1 << 24))
    with path.open("wb") as file:
        file.write(head_bytes(__version__, ["scripts/check_merging"], geometry, cell, None))
        for number in range(n_crystal):
            result = _result(simulator.numbered(number), number + 1)
            file.write(buffer[: writer.write(result, buffer)])


def _result(frame: SimulatedFrame, serial: int) -> Result:
    """What a perfect indexer and integrator would say of a frame."""
    (crystal,) = frame.truth.crystals
    spots, q = crystal.spots, crystal.spots.hkl @ crystal.recip
    bright = np.flatnonzero(spots.counts >= PEAK_PHOTONS)
    resolution = float(np.sort(np.linalg.norm(q[bright], axis=1))[-3])
    return Result(
        frame=frame.frame(serial),
        inv_d=np.linalg.norm(q[bright], axis=1),
        peaks=PeakList(
            fs=spots.fs[bright],
            ss=spots.ss[bright],
            panel=spots.panel[bright],
            intensity=spots.counts[bright].astype(float),
        ),
        hit=True,
        peak_resolution=resolution,
        n_tries=1,
        crystals=(
            Crystal(
                recip=crystal.recip,
                lattice_type="tetragonal",
                centering="P",
                unique_axis="c",
                score=100.0,
                shift=(0.0, 0.0),
                profile_radius=SETTINGS.profile_radius,
                resolution_limit=resolution,
                residuals={"final_residual": (1.0, 0.5, 0.25, 0.25)},
                reflections=_reflections(spots, frame.truth.number),
            ),
        ),
    )


def _reflections(spots: Spots, seed: int) -> Reflections:
    background = np.full(len(spots), 2.0)
    noise = np.random.default_rng(seed).normal(0.0, np.sqrt(PIXELS_OF_A_SPOT * background))
    intensity = spots.counts + noise
    return Reflections(
        hkl=spots.hkl,
        intensity=intensity,
        sigma=np.sqrt(spots.counts + PIXELS_OF_A_SPOT * background),
        peak=0.2 * spots.counts + 4.0,
        background=background,
        fs=spots.fs,
        ss=spots.ss,
        panel=spots.panel,
        n_saturated=0,
        n_implausible=0,
    )


if __name__ == "__main__":
    sys.exit(main())
