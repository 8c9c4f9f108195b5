# SPDX-License-Identifier: GPL-3.0-or-later
"""Spots on pixels, and photons to detector units."""

import dataclasses
import math

import numpy as np
import pytest

from gpuidx.simulation.crystal import Spots
from gpuidx.simulation.render import add_spots, cut, digitised


def spots_at(fs, ss, photons, panel=0):
    n = len(fs)
    return Spots(
        hkl=np.zeros((n, 3), np.int32),
        panel=np.full(n, panel, np.int32),
        fs=np.array(fs, float),
        ss=np.array(ss, float),
        photons=np.array(photons, float),
        partiality=np.ones(n),
        counts=np.zeros(n, np.int64),
    )


def drawn(geometry, spots, sigma=0.8, seed=0):
    image = np.zeros(geometry.slab_shape, np.int32)
    detector = geometry.detector(geometry.clen.value)
    add_spots(image, spots, detector, sigma, np.random.default_rng(seed))
    return image


@pytest.mark.parametrize("sigma", [0.6, 0.8, 2.0])
def test_spot_is_a_gaussian_about_its_position(tilted, sigma):
    image = drawn(tilted, spots_at([50.3], [70.9], [1e6]), sigma)
    ss, fs = np.indices(image.shape) + 0.5
    total = image.sum()
    assert total == pytest.approx(1e6, abs=5e3)
    assert (fs * image).sum() / total == pytest.approx(50.3, abs=0.01)
    assert (ss * image).sum() / total == pytest.approx(70.9, abs=0.01)
    spread = ((fs - 50.3) ** 2 * image).sum() / total
    assert spread == pytest.approx(sigma**2 + 1 / 12, rel=0.02)


def test_share_of_a_pixel_is_the_integral_over_it(tilted):
    image = drawn(tilted, spots_at([50.3], [70.9], [1e7]))

    def share(low, high, centre):
        scale = 0.8 * math.sqrt(2)
        return 0.5 * (math.erf((high - centre) / scale) - math.erf((low - centre) / scale))

    for row, column in ((70, 50), (71, 50), (69, 52), (73, 48)):
        expected = 1e7 * share(column, column + 1, 50.3) * share(row, row + 1, 70.9)
        assert image[row, column] == pytest.approx(expected, abs=5 * math.sqrt(expected))


def test_counts_of_a_spot_are_what_lies_on_its_panel(tilted):
    spots = spots_at([0.2, 199.9, 100.0], [100.0, 0.1, 299.5], [1e5, 1e5, 1e5])
    image = drawn(tilted, spots)
    assert image.sum() == spots.counts.sum()
    assert not image[:, 200:].any()
    assert spots.counts[0] == pytest.approx(0.5 * 1e5 * (1 + math.erf(0.2 / 0.8 / math.sqrt(2))), rel=0.02)
    assert spots.counts[1] < 0.4e5


def test_spots_of_the_second_panel_lie_in_its_part_of_the_slab(tilted):
    image = drawn(tilted, spots_at([10.0], [20.0], [1e4], panel=1))
    assert not image[:, :200].any()
    assert image[20, 210] > 500


def test_counts_of_weak_spots_are_distributed_as_poisson_says(tilted):
    spots = spots_at(np.full(4000, 100.0), np.full(4000, 150.0), np.full(4000, 3.0))
    drawn(tilted, spots)
    assert spots.counts.mean() == pytest.approx(3.0, abs=0.14)
    assert spots.counts.var() == pytest.approx(3.0, abs=0.4)


def test_gain_and_noise_of_each_panel(tilted):
    photons = np.full(tilted.slab_shape, 7, np.int32)
    rect = tilted.detector(0.06).rect
    rng = np.random.default_rng(0)
    image = digitised(photons, np.array([2.0, 10.0]), rect, 0.0, np.dtype("<i4"), rng)
    assert (image[:, :200] == 14).all()
    assert (image[:, 200:] == 70).all()
    noisy = digitised(photons, np.array([2.0, 10.0]), rect, 3.0, np.dtype("<f4"), rng)
    assert (noisy - image).std() == pytest.approx(3.0, rel=0.02)
    assert (noisy - image).mean() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4"])
def test_values_beyond_the_range_are_cut(dtype):
    limits = np.iinfo(dtype)
    values = cut(np.array([-1e12, 1e12, 3.4, -0.2], np.float32), np.dtype(dtype))
    assert values[0] == limits.min
    assert values[1] > 0.99 * limits.max
    assert list(values[2:]) == [3, 0]
    photons = np.full((2, 2), 100_000, np.int32)
    rect = np.array([[0, 0, 2, 2]], np.int32)
    image = digitised(photons, np.ones(1), rect, 0.0, np.dtype(dtype), np.random.default_rng(0))
    assert (image == min(100_000, limits.max)).all()


def test_spots_are_not_changed_but_for_their_counts(tilted):
    spots = spots_at([50.0], [50.0], [100.0])
    before = dataclasses.replace(spots, counts=spots.counts.copy())
    drawn(tilted, spots)
    for field in ("fs", "ss", "photons", "panel"):
        np.testing.assert_array_equal(getattr(spots, field), getattr(before, field))
