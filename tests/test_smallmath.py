# SPDX-License-Identifier: GPL-3.0-or-later
"""Small linear algebra against NumPy's."""

import numpy as np
import pytest

from gpuidx.smallmath import det3, inv3, polar_rotation, solve, solve_in_place


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 11])
def test_solves_positive_systems(n):
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n + 2, n))
    M, b = root.T @ root, rng.normal(size=n)
    before = M.copy(), b.copy()
    np.testing.assert_allclose(solve(M, b), np.linalg.solve(M, b), rtol=1e-7)
    np.testing.assert_array_equal(M, before[0])
    np.testing.assert_array_equal(b, before[1])


def test_reads_only_the_lower_triangle():
    M, b = np.array([[4.0, 99.0], [1.0, 3.0]]), np.array([1.0, 2.0])
    np.testing.assert_allclose(solve(M, b), np.linalg.solve([[4.0, 1.0], [1.0, 3.0]], b))


@pytest.mark.parametrize("M", [np.zeros((2, 2)), np.diag([1.0, -1.0]), np.full((2, 2), np.nan)])
def test_says_when_a_matrix_is_not_positive(M):
    assert np.isnan(solve(M, np.ones(2))).all()
    assert not solve_in_place(M.copy(), np.ones(2))


def test_inverts_and_gives_determinants():
    M = np.random.default_rng(0).normal(size=(3, 3))
    np.testing.assert_allclose(inv3(M), np.linalg.inv(M), rtol=1e-10)
    assert det3(M) == pytest.approx(np.linalg.det(M))


def test_polar_factor_is_the_nearest_rotation():
    rng = np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    F = q + 0.1 * rng.normal(size=(3, 3))
    u, _, vt = np.linalg.svd(F)
    np.testing.assert_allclose(polar_rotation(F), u @ vt, atol=1e-10)
