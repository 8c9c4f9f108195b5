# SPDX-License-Identifier: GPL-3.0-or-later
"""Which reflections are excited, where they fall, and how strong they are: against a few lines of NumPy."""

import itertools

import numpy as np
import pytest

from gpuidx.cell import UnitCell, real_axes
from gpuidx.errors import CellFileError
from gpuidx.simulation.crystal import Crystals, random_rotation
from gpuidx.simulation.settings import CrystalSettings
from gpuidx.units import wavelength_of_energy

WAVELENGTH = wavelength_of_energy(9000.0)
CELL = UnitCell(parameters=(30.0, 30.0, 45.0, 90.0, 90.0, 90.0), lattice_type="tetragonal", unique_axis="c")


def expected_spots(recip, geometry, reach, allowed=lambda hkl: True):
    """hkl: (panel number, fs, ss), for points within *reach* of the Ewald sphere; slow and plain."""
    wavenumber = 1 / WAVELENGTH
    found = {}
    for hkl in itertools.product(range(-15, 16), repeat=3):
        q = np.array(hkl) @ recip
        ray = q + np.array([0, 0, wavenumber])
        if hkl == (0, 0, 0) or abs(np.linalg.norm(ray) - wavenumber) > reach or not allowed(hkl):
            continue
        for number, panel in enumerate(geometry.panels):
            clen = geometry.clen.value * panel.res
            corner = [panel.corner_x, panel.corner_y, clen]
            t, fs, ss = np.linalg.solve(
                np.stack([ray, -np.array(panel.fs), -np.array(panel.ss)], axis=1), corner
            )
            if t > 0 and 0 <= fs < panel.width and 0 <= ss < panel.height:
                found[hkl] = (number, fs, ss)
                break
    return found


def spots_of(geometry, cell, settings, recip, bandwidth=1e-8):
    crystals = Crystals(cell, settings)
    return crystals.spots(recip, geometry.detector(geometry.clen.value), WAVELENGTH, bandwidth, 1.0)


def random_recip(cell, seed):
    axes = real_axes(cell.parameters) @ random_rotation(np.random.default_rng(seed)).T
    return np.linalg.inv(axes).T


@pytest.mark.parametrize("seed", range(3))
def test_spots_are_where_a_plain_formula_has_them(tilted, seed):
    recip = random_recip(CELL, seed)
    settings = CrystalSettings(profile="sphere", profile_radius=0.002)
    spots = spots_of(tilted, CELL, settings, recip)
    expected = expected_spots(recip, tilted, 0.002)
    found = {
        tuple(hkl): values
        for hkl, *values in zip(spots.hkl.tolist(), spots.panel, spots.fs, spots.ss, strict=True)
    }
    assert len(found) > 20
    assert found.keys() == expected.keys()
    for hkl, values in expected.items():
        assert found[hkl] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    ("centering", "allowed"),
    [
        ("I", lambda hkl: sum(hkl) % 2 == 0),
        ("C", lambda hkl: (hkl[0] + hkl[1]) % 2 == 0),
        ("F", lambda hkl: len({i % 2 for i in hkl}) == 1),
        ("H", lambda hkl: (-hkl[0] + hkl[1] + hkl[2]) % 3 == 0),
    ],
)
def test_centring_leaves_out_its_reflections(tilted, centering, allowed):
    cell = UnitCell(parameters=CELL.parameters, centering=centering)
    recip = random_recip(cell, 5)
    spots = spots_of(tilted, cell, CrystalSettings(profile="sphere", profile_radius=0.002), recip)
    expected = expected_spots(recip, tilted, 0.002, allowed)
    assert {tuple(hkl) for hkl in spots.hkl.tolist()} == expected.keys()


@pytest.mark.parametrize("profile", ["gaussian", "sphere"])
def test_partiality_falls_with_the_distance_from_the_sphere(tilted, profile):
    recip, radius = random_recip(CELL, 1), 0.0015
    spots = spots_of(tilted, CELL, CrystalSettings(profile=profile, profile_radius=radius), recip)
    ray = spots.hkl @ recip + [0, 0, 1 / WAVELENGTH]
    error = np.linalg.norm(ray, axis=1) - 1 / WAVELENGTH
    expected = {"gaussian": np.exp(-0.5 * (error / radius) ** 2), "sphere": 1 - (error / radius) ** 2}
    np.testing.assert_allclose(spots.partiality, expected[profile], atol=1e-6)


