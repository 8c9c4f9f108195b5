# SPDX-License-Identifier: GPL-3.0-or-later
"""Strains keep a lattice what it is."""

import numpy as np
import pytest

from gpuidx.cell import UnitCell, cell_parameters, real_axes
from gpuidx.indexing.strain import constraint_of_cell, free_constraint, impose_type
from gpuidx.lattice import primitive_axes, reduce_axes, rotations

CELLS = {
    "triclinic": (((51, 63, 77, 82, 74, 69), "P", "*"), 6),
    "monoclinic b": (((50, 60, 70, 90, 104, 90), "C", "b"), 4),
    "monoclinic a": (((50, 60, 70, 104, 90, 90), "P", "a"), 4),
    "orthorhombic": (((60, 150, 210, 90, 90, 90), "F", "*"), 3),
    "tetragonal": (((79, 79, 38, 90, 90, 90), "I", "c"), 2),
    "tetragonal a": (((38, 79, 79, 90, 90, 90), "P", "a"), 2),
    "hexagonal": (((93, 93, 131, 90, 90, 120), "P", "c"), 2),
    "hexagonal b": (((93, 131, 93, 90, 120, 90), "P", "b"), 2),
    "hexagonal H": (((81, 81, 142, 90, 90, 120), "H", "c"), 2),
    "rhombohedral": (((62, 62, 62, 71, 71, 71), "R", "*"), 2),
    "rhombohedral H": (((81, 81, 142, 90, 90, 120), "H", "*"), 2),
    "cubic": (((96, 96, 96, 90, 90, 90), "I", "*"), 1),
}


def cell_of(name):
    (parameters, centering, unique), n_strain = CELLS[name]
    cell = UnitCell(
        parameters=tuple(map(float, parameters)),
        lattice_type=name.split()[0],
        centering=centering,
        unique_axis=unique,
    )
    return cell, n_strain


@pytest.mark.parametrize("name", CELLS)
def test_strains_are_those_that_the_point_group_leaves_alone(name):
    cell, n_strain = cell_of(name)
    constraint = constraint_of_cell(cell)
    assert constraint.strains.shape == (n_strain, 3, 3)
    products = np.einsum("aij,bij->ab", constraint.strains, constraint.strains)
    np.testing.assert_allclose(products, np.eye(n_strain), atol=1e-12)
    np.testing.assert_allclose(constraint.strains, constraint.strains.transpose(0, 2, 1), atol=1e-12)
    reduced, _ = reduce_axes(primitive_axes(constraint.axes, cell.centering))
    inverse = np.linalg.inv(reduced)
    for M in rotations(reduced, 1e-3):
        turn = inverse @ M @ reduced
        for strain in constraint.strains:
            np.testing.assert_allclose(turn @ strain @ turn.T, strain, atol=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_large_strains_keep_the_type_to_the_last_digit(name):
    cell, n_strain = cell_of(name)
    constraint = constraint_of_cell(cell)
    rng = np.random.default_rng(1)
    for _ in range(5):
        deformation = np.eye(3) + np.tensordot(0.05 * rng.normal(size=n_strain), constraint.strains, 1)
        found = cell_parameters(np.linalg.inv(constraint.recip @ deformation).T)
        lattice_type = "hexagonal" if cell.centering == "H" else cell.lattice_type
        unique = "abc".index(cell.unique_axis) if cell.unique_axis in "abc" else 2
        np.testing.assert_allclose(found, impose_type(found, lattice_type, unique), rtol=1e-12)


def test_averages_parameters_that_must_be_equal():
    cell = UnitCell(
        parameters=(79.0, 79.2, 38.0, 90.1, 90.0, 89.9), lattice_type="tetragonal", unique_axis="c"
    )
    found = cell_parameters(constraint_of_cell(cell).axes)
    np.testing.assert_allclose(found, (79.1, 79.1, 38.0, 90.0, 90.0, 90.0), rtol=1e-12)


def test_finds_the_unique_axis_if_the_cell_does_not_say():
    cell = UnitCell(parameters=(38.0, 79.0, 79.0, 90.0, 90.0, 90.0), lattice_type="tetragonal")
    assert len(constraint_of_cell(cell).strains) == 2


def test_warns_about_a_cell_that_contradicts_its_type(caplog):
    cell = UnitCell(parameters=(50.0, 60.0, 70.0, 80.0, 90.0, 90.0), lattice_type="cubic")
    assert len(constraint_of_cell(cell).strains) == 6
    assert "not cubic" in caplog.text


def test_needs_parameters():
    with pytest.raises(ValueError, match="no parameters"):
        constraint_of_cell(UnitCell(parameters=None))


def test_a_free_lattice_may_change_in_six_ways():
    axes = real_axes((51.0, 63.0, 77.0, 82.0, 74.0, 69.0))
    constraint = free_constraint(axes)
    assert len(constraint.strains) == 6
    np.testing.assert_allclose(constraint.recip @ axes.T, np.eye(3), atol=1e-12)
