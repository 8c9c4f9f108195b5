# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages of the trials, each against a few lines of plain Python that say what it should give."""

import itertools
import math

import numpy as np
import pytest
from backends.peak_lists import simulated, trials

from gpuidx.backends.constants import DIRECT, PAIRS, SAME_ANGLE
from gpuidx.backends.cpu.cell_fit import fit_cell, strain
from gpuidx.backends.cpu.normal import fill_cell, fill_turn, sum_up
from gpuidx.backends.cpu.orient import refine_orientation, turn_step
from gpuidx.backends.cpu.scan import best_places, find_directions, scan_scores
from gpuidx.backends.cpu.score import agree, count_indexed, is_strong, likelihood
from gpuidx.backends.cpu.search import attempt
from gpuidx.backends.cpu.turn import find_orientations, frame_about
from gpuidx.backends.cpu.vectors import direct_vectors, pair_vectors, usable_peaks
from gpuidx.lattice import misorientation, same_lattice


@pytest.fixture(scope="module")
def frame():
    """A list, its usable peaks and the true rows in the setting of the reduced cell."""
    true = simulated("p1", 3, n_peaks=80, noise=0.2)
    peaks, length = usable_peaks(true.q)
    known = trials("p1").cell
    return true, peaks, length, known.U @ true.truth[0]


def turned(rows, axis, radians):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    K = np.cross(np.eye(3), axis)
    return rows @ (np.eye(3) + math.sin(radians) * K + (1 - math.cos(radians)) * K @ K)


def plain_likelihood(q, rows, shift, sigma, n_axes=3):
    hkl = (q - (*shift, 0)) @ rows.T
    square = ((hkl - np.rint(hkl)) ** 2).sum(1)
    density = np.exp(-square / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma) ** n_axes
    return np.log(0.5 + 0.5 * density).sum()


def test_useless_peaks_are_left_out():
    q = np.array([[0.1, 0, 0], [np.nan, 0, 0], [0, 0, 0], [0, np.inf, 0], [0, 0.05, 0], [1e300, 0, 0]])
    peaks, length = usable_peaks(q)
    np.testing.assert_array_equal(length, [0.05, 0.1])
    np.testing.assert_array_equal(peaks, [[0, 0.1], [0.05, 0], [0, 0], [1, 1]])


def test_order_of_peaks_does_not_depend_on_how_they_came():
    rng = np.random.default_rng(1)
    q = np.concatenate([rng.normal(size=(40, 3)), np.array(list(itertools.product([-0.1, 0.1], repeat=3)))])
    expected, _ = usable_peaks(q)
    for _ in range(5):
        peaks, length = usable_peaks(rng.permutation(q))
        np.testing.assert_array_equal(peaks, expected)
        assert (np.diff(length) >= 0).all()


@pytest.mark.parametrize("n_peaks", [5, 60, 150])
def test_pairs_are_the_shortest_of_all_differences(n_peaks):
    rng = np.random.default_rng(n_peaks)
    peaks, _ = usable_peaks(rng.normal(size=(n_peaks, 3)) * 0.2)
    points = np.concatenate([peaks[:3].T, np.zeros((1, 3))])
    every = [(np.linalg.norm(a - b), i) for i, (a, b) in enumerate(itertools.combinations(points, 2))]
    origin = {i for i, (a, b) in enumerate(itertools.combinations(range(n_peaks + 1), 2)) if b == n_peaks}
    limits = np.array([0.1, 0.2, 0.4])
    vectors, level = pair_vectors(peaks, 0.02, 0.35, limits, 30, 100)
    expected = sorted(e for e in every if 0.02 <= e[0] < 0.35)
    counts = [sum(e[0] < limit for e in expected) for limit in limits]
    enough = min(30, counts[-1])
    assert level == next(k for k in range(3) if counts[k] >= enough)
    expected = [e for e in expected if e[0] < limits[level]][:100]
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=0), [e[0] for e in expected])
    np.testing.assert_array_equal(vectors[3], [1.5 if e[1] in origin else 1.0 for e in expected])


def test_many_peaks_overflow_nothing():
    rng = np.random.default_rng(0)
    peaks, _ = usable_peaks(rng.normal(size=(2048, 3)) * 0.2)
    vectors, _ = pair_vectors(peaks, 0.0, 10.0, np.array([10.0]), 256, 256)
    nearest = np.sort(
        np.concatenate([np.linalg.norm(peaks[:3, :i].T - peaks[:3, i], axis=1) for i in range(2048)])
    )[:256]
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=0), nearest, rtol=1e-9)


