# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell check accepts what trying all matrices accepts, and what CrystFEL accepts."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from indexing.stills import random_turn

from gpuidx.cell import UnitCell, real_axes
from gpuidx.indexing.cell_check import TargetCell, is_sane, shorten_axes, unimodular_matrices
from gpuidx.lattice import primitive_axes, reduce_axes

TOLERANCE = (5.0, 5.0, 5.0, 1.5, 1.5, 1.5)
MATRICES = unimodular_matrices()
CELLS = [
    ((78, 78, 37, 90, 90, 90), "I"), ((96, 96, 96, 90, 90, 90), "F"), ((105, 105, 105, 90, 90, 90), "I"),
    ((130, 52, 61, 90, 104, 90), "C"), ((52, 130, 61, 90, 90, 90), "A"), ((52, 61, 130, 90, 98, 90), "B"),
    ((81, 81, 142, 90, 90, 120), "H"), ((62, 62, 62, 71, 71, 71), "R"), ((45, 45, 45, 100, 100, 100), "R"),
    ((93, 93, 131, 90, 90, 120), "P"), ((51, 63, 77, 82, 74, 69), "P"), ((60, 150, 210, 90, 90, 90), "F"),
    ((60, 150, 210, 90, 90, 90), "I"), ((79, 79, 38, 90, 90, 90), "P"), ((52, 60, 380, 90, 90, 90), "P"),
    ((50.2, 60.1, 50.9, 90, 90.4, 90), "P"), ((5.43, 8.12, 12.19, 90, 90, 90), "P"),
    ((60, 70, 80, 85, 95, 100), "P"),
]  # fmt: skip
IDS = [f"{centering}-{'-'.join(map(str, parameters))}" for parameters, centering in CELLS]


def cell_of(parameters, centering):
    return UnitCell(parameters=tuple(map(float, parameters)), centering=centering)


def some_lattice(cell, rng):
    """Any primitive basis of the target's lattice, strained and turned."""
    mixing = np.eye(3, dtype=int)
    for _ in range(rng.integers(0, 6)):
        i, j = rng.permutation(3)[:2]
        mixing[i] += rng.integers(-2, 3) * mixing[j]
    primitive = primitive_axes(real_axes(cell.parameters), cell.centering)
    amount = rng.choice([1e-4, 0.005, 0.03])
    return mixing @ (primitive * (1 + amount * rng.normal(size=(3, 3)))) @ random_turn(rng), amount


def tried(axes, target, cell):
    """All equally close settings, by trying every matrix."""
    settings = target.to_conventional @ MATRICES @ shorten_axes(np.ascontiguousarray(axes))
    wanted, share, angle = np.array(cell.parameters), np.array(TOLERANCE[:3]) / 100, np.array(TOLERANCE[3:])
    metric = np.einsum("nix,njx->nij", settings, settings)
    length = np.sqrt(np.einsum("nii->ni", metric))
    cosines = (metric / length[:, :, None] / length[:, None, :])[:, [1, 0, 0], [2, 2, 1]]
    fits = (np.abs(length - wanted[:3]) < share * length).all(axis=1)
    fits &= (np.abs(np.degrees(np.arccos(cosines)) - wanted[3:]) <= angle).all(axis=1)
    axes = real_axes(cell.parameters)
    off = metric[fits] - axes @ axes.T
    squares = np.einsum("nii,nii->n", off, off) + 4 * (off[:, [1, 0, 0], [2, 2, 1]] ** 2).sum(axis=1)
    return settings[fits][np.sqrt(squares) <= 1.001 * np.sqrt(squares.min(initial=np.inf))]


@pytest.mark.parametrize(("parameters", "centering"), CELLS, ids=IDS)
def test_accepts_what_trying_every_matrix_accepts(parameters, centering):
    cell = cell_of(parameters, centering)
    target = TargetCell(cell, TOLERANCE)
    rng = np.random.default_rng(sum(map(ord, centering)) + int(sum(parameters)))
    for _ in range(8):
        axes, amount = some_lattice(cell, rng)
        ours, theirs = target.setting(axes), tried(axes, target, cell)
        assert (ours is not None) == (len(theirs) > 0)
        assert ours is not None or amount > 1e-3
        if ours is not None:
            assert min(np.abs(ours - setting).max() for setting in theirs) < 1e-8
            assert np.linalg.det(ours) > 0
            assert target.matches(ours)


