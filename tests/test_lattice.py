# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattice mathematics: reduction, rotations, comparing bases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.cell import cell_parameters, real_axes
from gpuidx.lattice import (
    PRIMITIVE,
    misorientation,
    nearest_rotation,
    primitive_axes,
    reduce_axes,
    rotations,
    same_lattice,
)

LENGTH = st.floats(4.0, 400.0)
ANGLE = st.floats(60.0, 120.0)
SMALL = st.integers(-6, 6)


def rotation(axis, degrees):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    K = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def sheared(axes, *times):
    """The same lattice on rows to which multiples of others are added, one after another."""
    for n, (i, j) in zip(times, [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)], strict=True):
        axes = axes.copy()
        axes[i] += n * axes[j]
    return axes


@st.composite
def bases(draw):
    parameters = (draw(LENGTH), draw(LENGTH), draw(LENGTH), draw(ANGLE), draw(ANGLE), draw(ANGLE))
    cosines = np.cos(np.radians(parameters[3:]))
    if not 1 + 2 * cosines.prod() - (cosines**2).sum() > 0.05:
        parameters = (*parameters[:3], 90.0, 90.0, 90.0)
    return real_axes(parameters)


@pytest.mark.parametrize(
    ("centring", "volume"),
    [("P", 1), ("A", 2), ("B", 2), ("C", 2), ("I", 2), ("F", 4), ("R", 1), ("H", 3)],
)
def test_primitive_cells_are_smaller_by_the_number_of_lattice_points(centring, volume):
    assert np.linalg.det(PRIMITIVE[centring]) == pytest.approx(1 / volume)


def test_hexagonal_axes_of_a_rhombohedral_lattice_give_the_obverse_setting():
    rows = primitive_axes(real_axes((82.5, 82.5, 34.0, 90, 90, 120)), "H")
    a, b, c, al, be, ga = cell_parameters(rows)
    assert (a, b, al, be) == pytest.approx((c, c, ga, ga))
    hkl = np.round(PRIMITIVE["H"] @ (1, 0, 1), 9)  # -h + k + l = 3n is allowed, so this is
    np.testing.assert_array_equal(hkl, [1, 0, 0])


@given(bases(), st.lists(SMALL, min_size=6, max_size=6))
def test_reduction_undoes_any_shear(axes, times):
    reduced, U = reduce_axes(axes)
    skewed = sheared(axes, *times)
    again, U_again = reduce_axes(skewed)
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), np.linalg.norm(reduced, axis=1), rtol=1e-5)
    assert abs(round(np.linalg.det(U))) == abs(round(np.linalg.det(U_again))) == 1
    np.testing.assert_allclose(U_again @ skewed, again)
    assert np.linalg.det(again) > 0


@given(bases())
def test_no_short_combination_is_shorter_than_the_reduced_rows(axes):
    reduced, _ = reduce_axes(axes)
    length = np.linalg.norm(reduced, axis=1)
    assert (np.diff(length) >= -1e-6 * length[0]).all()
    grid = np.array([(i, j, k) for i in range(-2, 3) for j in range(-2, 3) for k in range(-2, 3)])
    for row in range(3):
        others = grid[grid[:, row] != 0]
        assert np.linalg.norm(others @ reduced, axis=1).min() >= length[row] * (1 - 1e-6)


@pytest.mark.parametrize(
    "parameters", [(79, 79, 38, 90, 90, 90), (281, 281, 165, 90, 90, 120), (60, 70, 80, 85, 95, 100)]
)
def test_choice_among_equal_cells_does_not_depend_on_orientation(parameters):
    axes = real_axes(parameters)
    _, U = reduce_axes(axes)
    for angle in range(10, 360, 35):
        _, turned = reduce_axes(axes @ rotation((1, 2, 3), angle))
        np.testing.assert_array_equal(turned, U)


def test_left_handed_rows_are_turned_over():
    reduced, U = reduce_axes(-real_axes((60, 70, 80, 85, 95, 100)))
    assert np.linalg.det(reduced) > 0
    assert round(np.linalg.det(U)) == -1