def test_direct_vectors_take_the_lowest_level_that_has_enough():
    peaks, length = usable_peaks(np.array([[0.01 * k, 0, 0] for k in range(1, 101)]))
    limits = np.array([0.105, 0.205, 0.505])
    for need, n_expected, level_expected in ((5, 9, 0), (10, 19, 1), (60, 40, 2)):
        vectors, level = direct_vectors(peaks, length, 0.015, limits, need, 40)
        assert (vectors.shape[1], level) == (n_expected, level_expected)
    _, level = direct_vectors(peaks[:, :15].copy(), length[:15], 0.015, limits, 60, 40)
    assert level == 1


def test_scan_scores_follow_their_formula():
    rng = np.random.default_rng(2)
    vectors = np.concatenate([rng.normal(size=(3, 50)) * 8, rng.choice([1.0, 1.5], (1, 50))]).astype("f4")
    grid = rng.normal(size=(3, 3000))
    grid = (grid / np.linalg.norm(grid, axis=0)).astype("f4")
    scores = np.empty(1500, "f4")
    scan_scores(vectors, grid, 700, scores)
    p = grid[:, 700:2200].T.astype(float) @ vectors[:3]
    expected = np.maximum(0, vectors[3] * (1 - 16 * (p - np.rint(p)) ** 2)).sum(1)
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-4)


def test_best_places_are_in_order_with_ties_by_the_lower_place():
    scores = np.array([1, 5, 3, 5, 0, 4, 5, 2], "f4")
    np.testing.assert_array_equal(best_places(scores, 5), [1, 3, 6, 5, 2])
    np.testing.assert_array_equal(best_places(np.array([0, 2, 0], "f4"), 5), [1])


def test_true_anchor_is_among_the_directions(frame):
    _, peaks, length, rows = frame
    t = trials("p1").cell.tables
    anchor = np.linalg.norm(rows[0])
    first, end = t.grid_start[1:3]
    vectors, _ = direct_vectors(peaks, length, 0.0, np.array([12 / anchor]), 1, 192)
    directions = find_directions(vectors, anchor, t.grid, first, 12.0, np.empty(end - first, "f4"))
    cosine = np.abs(directions @ rows[0]) / anchor / np.linalg.norm(directions, axis=1)
    assert np.degrees(np.arccos(min(1.0, cosine.max()))) < 0.3
    assert len(directions) <= 20


def test_frame_about_an_axis_is_right_handed():
    for axis in ((0, 0, 2.0), (0, 0, -3.0), (1, 2, 0.1), (-4, 0, 0)):
        rows = frame_about(np.array(axis, float))
        np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rows) == pytest.approx(1)
        np.testing.assert_allclose(rows[2], np.array(axis) / np.linalg.norm(axis))


def test_turn_finds_the_orientation_about_the_true_anchor(frame):
    _, peaks, _, rows = frame
    t = trials("p1").cell.tables
    for sign in (1, -1):
        found = find_orientations(
            peaks, sign * rows[:1].copy(), t.local[0], True, t.cosine[: t.turn_steps[0, -1]],
            t.sine[: t.turn_steps[0, -1]],
        )  # fmt: skip
        assert misorientation(found[0], rows) < 1.0
        assert (np.linalg.det(found) > 0).all()


def test_maxima_of_the_turn_are_no_neighbours(frame):
    _, peaks, _, rows = frame
    t = trials("p1").cell.tables
    steps = t.turn_steps[0, -1]
    found = find_orientations(peaks, rows[:1].copy(), t.local[0], False, t.cosine[:steps], t.sine[:steps])
    assert len(found) == 2
    assert misorientation(found[0], found[1]) > 1.5 * 360 / steps


