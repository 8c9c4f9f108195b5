# SPDX-License-Identifier: GPL-3.0-or-later
"""Background: its shape, and that its noise is Poisson's."""

import math

import numpy as np
import pytest

from gpuidx.simulation.background import PoissonImage, mean_background, poisson_tables


@pytest.mark.parametrize("mean", [0.05, 1.0, 3.7, 25.0, 400.0])
def test_counts_are_distributed_as_poisson_says(mean):
    image = PoissonImage(np.full((500, 400), mean, np.float32))
    counts = image.draw(np.random.default_rng(1)).ravel()
    drawn_about = float(image.mean[0, 0])
    assert drawn_about == pytest.approx(mean, rel=0.005)
    n = counts.size
    assert counts.mean() == pytest.approx(drawn_about, abs=5 * math.sqrt(drawn_about / n))
    assert counts.var() == pytest.approx(drawn_about, rel=5 * math.sqrt((2 + 1 / drawn_about) / n))
    k = np.arange(counts.max() + 1)
    expected = n * np.exp(k * math.log(drawn_about) - drawn_about - [math.lgamma(i + 1) for i in k])
    seen = np.bincount(counts)
    enough = expected > 20
    chi_squared = ((seen - expected)[enough] ** 2 / expected[enough]).sum()
    assert chi_squared < enough.sum() + 5 * math.sqrt(2 * enough.sum())


def test_neighbours_are_independent():
    counts = PoissonImage(np.full((600, 600), 2.0, np.float32)).draw(np.random.default_rng(2))
    noise = counts - counts.mean()
    for shift in ((0, 1), (1, 0), (1, 1), (0, 256)):
        assert abs((noise * np.roll(noise, shift, (0, 1))).mean()) < 5 * 2.0 / 600


def test_rounding_of_the_mean_is_small():
    mean = np.linspace(0.5, 4.5, 10_000, dtype=np.float32).reshape(100, 100)
    image = PoissonImage(mean)
    np.testing.assert_allclose(image.mean, mean, rtol=0.006)


def test_no_background_no_counts():
    image = PoissonImage(np.zeros((20, 20), np.float32))
    assert not image.draw(np.random.default_rng(0)).any()


def test_tables_end_with_certainty():
    cumulative, guide = poisson_tables(np.array([0.0, 1e-9, 1.0, 1000.0]))
    assert (cumulative[:, -1] == 1 << 53).all()
    assert (np.diff(cumulative.astype(np.int64), axis=1) >= 0).all()
    assert (guide[:, 0] == [0, 0, 0, guide[3, 0]]).all()


def test_mean_falls_from_the_beam_to_the_edge(four):
    detector = four.detector(0.05)
    mean = mean_background(detector, four.slab_shape, 1.3, (1.0, 4.0), 0.0)
    assert 3.8 < mean[124:132, 124:132].mean() <= 4.0
    assert 1.0 <= mean[0, 0] < 1.1
    assert mean[0, 0] < mean[60, 60] < mean[120, 120]


def test_water_ring_is_where_water_is(four):
    detector = four.detector(0.02)
    mean = mean_background(detector, four.slab_shape, 1.3, (0.0, 0.0), 5.0)
    panel = np.zeros(200, np.intp)
    ss = np.linspace(1, 127, 200)
    q = np.linalg.norm(detector.q(panel, np.full(200, 127.5), ss, 1.3), axis=1)
    brightest = q[np.argmax(mean[ss.astype(int), 127])]
    assert 1 / brightest == pytest.approx(3.2, abs=0.1)


def test_outside_of_panels_there_is_none():
    from gpuidx.geometry import parse_geometry

    text = "photon_energy = 9000\nclen = 0.1\nres = 10000\nadu_per_photon = 1\n"
    text += "a/min_fs = 10\na/max_fs = 19\na/min_ss = 5\na/max_ss = 14\na/corner_x = 0\na/corner_y = 0\n"
    geometry = parse_geometry(text + "a/fs = x\na/ss = y\n", "one.geom")
    mean = mean_background(geometry.detector(0.1), geometry.slab_shape, 1.3, (1.0, 1.0), 0.0)
    assert mean.sum() == pytest.approx(100.0)
    assert (mean[5:15, 10:20] == 1.0).all()
