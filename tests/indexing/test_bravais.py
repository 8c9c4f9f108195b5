# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattice types and conventional cells from primitive ones in any setting."""

import shutil
import subprocess

import numpy as np
import pytest

from gpuidx.cell import UnitCell, cell_parameters, cell_text, real_axes
from gpuidx.indexing.bravais import conventional_cell, symmetry
from gpuidx.lattice import primitive_axes, reduce_axes

CELLS = {
    "aP": ("triclinic", "P", "*", (60, 70, 80, 85.0, 82.0, 80.0)),
    "aP obtuse": ("triclinic", "P", "*", (60, 70, 80, 95.0, 98.0, 100.0)),
    "mP": ("monoclinic", "P", "b", (50.2, 60.1, 70.9, 90, 100.4, 90)),
    "mC": ("monoclinic", "C", "b", (90.5, 44.3, 64.2, 90, 107.5, 90)),
    "oP": ("orthorhombic", "P", "*", (61, 91, 151, 90, 90, 90)),
    "oC": ("orthorhombic", "C", "*", (61, 91, 151, 90, 90, 90)),
    "oI": ("orthorhombic", "I", "*", (61, 91, 151, 90, 90, 90)),
    "oF": ("orthorhombic", "F", "*", (61, 91, 151, 90, 90, 90)),
    "tP": ("tetragonal", "P", "c", (79, 79, 38, 90, 90, 90)),
    "tI": ("tetragonal", "I", "c", (79, 79, 120, 90, 90, 90)),
    "hP": ("hexagonal", "P", "c", (281, 281, 165, 90, 90, 120)),
    "hR": ("hexagonal", "H", "c", (82.5, 82.5, 34, 90, 90, 120)),
    "hR long": ("hexagonal", "H", "c", (50, 50, 340, 90, 90, 120)),
    "cP": ("cubic", "P", "*", (78.9, 78.9, 78.9, 90, 90, 90)),
    "cI": ("cubic", "I", "*", (78.9, 78.9, 78.9, 90, 90, 90)),
    "cF": ("cubic", "F", "*", (181, 181, 181, 90, 90, 90)),
    "nearly orthorhombic": ("monoclinic", "P", "b", (50.2, 60.1, 50.9, 90, 90.4, 90)),
}


def any_setting(name, seed, noise=0.0):
    """Rows of a primitive cell of the lattice, skewed, turned and perhaps strained."""
    _, centring, _, parameters = CELLS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    axes = primitive_axes(real_axes(parameters), centring) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    while abs(round(np.linalg.det(U := rng.integers(-2, 3, (3, 3))))) != 1:
        pass
    return U @ axes @ (np.eye(3) + noise * rng.normal(size=(3, 3)))


@pytest.mark.parametrize("noise", [0.0, 0.0005])
@pytest.mark.parametrize("name", CELLS)
def test_each_lattice_type_is_found_in_any_setting(name, noise):
    lattice_type, centring, unique, parameters = CELLS[name]
    for seed in range(10):
        axes = any_setting(name, seed, noise)
        cell, K = conventional_cell(axes @ axes.T, 0.008)
        assert (cell.lattice_type, cell.centering, cell.unique_axis) == (lattice_type, centring, unique)
        np.testing.assert_allclose(cell.parameters, parameters, rtol=1e-7 if noise == 0 else 0.005)
        np.testing.assert_allclose(cell_parameters(K @ axes), parameters, rtol=0.01)
        assert abs(np.linalg.det(K)) == pytest.approx({"P": 1, "C": 2, "I": 2, "F": 4, "H": 3}[centring])


def test_the_cell_obeys_its_lattice_type_exactly():
    axes = any_setting("tP", 1, 0.001)
    cell, _ = conventional_cell(axes @ axes.T, 0.012)
    a, b, _, *angles = cell.parameters
    assert a == pytest.approx(b, abs=1e-9)
    np.testing.assert_allclose(angles, 90, atol=1e-9)


def test_the_tolerance_decides_about_nearly_symmetric_lattices():
    axes = any_setting("nearly orthorhombic", 1)
    types = [conventional_cell(axes @ axes.T, tolerance)[0].lattice_type for tolerance in (0.01, 0.02, 0.04)]
    assert types == ["monoclinic", "orthorhombic", "tetragonal"]


def test_rotations_are_a_group_at_any_tolerance():
    orders = set()
    for name in CELLS:
        axes, _ = reduce_axes(any_setting(name, 2, 0.004))
        for tolerance in np.linspace(0.001, 0.04, 14):
            group = symmetry(axes, tolerance)
            members = {M.tobytes() for M in group}
            assert all((M @ N).tobytes() in members for M in group for N in group)
            orders.add(len(group))
    assert orders == {1, 2, 4, 6, 8, 12, 24}


@pytest.mark.parametrize("metric", [np.zeros((3, 3)), -np.eye(3), np.full((3, 3), np.nan), np.ones((3, 3))])
def test_what_is_no_metric_is_refused(metric):
    with pytest.raises(ValueError, match=r"no metric|not three independent"):
        conventional_cell(metric, 0.01)


@pytest.mark.skipif(shutil.which("cell_tool") is None, reason="needs CrystFEL: put its cell_tool on the PATH")
@pytest.mark.parametrize("name", CELLS)
def test_crystfel_reads_the_cell_as_one_of_that_type(name, tmp_path):
    axes = any_setting(name, 3)
    cell, _ = conventional_cell(axes @ axes.T, 0.008)
    assert isinstance(cell, UnitCell)
    (tmp_path / "x.cell").write_text(cell_text(cell))
    done = subprocess.run(
        ["cell_tool", "--uncenter", "x.cell", "-o", "y.cell"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    primitive = cell_parameters(reduce_axes(primitive_axes(real_axes(cell.parameters), cell.centering))[0])
    lines = [line.split() for line in (tmp_path / "y.cell").read_text().splitlines() if " = " in line]
    theirs = {words[0]: float(words[2]) for words in lines if words[0] in ("a", "b", "c", "al", "be", "ga")}
    volumes = [
        abs(np.linalg.det(real_axes(each)))
        for each in (primitive, [theirs[k] for k in ("a", "b", "c", "al", "be", "ga")])
    ]
    assert volumes[1] == pytest.approx(volumes[0], rel=2e-3)
