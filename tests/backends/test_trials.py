# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials from peaks to candidates, on made-up lists."""

import time
import warnings

import numpy as np
import pytest
from backends.peak_lists import (
    CONDITIONS,
    Tally,
    flat_lattice,
    flat_random,
    lines,
    lysozyme,
    nearest,
    odd_lists,
    simulated,
    trials,
)

from gpuidx.backends.constants import ACCEPT, ATTEMPTS
from gpuidx.backends.cpu.score import believed, count_indexed
from gpuidx.backends.cpu.search import attempt, find_lattice
from gpuidx.backends.cpu.trials import Trials, belongs
from gpuidx.backends.cpu.vectors import usable_peaks
from gpuidx.cell import UnitCell
from gpuidx.errors import BackendError
from gpuidx.lattice import same_lattice
from gpuidx.options import IndexOptions
from gpuidx.simulation.peaklists import EXPERIMENTS


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_cell_indexes(condition):
    tally = Tally()
    for name in EXPERIMENTS:
        for seed in range(2):
            true = simulated(name, seed, **CONDITIONS[condition])
            candidates, n_tries = trials(name).index(true.q, true.shift_sigma)
            assert n_tries == 1
            tally.add(true, candidates)
    assert tally.n_wrong == 0
    assert tally.n_right == tally.n_lists
    assert tally.median_angle < (0.3 if "wrong" in condition else 0.15)


def test_random_peaks_are_no_lattice():
    scores = []
    for name in EXPERIMENTS:
        for seed, n_peaks in enumerate((10, 14, 20, 30, 60, 100)):
            true = simulated(name, 100 + seed, n_peaks=n_peaks, spurious=1.0)
            candidates, n_tries = trials(name, retry=True, multi=True).index(true.q, true.shift_sigma)
            scores += candidates
            assert n_tries == (2 if n_peaks == 10 else 6)
    assert scores == []


@pytest.mark.parametrize(("name", "seed"), [("lyso", 4), ("p1", 8), ("mono", 1)])
def test_an_axis_along_the_beam_of_electrons_is_no_evidence(name, seed):
    q, own, buffer = flat_random(76, seed), trials(name), np.empty(50_000, np.float32)
    peaks, length = usable_peaks(q)
    each = [attempt(peaks, length, own.cell.tables, *kind, 5e-4, buffer) for kind in ATTEMPTS]
    score, V, shift = max(each, key=lambda one: one[0])
    assert score > ACCEPT
    assert count_indexed(peaks, V, shift)[2] == 2
    assert believed(score, peaks, V, shift)[0] < 10
    assert own.index(q, 5e-4) == ([], 1)


@pytest.mark.parametrize(("wavelength", "finest"), [(0.0251, 6.0), (1.3, 11.0)])
def test_a_lattice_with_an_axis_along_the_beam_is_found_by_the_others(wavelength, finest):
    ((found,), _) = trials("lyso").index(flat_lattice(wavelength, finest), EXPERIMENTS["lyso"].shift_sigma)
    assert np.abs(found.axes[0, 2]) == pytest.approx(38.0, abs=0.2)
    assert found.score < 40 * 4.5


@pytest.mark.parametrize("name", ["lyso", "psi", "p1", "rhod", "cys", "insu"])
def test_several_lattices_are_told_apart(name):
    for n_lattices in (1, 2, 3):
        tally = Tally()
        for seed in range(4):
            true = simulated(name, seed, n_peaks=45 * n_lattices, n_lattices=n_lattices)
            candidates, n_tries = trials(name, multi=True).index(true.q, true.shift_sigma)
            tally.add(true, candidates)
            scores = [c.score for c in candidates]
            assert scores == sorted(scores, reverse=True)
            assert n_tries in (len(candidates), len(candidates) + 1)
        assert tally.n_false == tally.n_double == 0
        assert tally.n_found >= 0.95 * tally.n_true


def test_one_lattice_is_enough_unless_more_are_asked_for():
    true = simulated("lyso", 1, n_peaks=100, n_lattices=2)
    candidates, n_tries = trials("lyso").index(true.q, true.shift_sigma)
    assert (len(candidates), n_tries) == (1, 1)


def test_explained_peaks_are_those_near_lattice_points():
    true = simulated("lyso", 2, n_peaks=50, spurious=0.5)
    ((candidate,), _) = trials("lyso").index(true.q, true.shift_sigma)
    explained = belongs(true.q, candidate)
    hkl = (true.q - np.append(candidate.shift, 0)) @ candidate.axes.T
    distance = np.linalg.norm(hkl - np.rint(hkl), axis=1)
    assert 45 <= explained.sum() <= 60
    assert distance[explained].max() < min(0.25, distance[~explained].min() + 1e-12)
    assert belongs(np.full((3, 3), np.nan), candidate).all()


def test_weak_spurious_peaks_are_dropped_by_retrying():
    rescued = 0
    for name in ("lyso", "p1", "rhod"):
        for seed in range(25):
            good = simulated(name, seed, n_peaks=13)
            weak = simulated(name, 1000 + seed, n_peaks=60, spurious=1.0)
            q = np.concatenate([good.q, weak.q])
            once, n_once = trials(name).index(q, good.shift_sigma)
            again, n_tries = trials(name, retry=True).index(q, good.shift_sigma)
            assert n_once == 1
            if once:
                assert n_tries == 1
                continue
            assert 1 < n_tries <= 6
            if again:
                assert nearest(again[0].axes, good.truth)[0] == 0
                rescued += 1
            else:
                assert n_tries == 6
    assert rescued >= 2


