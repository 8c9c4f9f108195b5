# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured peak lists index, with the lattices that others found in them."""

from itertools import pairwise

import numpy as np
import pytest
from backends.peak_lists import nearest

from gpuidx.backends.constants import ATTEMPTS
from gpuidx.backends.cpu.score import count_indexed
from gpuidx.backends.cpu.search import attempt
from gpuidx.backends.cpu.trials import Trials
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.backends.known_cell import shift_sigma
from gpuidx.cell import UnitCell, cell_parameters, parse_cell, read_cell
from gpuidx.geometry import parse_geometry
from gpuidx.lattice import misorientation, primitive_axes
from gpuidx.options import IndexOptions
from gpuidx.stream.reader import read_stream
from gpuidx.units import wavelength_of_energy

ONE_TRY = IndexOptions(retry=False)
SHIFT_SIGMA = 5e-4  # Å⁻¹; of the measured lists only q is known

REFERENCE = np.array([(39.431, 25.274, 63.585), (28.514, 60.643, -41.787), (-29.096, 20.499, 9.895)])
"""Published orientation of image 0."""

N_INDEXED = {"local": (237, 277), "peakfinder8": (734, 808), "radial": (458, 478)}
"""Well-indexed peaks, fewest and most, of each spot finder's lists."""

FRAMES = {
    "cspad_thermolysin": "cspad_thermolysin",
    "rayonix": "rayonix_mx340",
    "sim_lysozyme_ed": "electron",
    "thau_3_2_0001": "pilatus6m_thaumatin",
    "thaumatin_grid": "pilatus6m_thaumatin",
}
"""Streams of real frames, and the folders of their cells."""


@pytest.fixture(scope="module")
def lysozyme(data_folder):
    """Trials, and the lists by name."""
    with np.load(data_folder / "indexing" / "real_lysozyme.npz") as file:
        z = {name: file[name] for name in file.files}
    a, b, c, al, be, ga = map(float, z["cell"])
    ends = pairwise(z["offset"])
    lists = {
        str(name): z["q"][begin:end].astype(float) for name, (begin, end) in zip(z["name"], ends, strict=True)
    }
    return Trials(UnitCell(parameters=(a, b, c, al, be, ga)), ONE_TRY), lists


def test_all_measured_lysozyme_lists_index(lysozyme):
    trials, lists = lysozyme
    assert len(lists) == 30
    for name, q in lists.items():
        (candidate,), _ = trials.index(q, SHIFT_SIGMA)
        peaks, _ = usable_peaks(q)
        n_indexed, _, _ = count_indexed(peaks, candidate.axes, candidate.shift)
        fewest, most = N_INDEXED[name.split("_")[1]]
        assert candidate.score > 800, name
        assert 0.95 * fewest <= n_indexed <= 1.05 * most, name
        assert np.linalg.norm(candidate.axes, axis=1) == pytest.approx([36.75, 78.45, 78.45], abs=0.2)
        assert np.linalg.det(candidate.axes) > 0
        image = int(name[5])
        which, angle = nearest(candidate.axes, REFERENCE[None])
        # each image is turned by a further 0.075 degrees
        assert which == 0
        assert angle < (0.6 if image <= 2 else 0.4 + 0.08 * image), name


def test_measured_lysozyme_lists_hold_one_lattice(lysozyme):
    trials, lists = lysozyme
    several = Trials(UnitCell(parameters=cell_parameters(trials.cell.primitive)), IndexOptions(multi=True))
    for name in ("image0_local", "image4_radial", "image9_peakfinder8"):
        candidates, n_tries = several.index(lists[name], SHIFT_SIGMA)
        assert (len(candidates), n_tries) == (1, 2)


def lists_of(path, cell=None):
    """The stream's cell unless one is given; of each frame q, the shift's sigma, and the true lattices."""
    with read_stream(path) as stream:
        geometry = parse_geometry(stream.geometry, "stream")
        cell = cell or parse_cell(stream.cell, "stream")
        number = {panel.name: i for i, panel in enumerate(geometry.panels)}
        offset = np.mean([panel.coffset for panel in geometry.panels])
        frames = []
        for chunk in stream.chunks:
            if chunk.peaks is None or len(chunk.peaks) == 0:
                continue
            detector = geometry.detector(chunk.camera_length - offset)
            wavelength = wavelength_of_energy(chunk.photon_energy)
            panel = np.array([number[str(name)] for name in chunk.peaks["panel"]])
            position = np.stack([chunk.peaks["fs"], chunk.peaks["ss"]], 1) - detector.origin[panel]
            q = detector.q(panel, position[:, 0].copy(), position[:, 1].copy(), wavelength)
            truth = [primitive_axes(np.linalg.inv(c.recip).T, cell.centering) for c in chunk.crystals]
            frames.append(
                (q[np.argsort(-chunk.peaks["intensity"])], shift_sigma(detector, wavelength), truth)
            )
    return cell, frames


def test_lattices_of_the_receptor_stream_are_found_again(data_folder):
    cell, frames = lists_of(data_folder / "streams" / "crystfel_tests_5HT2B_xgandalf_0.9.1.stream.gz")
    trials = Trials(cell, ONE_TRY)
    n_true = n_found = n_accepted = 0
    for q, sigma, truth in frames:
        for true in truth:
            n_true += 1
            n_found += is_found(trials, q, sigma, true)
            candidates, _ = trials.index(q, sigma)
            n_accepted += any(is_near(c.axes, true) for c in candidates)
    assert n_true == 25
    assert n_found >= 24
    assert n_accepted >= 22


def test_lattices_of_the_lysozyme_stream_are_found_again(data_folder):
    cell, frames = lists_of(data_folder / "streams" / "reciprocalspaceship_pal_lysozyme_0.9.0.stream.gz")
    trials = Trials(cell, ONE_TRY)
    for q, sigma, (true,) in frames:
        candidates, _ = trials.index(q, sigma)
        assert any(is_near(c.axes, true) for c in candidates)
    assert len(frames) == 3


@pytest.mark.parametrize("name", FRAMES)
def test_real_frames_index_as_in_crystfel(data_folder, name):
    (cell_file,) = (data_folder / "images" / FRAMES[name]).glob("*.cell")
    stream = data_folder / "streams" / "from_frames" / f"{name}.stream.gz"
    cell, frames = lists_of(stream, read_cell(cell_file))
    trials = Trials(cell, ONE_TRY)
    assert frames
    for q, sigma, truth in frames:
        (candidate,), _ = trials.index(q, sigma)
        assert truth
        assert any(is_near(candidate.axes, true) for true in truth)


def is_near(axes, true, degrees=1.2):
    """Whether a basis is that of a lattice, whose published angles may be off by a degree."""
    M = np.rint(axes @ np.linalg.inv(true))
    return abs(round(np.linalg.det(M))) == 1 and misorientation(axes, M @ true) < degrees


def is_found(trials, q, sigma, true):
    """Whether one of the attempts finds a lattice, whatever its score."""
    peaks, length = usable_peaks(q)
    buffer = np.empty(50000, "f4")
    return any(
        is_near(attempt(peaks, length, trials.cell.tables, anchor, kind, sigma, buffer)[1], true)
        for anchor, kind in ATTEMPTS
    )
