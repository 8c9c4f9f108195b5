# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up peak lists agree with their truth."""

import numpy as np
import pytest

from gpuidx.simulation.peaklists import EXPERIMENTS, PeakListSettings, simulate_peaks


def distances(peaks, lattice):
    """|d| of each peak from the nearest point of a true lattice."""
    hkl = peaks.q @ peaks.truth[lattice].T
    return np.linalg.norm(hkl - np.rint(hkl), axis=1)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_peaks_lie_near_lattice_points(name):
    peaks = simulate_peaks(EXPERIMENTS[name], PeakListSettings(n_peaks=40), np.random.default_rng(1))
    assert 20 <= len(peaks.q) <= 40
    assert (peaks.source == 0).all()
    assert np.median(distances(peaks, 0)) < 0.15
    assert distances(peaks, 0).max() < 0.6


def test_spurious_peaks_are_the_share_that_is_asked_for():
    settings = PeakListSettings(n_peaks=30, spurious=0.25)
    peaks = simulate_peaks(EXPERIMENTS["lyso"], settings, np.random.default_rng(2))
    assert (len(peaks.q), (peaks.source == -1).sum()) == (40, 10)
    assert distances(peaks, 0)[peaks.source == 0].max() < 0.2
    only = simulate_peaks(EXPERIMENTS["lyso"], PeakListSettings(spurious=1.0), np.random.default_rng(2))
    assert (len(only.q), len(only.truth), set(only.source)) == (60, 0, {-1})


def test_several_lattices_share_the_peaks():
    settings = PeakListSettings(n_peaks=80, n_lattices=3)
    peaks = simulate_peaks(EXPERIMENTS["lyso"], settings, np.random.default_rng(3))
    assert [(peaks.source == k).sum() for k in range(3)] == [27, 27, 26]
    for lattice in range(3):
        assert distances(peaks, lattice)[peaks.source == lattice].max() < 0.2


def test_cells_are_wrong_as_asked_for_and_keep_their_symmetry():
    settings = PeakListSettings(cell_error=0.02)
    ratios = []
    for seed in range(20):
        truth = simulate_peaks(EXPERIMENTS["lyso"], settings, np.random.default_rng(seed)).truth[0]
        a, b, c = np.linalg.norm(truth, axis=1)
        assert a == pytest.approx(b)
        assert np.linalg.det(truth) > 0
        ratios += [a / 79.0 - 1, c / 38.0 - 1]
    assert 0.01 < np.abs(ratios).max() <= 0.02


def test_a_shifted_beam_shifts_the_peaks():
    seeds = [np.random.default_rng(4) for _ in range(2)]
    plain, shifted = (
        simulate_peaks(EXPERIMENTS["lyso"], PeakListSettings(shift=shift, noise=0.0), seed)
        for shift, seed in zip([(0.0, 0.0), (1.5, -1.4)], seeds, strict=True)
    )
    moved = np.isclose(shifted.xy - plain.xy, (1.5, -1.4)).all(1)
    assert moved.sum() >= len(moved) - 2  # one may leave the detector, another take its place


def test_bandwidth_brings_more_reflections_and_wrong_radii():
    mean = []
    for bandwidth in (0.0, 0.005):
        settings = PeakListSettings(n_peaks=1000, bandwidth=bandwidth, noise=0.0)
        peaks = simulate_peaks(EXPERIMENTS["lyso"], settings, np.random.default_rng(5))
        mean.append((len(peaks.q), distances(peaks, 0).mean()))
    assert mean[1][0] > 1.2 * mean[0][0]
    assert mean[1][1] > 1.2 * mean[0][1]


def test_the_same_seed_gives_the_same_list():
    one, two = (
        simulate_peaks(EXPERIMENTS["mono"], PeakListSettings(spurious=0.3), np.random.default_rng(6))
        for _ in range(2)
    )
    assert one.q.tobytes() == two.q.tobytes()