@pytest.mark.parametrize(("n_peaks", "n_tries"), [(5, 1), (6, 1), (9, 1), (10, 2), (11, 3), (14, 6), (40, 6)])
def test_tries_end_when_few_peaks_are_left(n_peaks, n_tries):
    true = simulated("lyso", 5, n_peaks=n_peaks, spurious=1.0)
    assert trials("lyso", retry=True).index(true.q, true.shift_sigma) == ([], n_tries)


def test_both_signs_of_a_polar_anchor_are_needed():
    t = trials("p1")
    assert t.cell.tables.polar.all()
    one_sign = t.cell.tables._replace(polar=np.zeros(3, bool))
    first = np.array(ATTEMPTS[:1])
    buffer = np.empty(50000, "f4")
    found = np.zeros(2)
    n_lists = 60
    for seed in range(n_lists):
        true = simulated("p1", seed)
        for k, tables in enumerate((t.cell.tables, one_sign)):
            score, axes, _ = find_lattice(true.q, tables, first, true.shift_sigma, buffer)
            found[k] += score >= 38 and nearest(axes, true.truth)[0] == 0
    assert found[0] > 0.95 * n_lists
    assert 0.3 * n_lists < found[1] < 0.75 * n_lists


def test_candidates_are_right_handed_and_in_the_order_of_the_reduced_cell():
    for name in EXPERIMENTS:
        t = trials(name)
        true = simulated(name, 9)
        ((candidate,), _) = t.index(true.q, true.shift_sigma)
        assert np.linalg.det(candidate.axes) > 0
        nominal = np.linalg.norm(t.cell.reduced, axis=1)
        np.testing.assert_allclose(np.linalg.norm(candidate.axes, axis=1), nominal, rtol=0.01)


@pytest.mark.parametrize("name", ["lyso", "p1"])
def test_order_of_peaks_does_not_matter(name):
    rng = np.random.default_rng(3)
    for seed in range(3):
        true = simulated(name, seed, spurious=0.3)
        ((first,), _) = trials(name).index(true.q, true.shift_sigma)
        ((second,), _) = trials(name).index(rng.permutation(true.q), true.shift_sigma)
        assert same_lattice(second.axes, first.axes)[0]
        assert second.score == pytest.approx(first.score, abs=1e-3)


def test_same_peaks_give_the_same_bits_whatever_came_before():
    true, others = simulated("lyso", 0), [simulated("lyso", seed) for seed in range(1, 5)]
    fresh = Trials(lysozyme(), IndexOptions())
    ((expected,), _) = fresh.index(true.q, true.shift_sigma)
    for other in others:
        fresh.index(other.q, other.shift_sigma)
        ((again,), _) = fresh.index(true.q, true.shift_sigma)
        assert again.axes.tobytes() == expected.axes.tobytes()
        assert again.score == expected.score


@pytest.mark.parametrize("case", odd_lists())
def test_senseless_peaks_are_not_indexed(case):
    for name in ("lyso", "p1", "long"):
        for multi in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                candidates, _ = trials(name, retry=True, multi=multi).index(odd_lists()[case], 5e-4)
            assert candidates == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_evenly_spaced_peaks_on_a_line_are_no_lattice(name):
    """The axes across the line are free; they must not grow until every index is a whole number."""
    assert [trials(name, retry=False).index(q, 5e-4)[0] for q in lines(10)] == [[]] * 10


def test_senseless_peaks_among_good_ones_are_ignored():
    true = simulated("lyso", 0)
    q = np.insert(true.q, [0, 7, 30], [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 0]], axis=0)
    ((expected,), _) = trials("lyso").index(true.q, true.shift_sigma)
    ((found,), _) = trials("lyso", multi=True).index(q, true.shift_sigma)
    assert found.axes.tobytes() == expected.axes.tobytes()


def test_thousands_of_peaks_are_no_trouble():
    for name in ("lyso", "psi"):
        true = simulated(name, 0, n_peaks=2048, spurious=0.6)
        assert len(true.q) > (2000 if name == "psi" else 500)
        candidates, _ = trials(name).index(true.q[:2048], true.shift_sigma)
        assert nearest(candidates[0].axes, true.truth)[0] == 0


def test_of_endless_lists_the_strongest_peaks_are_used():
    true = simulated("lyso", 0)
    endless = np.concatenate([true.q, np.random.default_rng(0).normal(size=(100_000, 3)) * 0.2])
    begun = time.process_time()
    trials("lyso", retry=True, multi=True).index(endless, true.shift_sigma)
    assert time.process_time() - begun < 5


def test_equal_peaks_beside_a_lattice_do_not_hide_it():
    true = simulated("lyso", 4)
    q = np.concatenate([true.q, np.repeat(true.q[:1] * 1.017, 40, axis=0)])
    candidates, _ = trials("lyso").index(q, true.shift_sigma)
    assert nearest(candidates[0].axes, true.truth)[0] == 0


def test_lists_of_other_layout_and_type_are_taken():
    true = simulated("lyso", 0)
    ((expected,), _) = trials("lyso").index(true.q, true.shift_sigma)
    ((found,), _) = trials("lyso").index(np.asfortranarray(true.q), true.shift_sigma)
    assert found.axes.tobytes() == expected.axes.tobytes()
    assert trials("lyso").index(np.empty(0), 5e-4) == ([], 1)


def test_a_cell_without_parameters_is_refused():
    with pytest.raises(BackendError, match="no parameters"):
        Trials(UnitCell(parameters=None), IndexOptions())


def test_a_list_takes_a_few_milliseconds():
    lists = [simulated(name, seed, n_peaks=80) for name in ("lyso", "p1", "psi") for seed in range(8)]
    times = []
    for true in lists:
        t = trials(true.cell_name)
        begun = time.process_time()
        t.index(true.q, true.shift_sigma)
        times.append(time.process_time() - begun)
    assert np.median(times) < 0.010
