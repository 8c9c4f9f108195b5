# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a simulated beamtime over ZeroMQ, processed live, compared with the truth, and drawn."""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpuidx.cell import read_cell
from gpuidx.geometry import Geometry, read_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.lattice import primitive_axes, same_lattice
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings
from gpuidx.simulation.truth import FrameTruth, read_truth
from gpuidx.stream.reader import read_stream
from gpuidx.stream.records import StreamChunk
from gpuidx.units import wavelength_of_energy

SEED, HIT_FRACTION = 11, 0.6
GPUIDX = [sys.executable, "-m", "gpuidx"]


class Places(NamedTuple):
    """Places on panels, as pictures want them."""

    fs: np.ndarray
    ss: np.ndarray
    panel: np.ndarray


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, default=2048, help="pixels along a side")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    options = parser.parse_args()
    folder: Path = options.output
    folder.mkdir(exist_ok=True)
    print("Compiling for this machine, once (a minute or two) ...", flush=True)
    subprocess.run([*GPUIDX, "warmup"], check=True)
    seconds = _process(folder, options)
    _summary(folder, options.frames, seconds)
    return 0


def _process(folder: Path, options: argparse.Namespace) -> float:
    """Serve and process; the seconds from the first frame to the end of the run."""
    serve = [*GPUIDX, "simulate", "--serve=rep", f"--frames={options.frames}", f"--size={options.size}"]
    serve += [f"--seed={SEED}", f"--hit-fraction={HIT_FRACTION}", "--memory=4000"]
    serve += [f"--truth={folder / 'truth.jsonl'}", f"--write-geometry={folder / 'demo.geom'}"]
    serve += [f"--write-cell={folder / 'demo.cell'}"]
    print(f"Simulating {options.frames} frames of {options.size} x {options.size} pixels ...", flush=True)
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].strip()
        run = [*GPUIDX, f"--zmq-input={address}", "--zmq-request=next", f"--max-frames={options.frames}"]
        run += ["-g", str(folder / "demo.geom"), "-p", str(folder / "demo.cell"), "-j", str(options.jobs)]
        run += ["-o", str(folder / "demo.stream"), "--peaks=peakfinder8", "--threshold=10", "--min-snr=5"]
        run += ["--min-peaks=10", "--copy-header=truth_id", "--profile"]
        print(" ".join(["gpuidx", *run[len(GPUIDX) :]]), flush=True)
        begun = time.monotonic()
        subprocess.run(run, check=True)
        seconds = time.monotonic() - begun
        server.terminate()
    return seconds


def _summary(folder: Path, n_frame: int, seconds: float) -> None:
    truths = {truth.number: truth for truth in read_truth(folder / "truth.jsonl")}
    with read_stream(folder / "demo.stream") as stream:
        chunks = list(stream.chunks)
    cell = read_cell(str(folder / "demo.cell"))
    true_hits, found, right, false_hits, angles = 0, 0, 0, 0, []
    for chunk in chunks:
        truth = truths[int(chunk.headers["truth_id"])]
        true_hits += truth.hit  # some frames are sent several times
        found += chunk.hit and truth.hit
        false_hits += chunk.hit and not truth.hit
        if chunk.crystals and truth.hit:
            good, angle = _compare(chunk, truth, cell.centering)
            right += good
            angles += [angle] if good else []
    indexed = sum(bool(chunk.crystals) for chunk in chunks)
    picture = _draw(folder, [chunk for chunk in chunks if chunk.crystals][-1])
    print(f"""
Summary
  frames              {len(chunks)} of {n_frame}, {len(chunks) / seconds:.1f} frames/s, start included
  hits                {found} of {true_hits} true hits found, {false_hits} blanks taken for hits
  indexed             {indexed}, {right} of them right: {100 * right / max(true_hits, 1):.1f} % of the hits
  orientation error   {np.median(angles) if angles else float("nan"):.4f} degrees (median)
  stream              {folder / "demo.stream"}
  picture             {picture} (last indexed frame)""")


def _compare(chunk: StreamChunk, truth: FrameTruth, centering: str) -> tuple[bool, float]:
    recip = chunk.crystals[0].recip
    assert recip is not None
    axes = [primitive_axes(np.linalg.inv(r).T, centering) for r in (recip, truth.crystals[0].recip)]
    return same_lattice(*axes)


def _draw(folder: Path, chunk: StreamChunk) -> Path:
    """A picture of a frame with its peaks and predicted spots; the frame is simulated once more."""
    from gpuidx.commands.frame_picture import FrameView, draw

    geometry = read_geometry(str(folder / "demo.geom"))
    settings = FrameSettings(seed=SEED, hit_fraction=HIT_FRACTION)
    simulator = Simulator(geometry, read_cell(str(folder / "demo.cell")), settings)
    frame = simulator.numbered(int(chunk.headers["truth_id"]))
    view = FrameView(
        title=chunk.event,
        geometry=geometry,
        detector=frame.detector,
        wavelength=wavelength_of_energy(frame.truth.photon_energy),
        image=frame.image,
        usable=~Masks(geometry).at(frame.detector, 1.0),
        peaks=_places(chunk.peaks, geometry),
        predicted=(_places(chunk.crystals[0].reflections, geometry),),
    )
    path = folder / "last-indexed.png"
    draw(view, str(path))
    return path


def _places(table: np.ndarray | None, geometry: Geometry) -> Places:
    """Positions of a stream's table, within panels."""
    assert table is not None
    numbers = {panel.name: number for number, panel in enumerate(geometry.panels)}
    panel = np.array([numbers[str(name)] for name in table["panel"]], np.int32)
    least = np.array([(p.min_fs, p.min_ss) for p in geometry.panels])[panel]
    return Places(table["fs"] - least[:, 0], table["ss"] - least[:, 1], panel)


if __name__ == "__main__":
    sys.exit(main())