@pytest.mark.parametrize("n", [3, 5])
def test_normal_equations_of_a_turn_are_those_of_the_derivatives(frame, n):
    _, peaks, _, rows = frame
    V, shift = turned(rows, (1, 2, 3), 0.002), np.array([1e-4, -2e-4])
    sums, M, right = np.empty((4, 7)), np.empty((n, n)), np.empty(n)
    count = sum_up(peaks, V, shift, 0.3, 0.3, sums)
    fill_turn(V, sums, M, right)
    q = peaks[:3].T - (*shift, 0)
    hkl = q @ V.T
    d = hkl - np.rint(hkl)
    square = (d**2).sum(1)
    used = (square <= 0.09) & ((q**2).sum(1) <= 0.09)
    assert count == used.sum() > 10
    J = [np.cross(V[None], q[:, None])[..., u] for u in range(3)]
    J += [np.broadcast_to(-V[:, u], d.shape) for u in range(n - 3)]
    J = np.stack(J, -1)[used]
    w = (1 - square / 0.09)[used]
    expected = np.einsum("i,iku,ikv->uv", w, J, J)
    lower = np.tril_indices(n)
    np.testing.assert_allclose(M[lower], expected[lower], rtol=1e-9, atol=1e-9 * abs(expected).max())
    np.testing.assert_allclose(right, -np.einsum("i,iku,ik->u", w, J, d[used]), rtol=1e-9)


def test_normal_equations_of_the_cell_are_those_of_the_derivatives(frame):
    _, peaks, _, rows = frame
    V, shift = rows @ (np.eye(3) + 0.003 * np.arange(9).reshape(3, 3) / 8), np.zeros(2)
    sums, M, right = np.empty((4, 7)), np.empty((9, 9)), np.empty(9)
    sum_up(peaks, V, shift, 1e9, 0.25, sums)
    fill_cell(V, sums, M, right)
    q = peaks[:3].T
    hkl = q @ V.T
    d = hkl - np.rint(hkl)
    w = np.maximum(0, 1 - (d**2).sum(1) / 0.0625)
    J = np.einsum("ia,kb->ikab", q, V).reshape(len(q), 3, 9)
    expected = np.einsum("i,iku,ikv->uv", w, J, J)
    np.testing.assert_allclose(M, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
    np.testing.assert_allclose(right, -np.einsum("i,iku,ik->u", w, J, d), rtol=1e-8, atol=1e-9)


def test_turn_steps_find_back_to_the_lattice(frame):
    _, peaks, _, rows = frame
    V, shift = turned(rows, (1, -1, 2), 0.004), np.zeros(2)
    for _ in range(6):
        turn_step(peaks, V, shift, 1e9, 0.35, 1.0, 0.0)
    assert misorientation(V, rows) < 0.06
    np.testing.assert_allclose(V @ V.T, rows @ rows.T, rtol=1e-9)
    assert not shift.any()


def test_shift_of_the_beam_is_found_with_the_orientation(frame):
    true, peaks, length, rows = frame
    moved = peaks.copy()
    offset = true.shift_sigma / 1.5 * np.array([1.2, -0.8])
    moved[:2] += offset[:, None]
    V, shift = turned(rows, (1, -1, 2), 0.003), np.zeros(2)
    refine_orientation(V, shift, moved, moved, length[-1], 0.2, 28.0, (0.05 / true.shift_sigma) ** 2)
    np.testing.assert_allclose(shift, offset, atol=0.25 * true.shift_sigma)


def test_strain_is_zero_for_a_turned_cell_and_linear_for_a_stretched_one(frame):
    *_, rows = frame
    inverse = np.linalg.inv(rows @ rows.T)
    np.testing.assert_allclose(strain(turned(rows, (1, 2, 3), 0.7), inverse), 0, atol=1e-12)
    stretch = np.diag([0.01, 0, -0.02])
    np.testing.assert_allclose(
        strain(rows @ (np.eye(3) + stretch), inverse), stretch + stretch**2 / 2, atol=1e-12
    )


def test_a_wrong_cell_is_fitted(frame):
    _, peaks, length, rows = frame
    nominal = rows @ (np.eye(3) + np.diag([0.01, -0.01, 0.005]))
    inverse = np.linalg.inv(nominal @ nominal.T)
    score, V = fit_cell(nominal, np.zeros(2), peaks, length[-1], inverse, 80.0)
    np.testing.assert_allclose(np.linalg.norm(V, axis=1), np.linalg.norm(rows, axis=1), rtol=2e-3)
    assert score > 0.9 * likelihood(peaks, rows, np.zeros(2), 3)


@pytest.mark.parametrize("n_peaks", [1, 31, 32, 33, 600])
def test_likelihood_follows_its_formula(n_peaks):
    rng = np.random.default_rng(n_peaks)
    rows, shift = rng.normal(size=(3, 3)) * 40, rng.normal(size=2) * 1e-3
    q = rng.normal(size=(n_peaks, 3)) * 0.2
    hkl = np.rint(q @ rows.T) + rng.normal(size=(n_peaks, 3)) * rng.choice([0.02, 0.3], (n_peaks, 1))
    q = np.linalg.solve(rows, hkl.T).T + np.append(shift, 0)
    peaks = np.concatenate([q.T, np.ones((1, n_peaks))])
    each = [plain_likelihood(q, rows, shift, sigma) for sigma in (0.12, 0.06, 0.03)]
    for n in (1, 2, 3):
        assert likelihood(peaks, rows, shift, n) == pytest.approx(max(each[:n]), rel=1e-9)
    for n_axes in (1, 2):
        each = [plain_likelihood(q, rows, shift, sigma, n_axes) for sigma in (0.12, 0.06, 0.03)]
        assert likelihood(peaks, rows, shift, 3, n_axes) == pytest.approx(max(each), rel=1e-9)


def test_indexed_peaks_are_counted(frame):
    _, peaks, _, rows = frame
    hkl = peaks[:3].T @ rows.T
    well = (np.abs(hkl - np.rint(hkl)) < 0.2).all(1)
    assert count_indexed(peaks, rows, np.zeros(2)) == (well.sum(), True, 3)


@pytest.mark.parametrize(
    ("hkl", "enough"),
    [
        ([(1, 2, 3)] * 50, False),
        ([(n, 2 * n, -n) for n in range(1, 30)], False),
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1)] * 20, False),
        ([(0, 0, 0), (1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 4, 0)], False),
        ([(1, n, -n) for n in range(1, 30)], False),
        ([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)], True),
        ([(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 1, 0)], True),
    ],
)
def test_lattices_need_different_reflections_off_one_line(hkl, enough):
    rows = np.diag([40.0, 50.0, 60.0])
    q = np.linalg.solve(rows, np.array(hkl, float).T)
    peaks = np.concatenate([q, np.ones((1, len(hkl)))])
    assert count_indexed(peaks, rows, np.zeros(2))[:2] == (len(hkl), enough)


