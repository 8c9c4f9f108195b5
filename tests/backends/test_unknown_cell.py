# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials without a cell, on made-up lists and on the benchmark's."""

import warnings

import numpy as np
import pytest
from backends.peak_lists import Tally, a_few_of_each, odd_lists, read_benchmark, simulated
from thorough import thorough

from gpuidx.backends.constants import DIRECT, PAIRS
from gpuidx.backends.cpu import unknown_cell
from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.backends.cpu.unknown_combine import divided, fitted
from gpuidx.backends.cpu.unknown_vectors import find_axes
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.backends.known_cell import direction_grids
from gpuidx.lattice import same_lattice
from gpuidx.options import IndexOptions
from gpuidx.simulation.peaklists import EXPERIMENTS

CELLS = ("lyso", "thau", "p1", "insu", "mono", "rhod", "cys", "rhom", "psi")
RANGES = {"cys": (4.0, 30.0), "psi": (20.0, 320.0)}


def trials(name=None, **options):
    """With the range of lengths for a cell, or for any."""
    axis_range = RANGES.get(name, (20.0, 200.0)) if name else None
    return UnknownCellTrials(IndexOptions(axis_range=axis_range, **({"retry": False} | options)))


@pytest.mark.parametrize("settings", [{}, {"n_peaks": 20}, {"n_peaks": 30, "spurious": 0.5}])
def test_the_primitive_cell_is_found_without_knowing_it(settings):
    tally = Tally()
    for name in CELLS:
        true = simulated(name, 1, **settings)
        candidates, n_tries = trials().index(true.q, true.shift_sigma)
        assert n_tries == 1
        tally.add(true, candidates)
    assert tally.n_right >= 8
    assert tally.median_angle < 0.2


@pytest.mark.parametrize("n_peaks", [10, 30, *(pytest.param(n, marks=thorough) for n in (16, 60, 100))])
def test_random_peaks_are_no_lattice(n_peaks):
    for name in ("lyso", "cys"):
        true = simulated(name, n_peaks, n_peaks=n_peaks, spurious=1.0)
        assert trials(retry=True, multi=True).index(true.q, true.shift_sigma) == ([], 2)


@pytest.mark.parametrize(("height", "n_found"), [(0.0, 0), (0.1, 1)])
def test_an_axis_with_the_index_0_everywhere_is_not_determined(height, n_found, monkeypatch):
    axes, hk = np.diag((40.0, 50.0, 60.0)), np.stack(np.mgrid[-3:4, -3:4], -1).reshape(-1, 2)
    hkl = np.column_stack([hk, np.rint(height * hk**2 @ (1, 1))])
    monkeypatch.setattr(unknown_cell, "best_cell", lambda *_: (500.0, axes))
    candidates, _ = trials("lyso").index(hkl @ np.linalg.inv(axes) + (0, 0, 1e-3), 0.0)
    assert len(candidates) == n_found


@pytest.mark.parametrize("what", odd_lists())
def test_odd_lists_are_not_indexed_and_raise_nothing(what):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trials(retry=True, multi=True).index(odd_lists()[what], 1e-4)[0] == []


def test_the_result_does_not_depend_on_the_order_of_peaks():
    true = simulated("p1", 3, n_peaks=30)
    (first,), _ = trials().index(true.q, 0.0)
    (second,), _ = trials().index(true.q[::-1], 0.0)
    np.testing.assert_array_equal(first.axes, second.axes)
    assert np.linalg.det(first.axes) > 0


def test_two_lattices_are_told_apart_if_asked_to():
    true = simulated("lyso", 2, n_peaks=90, n_lattices=2)
    candidates, n_tries = trials("lyso", multi=True).index(true.q, 0.0)
    tally = Tally()
    tally.add(true, candidates)
    assert (tally.n_found, tally.n_false) == (2, 0)
    assert n_tries in (2, 3)
    assert len(trials("lyso").index(true.q, 0.0)[0]) == 1