@pytest.mark.parametrize("axes", [np.zeros((3, 3)), np.ones((3, 3)), np.full((3, 3), np.nan)])
def test_refuses_rows_that_span_no_space(axes):
    with pytest.raises(ValueError, match="not three independent vectors"):
        reduce_axes(axes)


@pytest.mark.parametrize(
    ("parameters", "centring", "count"),
    [
        ((60, 70, 80, 85, 95, 100), "P", 1),
        ((90.5, 44.3, 64.2, 90, 107.5, 90), "C", 2),
        ((61, 91, 151, 90, 90, 90), "P", 4),
        ((82.5, 82.5, 34, 90, 90, 120), "H", 6),
        ((79, 79, 38, 90, 90, 90), "P", 8),
        ((281, 281, 165, 90, 90, 120), "P", 12),
        ((181, 181, 181, 90, 90, 90), "F", 24),
    ],
)
def test_rotations_are_those_of_the_lattice(parameters, centring, count):
    reduced, _ = reduce_axes(primitive_axes(real_axes(parameters), centring))
    M = rotations(reduced, 1e-3)
    assert len(M) == count
    known = {m.tobytes() for m in M}
    assert all((m @ n).tobytes() in known for m in M for n in M)
    for m in M:
        F = np.linalg.solve(reduced, m @ reduced)
        np.testing.assert_allclose(F @ F.T, np.eye(3), atol=1e-9)


def test_pseudo_symmetry_shows_at_a_coarser_tolerance():
    reduced, _ = reduce_axes(real_axes((50.2, 60.1, 50.9, 90, 90.4, 90)))
    assert [len(rotations(reduced, tolerance)) for tolerance in (1e-3, 0.02, 0.05)] == [2, 4, 8]


def test_misorientation_is_the_angle_of_the_turn_between_two_bases():
    axes = real_axes((60, 70, 80, 85, 95, 100))
    for angle in (0.0, 0.01, 0.7, 90.0, 179.0):
        assert misorientation(axes @ rotation((1, -2, 0.5), angle), axes) == pytest.approx(angle, abs=1e-6)


def test_misorientation_ignores_a_pure_strain():
    axes = real_axes((60, 70, 80, 85, 95, 100))
    strain = np.eye(3) + 0.01 * np.array([[1, 0.5, 0], [0.5, -1, 0.2], [0, 0.2, 0.4]])
    assert misorientation(axes @ strain, axes) == pytest.approx(0.0, abs=1e-5)


def test_same_lattice_in_another_setting_is_recognised():
    axes = real_axes((60, 70, 80, 85, 95, 100))
    found = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]) @ axes @ rotation((3, 1, 2), 0.5)
    same, angle = same_lattice(found, axes)
    assert same
    assert angle == pytest.approx(0.5)


@pytest.mark.parametrize("M", [np.diag([2, 1, 1]), np.eye(3) * 1.3])
def test_another_lattice_is_not_the_same(M):
    axes = real_axes((60, 70, 80, 85, 95, 100))
    assert same_lattice(M @ axes, axes) == (False, 180.0)


def test_rows_of_the_other_hand_describe_the_same_lattice():
    axes = real_axes((60, 70, 80, 85, 95, 100))
    same, angle = same_lattice(-axes, axes)
    assert same
    assert angle == pytest.approx(0.0, abs=1e-6)


def test_a_lattice_turned_by_more_than_a_degree_is_another():
    axes = real_axes((79, 79, 38, 90, 90, 90))
    same, angle = same_lattice(axes @ rotation((0, 0, 1), 1.5), axes)
    assert not same
    assert angle == pytest.approx(1.5)


def test_nearest_rotation_is_never_a_reflection():
    F = np.diag([1.0, 1.0, -0.01]) @ rotation((1, 1, 1), 20)
    assert np.linalg.det(nearest_rotation(F)) == pytest.approx(1.0)