@pytest.mark.parametrize(("n_away", "n_axes"), [(0, 2), (1, 2), (2, 3), (19, 3)])
def test_an_axis_counts_if_a_tenth_of_the_reflections_are_off_zero_there(n_away, n_axes):
    hkl = np.array([(k < n_away, k + 1, k * k % 7 - 3) for k in range(20)], float)
    rows = np.diag([40.0, 50.0, 60.0])
    peaks = np.concatenate([np.linalg.solve(rows, hkl.T), np.ones((1, 20))])
    assert count_indexed(peaks, rows, np.zeros(2)) == (20, True, n_axes)


def test_a_lattice_is_strong_by_its_score_for_each_indexed_peak():
    assert is_strong(300.0, 60, 60)
    assert not is_strong(240.0, 60, 60)
    assert is_strong(240.0 - 0.69 * 40, 100, 55)
    assert not is_strong(59.0, 10, 10)
    assert not is_strong(100.0, 10, 0)


def test_agreement_follows_the_rule_for_the_same_lattice():
    rng = np.random.default_rng(4)
    rows = trials("mono").cell.reduced
    settings = [
        np.eye(3),
        [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        np.diag([2, 1, 1]),
    ]
    outcomes = set()
    for M in map(np.array, settings):
        for angle in (0.0, 0.5, 0.97, 1.03, 2.0, 40.0):
            other = turned(M @ rows, rng.normal(size=3), math.radians(angle))
            other = other @ (np.eye(3) + 1e-3 * rng.normal(size=(3, 3)))
            expected = same_lattice(other, rows)[0]
            assert agree(np.ascontiguousarray(other), rows, SAME_ANGLE) == expected
            outcomes.add(expected)
    assert outcomes == {True, False}


@pytest.mark.parametrize("name", ["lyso", "p1", "insu"])
@pytest.mark.parametrize("anchor", [0, 1, 2])
@pytest.mark.parametrize("kind", [DIRECT, PAIRS])
def test_attempts_give_rows_in_the_order_of_the_reduced_cell(name, anchor, kind):
    t, true = trials(name), simulated(name, 1)
    peaks, length = usable_peaks(true.q)
    buffer = np.empty(50000, "f4")
    score, V, _ = attempt(peaks, length, t.cell.tables, anchor, kind, true.shift_sigma, buffer)
    assert score > 38
    nominal = np.linalg.norm(t.cell.reduced, axis=1)
    np.testing.assert_allclose(np.linalg.norm(V, axis=1), nominal, rtol=0.01)
    assert np.linalg.det(V) > 0