@pytest.mark.parametrize("kind", [DIRECT, PAIRS])
def test_the_axes_of_the_lattice_are_among_the_vectors_found(kind):
    true = simulated("rhod", 4)
    peaks, length = usable_peaks(true.q)
    grid, start = direction_grids()
    buffer = np.empty(int(np.diff(start).max()), np.float32)
    axes, scores = find_axes(peaks, length, kind, (40.0, 180.0), grid, start, buffer)
    assert (np.diff(scores) <= 0).all()
    assert scores.min() > 6
    for row in true.truth[0]:
        apart = np.minimum(np.linalg.norm(axes - row, axis=1), np.linalg.norm(axes + row, axis=1))
        assert apart.min() < 0.02 * np.linalg.norm(row)


@pytest.mark.parametrize("times", [2, 3, 5, 7])
def test_too_large_cells_are_divided(times):
    true = simulated("lyso", 5)
    peaks, _ = usable_peaks(true.q)
    large = np.array([[1, 0, 0], [1, times, 0], [0, 0, 1]]) @ true.truth[0]
    smaller = divided(large, peaks)
    assert np.linalg.det(smaller) == pytest.approx(np.linalg.det(true.truth[0]), rel=1e-6)
    score, axes = fitted(smaller, peaks, 20.0)
    assert same_lattice(axes, true.truth[0])[0]
    assert score > 300
    assert divided(true.truth[0], peaks) is None


def test_few_peaks_that_share_a_parity_by_chance_divide_nothing():
    axes, rng = np.diag((40.0, 50.0, 60.0)), np.random.default_rng(1)
    hkl = rng.integers(-8, 9, (15, 3))
    hkl[:, 0] *= 2
    peaks = np.vstack([(hkl @ np.linalg.inv(axes).T).T, np.ones(15)])
    smaller = divided(axes, peaks)
    np.testing.assert_allclose(np.linalg.norm(smaller, axis=1), (20, 50, 60))
    hkl[:2, 0] += 1  # 13 of 15 are even
    peaks[:3] = (hkl @ np.linalg.inv(axes).T).T
    assert divided(axes, peaks) is None


def test_axes_shorter_than_asked_for_are_not_accepted():
    true = simulated("cys", 6)
    assert trials("cys").index(true.q, 0.0)[0]
    candidates, _ = trials("lyso").index(true.q, 0.0)
    assert all(np.linalg.norm(c.axes, axis=1).min() > 19 for c in candidates)


def test_an_axis_range_that_no_peak_reaches_gives_nothing():
    true = simulated("lyso", 7)
    assert UnknownCellTrials(IndexOptions(axis_range=(1e-3, 2e-3))).index(true.q, 0.0)[0] == []
    flat = true.q * (1, 1, 0)
    assert trials().index(flat, 0.0)[0] == []


def test_the_benchmark_lists_give_the_right_primitive_cell(data_folder):
    tally, wrong = Tally(), []
    for true in read_benchmark(data_folder):
        if true.set_name == "clean" and true.cell_name in CELLS:
            candidates, _ = trials(true.cell_name).index(true.q, true.shift_sigma)
            before = tally.n_right
            tally.add(true, candidates)
            wrong += [true.cell_name] if tally.n_right == before else []
    assert tally.n_lists == 90
    assert tally.n_right >= 0.95 * tally.n_lists, wrong


def test_no_random_list_of_the_benchmark_is_accepted(data_folder):
    lists = [true for true in read_benchmark(data_folder) if true.set_name == "random"]
    assert len(lists) == 120
    for true in a_few_of_each(lists, 1):  # `python scripts/check_indexing.py` takes all
        assert trials(retry=True).index(true.q, true.shift_sigma)[0] == [], true.cell_name


def test_experiments_hold_all_cells():
    assert set(CELLS) <= set(EXPERIMENTS)
