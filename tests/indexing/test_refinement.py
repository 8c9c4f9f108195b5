# SPDX-License-Identifier: GPL-3.0-or-later
"""Refinement finds the true lattice from a disturbed one."""

import json
from functools import cache

import numpy as np
import pytest
from indexing.stills import FLAT, TILTED, Still, candidate_of, geometry_of, make_still, random_turn

from gpuidx.cell import UnitCell, cell_parameters
from gpuidx.geometry.ewald import shifted_back, spot_on_panel
from gpuidx.indexing.cell_check import TargetCell
from gpuidx.indexing.normal_equations import derivatives
from gpuidx.indexing.observed import spots_of
from gpuidx.indexing.refinement import STRAIN_SIGMA, refine
from gpuidx.indexing.state import State, reciprocal_axes, start, strain_slopes, take_step
from gpuidx.indexing.strain import constraint_of_cell
from gpuidx.lattice import misorientation, primitive_axes, same_lattice
from gpuidx.model import Frame, PeakList

TOLERANCE = (5.0, 5.0, 5.0, 1.5, 1.5, 1.5)
LYSO = UnitCell(parameters=(79.0, 79.0, 38.0, 90.0, 90.0, 90.0), lattice_type="tetragonal", unique_axis="c")
MONO = UnitCell(
    parameters=(90.5, 44.3, 64.2, 90.0, 107.5, 90.0),
    lattice_type="monoclinic",
    centering="C",
    unique_axis="b",
)
TRIC = UnitCell(parameters=(60.0, 70.0, 80.0, 85.0, 95.0, 100.0))
CUBIC = UnitCell(parameters=(78.9,) * 3 + (90.0,) * 3, lattice_type="cubic", centering="I")
CELLS = {"lyso": LYSO, "mono": MONO, "tric": TRIC, "cubic": CUBIC}


@cache
def target_of(cell):
    return TargetCell(cell, TOLERANCE), constraint_of_cell(cell)


def refined(still, cell, *, fit_shift=True, bandwidth=0.0, seed=0, number=0):
    """Refine a disturbed lattice; the state, its conventional axes, and how many peaks were used."""
    candidate = candidate_of(still.axes[number], cell.centering, seed)
    target, constraint = target_of(cell)
    axes = target.setting(candidate.axes)
    state = start(axes, constraint.axes, constraint.strains)
    spots = spots_of(still.frame, still.peaks, bandwidth)
    used = refine(spots, constraint.recip, constraint.strains, state, fit_shift, STRAIN_SIGMA)
    recip = reciprocal_axes(state, constraint.recip, constraint.strains)
    return state, np.linalg.inv(recip).T, used


def errors(axes, true, centering):
    """Angle (degrees) and greatest relative error of a primitive axis (percent)."""
    found, wanted = primitive_axes(axes, centering), primitive_axes(true, centering)
    M = np.rint(found @ np.linalg.inv(wanted))
    assert abs(round(np.linalg.det(M))) == 1
    lengths = np.linalg.norm(found, axis=1) / np.linalg.norm(M @ wanted, axis=1)
    return misorientation(found, M @ wanted), 100 * np.abs(lengths - 1).max()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("fit_shift", [True, False])
