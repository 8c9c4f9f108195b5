# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled geometry is that of `Detector`."""

import math

import numpy as np
import pytest
from indexing.stills import TILTED, geometry_of

from gpuidx.geometry.ewald import (
    excitation_error,
    offset_of_shift,
    rays,
    reflect,
    scattering_vectors,
    shifted_back,
    spot_on_panel,
)

SHIFT = (3e-4, -2e-4)
K = 1 / 1.3


def some_peaks(n=20):
    geometry = geometry_of(TILTED)
    rng = np.random.default_rng(0)
    panel = rng.integers(0, 3, n).astype(np.int32)
    return geometry, panel, 700 * rng.random(n), 900 * rng.random(n)


@pytest.mark.parametrize("shift", [(0.0, 0.0), SHIFT])
def test_scattering_vectors_are_those_of_the_detector(shift):
    geometry, panel, fs, ss = some_peaks()
    detector, moved = geometry.detector(0.15), geometry.detector(0.15, *shift)
    offset = offset_of_shift(detector, shift)
    q = scattering_vectors(detector.corner, detector.fs, detector.ss, offset, panel, fs, ss, K)
    np.testing.assert_allclose(q, moved.q(panel, fs, ss, 1 / K), atol=1e-13)


def test_rays_lead_back_to_their_pixels_on_a_shifted_detector():
    geometry, panel, fs, ss = some_peaks()
    detector, moved = geometry.detector(0.15), geometry.detector(0.15, *SHIFT)
    back = shifted_back(detector.back, offset_of_shift(detector, SHIFT))
    np.testing.assert_allclose(back, moved.back, rtol=1e-10, atol=1e-12)
    for ray, p, at_fs, at_ss in zip(
        rays(moved.corner, moved.fs, moved.ss, panel, fs, ss), panel, fs, ss, strict=True
    ):
        scale, found_fs, found_ss = spot_on_panel(back[p], *ray)
        assert scale > 0
        np.testing.assert_allclose((found_fs, found_ss), (at_fs, at_ss), atol=1e-8)
        assert spot_on_panel(back[p], *-ray)[0] < 0


def test_excitation_error_is_positive_within_the_sphere():
    assert excitation_error(0.0, 0.0, 0.0, K) == pytest.approx(0.0, abs=1e-15)
    assert excitation_error(0.0, 0.0, -0.01, K) == pytest.approx(0.01)
    assert excitation_error(0.0, 0.0, 0.01, K) == pytest.approx(-0.01)


def test_a_point_on_the_sphere_is_seen_at_the_mean_wavelength():
    angle = 0.4
    x, z = K * math.sin(angle), K * (math.cos(angle) - 1)
    for spread in (0.0, 1e-8 * K, 0.01 * K):
        predicted, error, width = reflect(x, 0.0, z, K, 0.001, spread)
        assert predicted == pytest.approx(K, rel=1e-9)
        assert error == pytest.approx(0.0, abs=1e-20)
        assert width >= 0.001**2


def test_a_narrow_profile_in_a_broad_beam_is_seen_where_it_lies_on_the_sphere():
    x, z = 0.25, -0.05
    half = -(x * x + z * z) / (2 * z)
    assert reflect(x, 0.0, z, K, 1.1e-154, 50.0)[0] == half
    assert reflect(x, 0.0, z, K, 1e-6, 0.05 * K)[0] == pytest.approx(half, rel=1e-4)


def test_a_point_upstream_never_reflects_in_a_beam_of_one_wavelength():
    assert math.isnan(reflect(0.1, 0.0, 0.01, K, 0.001, 0.0)[1])
