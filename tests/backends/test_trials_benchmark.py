# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of the open benchmark; ``scripts/check_indexing.py`` takes all of it."""

import numpy as np
import pytest
from backends.peak_lists import Tally, a_few_of_each, nearest, read_benchmark, trials

from gpuidx.backends.cpu.scan import scan_scores
from gpuidx.backends.cpu.score import likelihood
from gpuidx.backends.cpu.vectors import usable_peaks

SETS = ("clean", "few15", "few10", "spur50", "spur67", "cell2", "geom", "bw1", "lat2", "lat3", "random")
GREATEST_ANGLE = {"clean": 0.05, "few10": 0.10, "geom": 0.20}


@pytest.fixture(scope="module")
def benchmark_lists(data_folder):
    return read_benchmark(data_folder)


@pytest.mark.parametrize("set_name", SETS)
def test_benchmark_lists_index(benchmark_lists, set_name):
    tally = Tally()
    for true in a_few_of_each(benchmark_lists, 2):
        if true.set_name == set_name:
            tally.add(true, trials(true.cell_name).index(true.q, true.shift_sigma)[0])
    assert tally.n_lists == 24
    assert tally.n_wrong == 0
    assert tally.n_right == (0 if set_name == "random" else tally.n_lists)
    if set_name in GREATEST_ANGLE:
        assert tally.median_angle < GREATEST_ANGLE[set_name]


@pytest.mark.parametrize("set_name", ["lat2", "lat3"])
def test_all_lattices_of_benchmark_lists_are_found(benchmark_lists, set_name):
    tally = Tally()
    for true in a_few_of_each(benchmark_lists, 2):
        if true.set_name == set_name:
            tally.add(true, trials(true.cell_name, multi=True).index(true.q, true.shift_sigma)[0])
    assert tally.n_found >= 0.97 * tally.n_true
    assert tally.n_false == tally.n_double == 0


def true_rows(true):
    """Rows of the first true lattice in the setting of the reduced cell."""
    return trials(true.cell_name).cell.U @ true.truth[0]


@pytest.mark.parametrize(
    ("frame", "expected"), [(0, (174.61, 292.88, 397.15)), (600, (133.78, 146.10, 146.10))]
)
def test_likelihood_of_the_truth_is_as_computed_elsewhere(benchmark_lists, frame, expected):
    true = benchmark_lists[frame]
    peaks, _ = usable_peaks(true.q)
    found = [likelihood(peaks, true_rows(true), np.zeros(2), n) for n in (1, 2, 3)]
    assert found == pytest.approx(expected, abs=0.2)


def test_first_peak_and_scan_scores_are_as_computed_elsewhere(benchmark_lists):
    true = benchmark_lists[0]
    assert true.q[0] == pytest.approx((0.1236, 0.1444, -0.0238), abs=1e-4)
    assert len(true.q) == 60
    rows = true_rows(true)
    assert np.linalg.norm(rows[0]) == pytest.approx(38.0, abs=0.1)
    vectors = np.concatenate([true.q.T * 38.0, np.ones((1, 60))]).astype("f4")
    grid = np.stack([rows[0] / np.linalg.norm(rows[0]), (0, 0, 1)], axis=1).astype("f4")
    scores = np.empty(2, "f4")
    scan_scores(vectors, grid, 0, scores)
    assert scores == pytest.approx((59.925, 19.275), abs=0.01)


def test_wrong_geometry_is_made_good_by_shift_and_cell(benchmark_lists):
    true = benchmark_lists[600]
    assert (true.cell_name, true.set_name) == ("ferr", "geom")
    ((candidate,), _) = trials("ferr").index(true.q, true.shift_sigma)
    assert candidate.score > 350
    assert nearest(candidate.axes, true.truth)[0] == 0