def test_derivatives_are_what_differences_give(name, fit_shift):
    cell = CELLS[name]
    constraint = constraint_of_cell(cell)
    geometry = geometry_of(TILTED)
    detector = geometry.detector(0.15)
    rng = np.random.default_rng(4)
    turn = random_turn(rng)
    n_strain = len(constraint.strains)
    strain, shift = 0.02 * rng.normal(size=n_strain), rng.normal(size=2) if fit_shift else np.zeros(2)
    n_unknown = 3 + n_strain + (2 if fit_shift else 0)
    pixels = np.mean(detector.pitch) / detector.pitch
    k = 1 / 1.3

    def observed(step, wavenumber, panel, hkl):
        state = State(turn.copy(), strain.copy(), shift.copy())
        take_step(np.array(step), state)
        recip = reciprocal_axes(state, constraint.recip, constraint.strains)
        back = shifted_back(detector.back, np.outer(pixels, state.shift))
        ray = hkl @ recip + np.array((0, 0, wavenumber))
        return np.array([*spot_on_panel(back[panel], *ray)[1:], np.linalg.norm(ray) - wavenumber])

    state = State(turn, strain, shift)
    recip = reciprocal_axes(state, constraint.recip, constraint.strains)
    slopes = strain_slopes(turn, constraint.recip, constraint.strains)
    back = shifted_back(detector.back, np.outer(pixels, shift))
    J = np.empty((n_unknown + 1, 3))
    for panel in range(len(detector.back)):
        hkl = rng.integers(-8, 9, 3).astype(float)
        derivatives(hkl, recip, slopes, back[panel], pixels[panel], k, J)
        for unknown in range(n_unknown):
            step = np.zeros(n_unknown)
            step[unknown] = 1e-6
            difference = (observed(step, k, panel, hkl) - observed(-step, k, panel, hkl)) / 2e-6
            np.testing.assert_allclose(J[unknown], difference, rtol=1e-5, atol=1e-4)
        zero = np.zeros(n_unknown)
        longer, shorter = k * (1 + 1e-6), k * (1 - 1e-6)
        difference = (observed(zero, longer, panel, hkl) - observed(zero, shorter, panel, hkl)) / 2e-6
        np.testing.assert_allclose(J[-1], difference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("text", [FLAT, TILTED], ids=["flat", "tilted"])
@pytest.mark.parametrize("name", CELLS)
def test_orientation_cell_and_shift_come_out_right(name, text):
    cell, geometry = CELLS[name], geometry_of(text)
    found = []
    for seed in range(12):
        still = make_still(geometry, cell, seed)
        state, axes, used = refined(still, cell, seed=seed)
        assert used > 0.9 * len(still.peaks)
        found.append((*errors(axes, still.axes[0], cell.centering), np.linalg.norm(state.shift)))
    angle, length, shift = np.median(found, axis=0)
    # the tilted panels have larger pixels; a triclinic cell has six strains to find
    coarse = 4 / 3 if text == TILTED else 1.0
    assert angle <= 0.03 * coarse
    assert length <= (0.06 if name == "tric" else 0.05) * coarse
    assert shift <= 0.12


@pytest.mark.parametrize("text", [FLAT, TILTED], ids=["flat", "tilted"])
def test_a_shift_of_the_detector_is_recovered(text):
    geometry = geometry_of(text)
    unit = geometry.detector(0.15).pitch.mean() / 75e-6
    found = []
    for seed in range(12):
        still = make_still(geometry, LYSO, seed, shift=(1.5, -1.0))
        state, axes, _ = refined(still, LYSO, seed=seed)
        found.append((np.linalg.norm(state.shift * unit - (1.5, -1.0)), errors(axes, still.axes[0], "P")[0]))
    off, angle = np.median(found, axis=0)
    assert off <= 0.12
    assert angle <= 0.03


def test_half_of_the_peaks_may_be_spurious():
    geometry = geometry_of()
    found = []
    for seed in range(12):
        still = make_still(geometry, LYSO, seed, n_peak=30, spurious=0.5)
        _, axes, used = refined(still, LYSO, seed=seed)
        assert 25 <= used <= 40
        found.append(errors(axes, still.axes[0], "P"))
    angle, length = np.median(found, axis=0)
    assert angle <= 0.04
    assert length <= 0.06


def test_a_spread_of_wavelengths_does_no_harm_if_it_is_known():
    known, unknown = [], []
    for seed in range(12):
        still = make_still(geometry_of(), TRIC, seed, spread=0.005)
        for bandwidth, found in ((0.003, known), (0.0, unknown)):
            _, axes, used = refined(still, TRIC, seed=seed, bandwidth=bandwidth)
            found.append((errors(axes, still.axes[0], "P")[0], used / len(still.peaks)))
    angle, share = np.median(known, axis=0)
    worse_angle, smaller_share = np.median(unknown, axis=0)
    assert angle <= 0.06
    assert angle < 0.7 * worse_angle
    assert share >= smaller_share
    assert share > 0.95


def test_angles_of_the_lattice_type_stay_exact():
    for name, fixed in (("lyso", (3, 4, 5)), ("mono", (3, 5)), ("cubic", (3, 4, 5))):
        still = make_still(geometry_of(), CELLS[name], 1, strain=0.01)
        _, axes, _ = refined(still, CELLS[name])
        parameters = cell_parameters(axes)
        np.testing.assert_allclose([parameters[i] for i in fixed], 90.0, rtol=1e-12)


def test_the_order_of_the_peaks_does_not_matter():
    still = make_still(geometry_of(), MONO, 2, spurious=0.3)
    _, axes, _ = refined(still, MONO)
    order = np.random.default_rng(0).permutation(len(still.peaks))
    shuffled = Still(still.frame, still.peaks.select(order), still.axes, still.source[order])
    _, again, _ = refined(shuffled, MONO)
    np.testing.assert_allclose(again, axes, rtol=1e-8)


@pytest.mark.parametrize("n_peak", [0, 1, 4])
def test_gives_up_with_fewer_than_five_peaks(n_peak):
    still = make_still(geometry_of(), LYSO, 3)
    few = Still(still.frame, still.peaks.select(np.arange(n_peak)), still.axes, still.source[:n_peak])
    assert refined(few, LYSO)[2] == 0


def test_peaks_that_are_no_numbers_are_left_out():
    still = make_still(geometry_of(), LYSO, 3)
    _, axes, used = refined(still, LYSO)
    peaks = still.peaks
    spoilt = PeakList(
        fs=np.append(peaks.fs, [np.nan, 5.0]),
        ss=np.append(peaks.ss, [5.0, np.inf]),
        panel=np.append(peaks.panel, np.zeros(2, np.int32)),
        intensity=np.append(peaks.intensity, [1.0, 1.0]),
    )
    _, again, used_again = refined(Still(still.frame, spoilt, still.axes, still.source), LYSO)
    assert used_again == used
    np.testing.assert_allclose(again, axes, rtol=1e-9)


TYPES = {
    "lyso": ("tetragonal", "c"), "thau": ("tetragonal", "c"), "psi": ("hexagonal", "c"),
    "insu": ("cubic", "*"), "mono": ("monoclinic", "b"), "p1": ("triclinic", "*"),
    "rhod": ("orthorhombic", "*"), "cys": ("orthorhombic", "*"), "ferr": ("cubic", "*"),
    "rhom": ("hexagonal", "c"), "pseu": ("monoclinic", "b"), "long": ("orthorhombic", "*"),
}  # fmt: skip


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.5, -1.0)])
def test_benchmark_comes_out_right(data_folder, shift):
    with np.load(data_folder / "indexing" / "bench.npz") as file:
        bench = dict(file)
    meta = json.loads(str(bench["meta"]))
    found = []
    for i in np.flatnonzero(bench["set_name"] == "clean"):
        name = str(bench["cell_name"][i])
        form = meta[name]
        kind, unique = TYPES[name]
        centering = "H" if form["centring"] == "R" else form["centring"]
        cell = UnitCell(
            parameters=tuple(map(float, form["cell"])),
            lattice_type=kind,
            centering=centering,
            unique_axis=unique,
        )
        detector = bench_detector(form)
        xy = bench["xy"][bench["offset"][i] : bench["offset"][i + 1]].astype(float) + shift
        frame = Frame(
            serial=1,
            filename="bench",
            event="",
            image=None,
            wavelength=form["wavelength_A"],
            photon_energy=1.0,
            detector=detector,
        )
        peaks = PeakList(
            fs=xy[:, 0].copy(),
            ss=xy[:, 1].copy(),
            panel=np.zeros(len(xy), np.int32),
            intensity=np.ones(len(xy)),
        )
        true = bench["truth"][bench["truth_offset"][i]]
        conventional = np.linalg.inv(primitive_axes(np.eye(3), centering)) @ true
        still = Still(frame, peaks, [conventional], None)
        state, axes, used = refined(still, cell, seed=int(i))
        assert used
        assert same_lattice(primitive_axes(axes, centering), true)[0]
        found.append((*errors(axes, conventional, centering), np.linalg.norm(state.shift + shift)))
    angle, length, off = np.median(found, axis=0)
    assert len(found) == 120
    assert angle <= 0.03
    assert length <= 0.05
    assert off <= 0.12


def bench_detector(form):
    from gpuidx.geometry import parse_geometry

    x, y = form["beam_centre_px"]
    width, height = form["size_px"]
    text = (
        f"wavelength = {form['wavelength_A']} A\nclen = {form['distance_m']} m\nres = {1 / form['pixel_m']}\n"
        f"adu_per_photon = 1\ndata = data\ndim0 = ss\ndim1 = fs\np/min_fs = 0\np/max_fs = {width - 1}\n"
        f"p/min_ss = 0\np/max_ss = {height - 1}\np/corner_x = {-x}\np/corner_y = {-y}\np/fs = x\np/ss = y\n"
    )
    return parse_geometry(text, "bench.geom").detector(form["distance_m"])