@pytest.mark.parametrize(("parameters", "centering"), CELLS, ids=IDS)
def test_gives_the_same_setting_whatever_basis_it_is_given(parameters, centering):
    cell = cell_of(parameters, centering)
    target = TargetCell(cell, TOLERANCE)
    rng = np.random.default_rng(3)
    for _ in range(8):
        axes, _ = some_lattice(cell, rng)
        setting = target.setting(axes)
        for other in (np.array([[1, 1, 0], [0, 1, 0], [0, -1, 1]]) @ axes, reduce_axes(axes)[0]):
            again = target.setting(other)
            assert (again is None) == (setting is None)
            if setting is not None:
                np.testing.assert_allclose(again, setting, atol=1e-6)


def test_chooses_among_the_settings_that_crystfel_chooses_from():
    path = Path(__file__).parents[1] / "data" / "cell_check_crystfel.json.gz"
    accepted, only_ours, n_lattice = 0, 0, 0
    for frozen in json.loads(gzip.decompress(path.read_bytes())):
        cell = cell_of(frozen["parameters"], frozen["centering"])
        target = TargetCell(cell, TOLERANCE)
        for found, crystfel in zip(frozen["found"], frozen["crystfel"], strict=True):
            axes = np.array(found).reshape(3, 3)
            ours = target.setting(axes)
            n_lattice += 1
            only_ours += ours is not None and crystfel is None
            if crystfel is not None:
                assert ours is not None
                theirs = np.array(crystfel).reshape(3, 3)
                assert min(np.abs(setting - theirs).max() for setting in tried(axes, target, cell)) < 0.05
                accepted += 1
    assert accepted > 200
    # CrystFEL's reduced cell is sometimes more than entries -1 to 1 away from the target's
    assert only_ours <= 0.01 * n_lattice


def test_tolerance_is_that_of_the_found_cell():
    target = TargetCell(cell_of((50, 60, 70, 90, 90, 90), "P"), (5, 5, 5, 1.5, 1.5, 1.5))
    for length, fits in ((50 / 0.95 - 0.01, True), (50 / 0.95 + 0.01, False), (47.63, True), (47.61, False)):
        assert target.matches(real_axes((length, 60, 70, 90, 90, 90))) == fits
        assert (target.setting(real_axes((length, 60, 70, 90, 90, 90))) is not None) == fits
    for angle, fits in ((91.49, True), (91.51, False)):
        assert target.matches(real_axes((50, 60, 70, 90, 90, angle))) == fits
    anything = TargetCell(cell_of((50, 60, 70, 90, 90, 90), "P"), (100, 5, 5, 1.5, 1.5, 1.5))
    assert anything.matches(real_axes((5000, 60, 70, 90, 90, 90)))


def test_refuses_what_is_no_cell():
    good = real_axes((50.0, 60.0, 70.0, 80.0, 95.0, 100.0))
    assert is_sane(good)
    assert not is_sane(-good)
    assert not is_sane(np.full((3, 3), np.nan))
    assert not is_sane(np.zeros((3, 3)))
    assert not is_sane(good * np.array([[1.0], [1.0], [np.inf]]))
    assert not is_sane(good * np.array([[1.0], [2e6], [1.0]]))
    assert not is_sane(real_axes((50.0, 60.0, 70.0, 90.0, 90.0, 9.0)))


def test_needs_parameters():
    with pytest.raises(ValueError, match="no parameters"):
        TargetCell(UnitCell(parameters=None), TOLERANCE)


def test_compares_with_3480_matrices():
    matrices = unimodular_matrices()
    assert matrices.shape == (3480, 3, 3)
    assert (np.rint(np.linalg.det(matrices)) == 1).all()