def test_wide_spectrum_moves_spots_to_where_they_are_brightest(tilted):
    recip, radius, bandwidth = random_recip(CELL, 2), 0.001, 0.02
    spots = spots_of(tilted, CELL, CrystalSettings(profile_radius=radius), recip, bandwidth)
    k0 = 1 / WAVELENGTH
    k = k0 * np.linspace(0.9, 1.1, 4001)
    detector = tilted.detector(tilted.clen.value)
    assert len(spots) > 50
    for i in range(0, len(spots), 7):
        q = spots.hkl[i] @ recip
        error = k - np.linalg.norm(q + k[:, None] * [0, 0, 1], axis=1)
        brightness = np.exp(-0.5 * (error / radius) ** 2 - 0.5 * ((k / k0 - 1) / bandwidth) ** 2)
        if brightness.max() < 0.01:
            continue
        best = q + np.array([0, 0, k[brightness.argmax()]])
        scale, fs, ss = detector.back[spots.panel[i]] @ best
        assert spots.fs[i] == pytest.approx(fs / scale, abs=0.3)
        assert spots.ss[i] == pytest.approx(ss / scale, abs=0.3)


def whole_intensities(geometry, cell, settings, seeds=range(40)):
    values = {}
    for seed in seeds:
        spots = spots_of(geometry, cell, settings, random_recip(cell, seed))
        whole = spots.photons / spots.partiality
        values.update(zip(map(tuple, spots.hkl.tolist()), whole.tolist(), strict=True))
    return values


def test_intensity_is_the_same_in_every_frame_and_follows_wilson(tilted):
    settings = CrystalSettings(photons=100.0, b_factor=10.0, symmetry="friedel")
    values = whole_intensities(tilted, CELL, settings)
    recip = random_recip(CELL, 0)
    hkl = np.array(list(values))
    reduced = np.array(list(values.values())) / (
        100.0 * np.exp(-0.5 * 10.0 * np.linalg.norm(hkl @ recip, axis=1) ** 2)
    )
    assert len(reduced) > 900
    assert reduced.mean() == pytest.approx(1.0, abs=0.1)
    assert np.mean(reduced > 1.0) == pytest.approx(np.exp(-1), abs=0.05)
    again = whole_intensities(tilted, CELL, settings, range(40, 60))
    common = values.keys() & again.keys()
    assert len(common) > 100
    assert [values[hkl] for hkl in common] == pytest.approx([again[hkl] for hkl in common])


def test_equivalent_reflections_are_equally_strong(tilted):
    values = whole_intensities(tilted, CELL, CrystalSettings(photons=100.0, b_factor=0.0))
    friedel = whole_intensities(
        tilted, CELL, CrystalSettings(photons=100.0, b_factor=0.0, symmetry="friedel")
    )
    n_mate, n_turned = 0, 0
    for (h, k, ell), value in values.items():
        if (-h, -k, -ell) in values:
            assert values[-h, -k, -ell] == pytest.approx(value)
            assert friedel[-h, -k, -ell] == pytest.approx(friedel[h, k, ell])
            n_mate += 1
        if (-k, h, ell) in values and h and h != k:
            assert values[-k, h, ell] == pytest.approx(value)
            assert friedel[-k, h, ell] != pytest.approx(friedel[h, k, ell])
            n_turned += 1
    assert n_mate > 100
    assert n_turned > 100


def test_other_structure_other_intensities(tilted):
    one = whole_intensities(tilted, CELL, CrystalSettings(structure_seed=1), range(3))
    other = whole_intensities(tilted, CELL, CrystalSettings(structure_seed=2), range(3))
    assert abs(np.corrcoef([one[hkl] for hkl in one], [other[hkl] for hkl in one])[0, 1]) < 0.25


def test_resolution_limit_is_kept(tilted):
    recip = random_recip(CELL, 3)
    spots = spots_of(tilted, CELL, CrystalSettings(resolution=4.0), recip)
    assert len(spots) > 0
    assert np.linalg.norm(spots.hkl @ recip, axis=1).max() <= 0.25


def test_orientations_are_uniform():
    rng = np.random.default_rng(0)
    R = np.array([random_rotation(rng) for _ in range(3000)])
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(R), 1.0)
    np.testing.assert_allclose(R.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose((R**2).mean(axis=0), 1 / 3, atol=0.03)


def test_cell_without_parameters_is_refused():
    with pytest.raises(CellFileError, match="cell parameters"):
        Crystals(UnitCell(parameters=None), CrystalSettings())
