# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels to scattering vectors and back, and detectors that cannot be."""

import math

import numpy as np
import pytest
from geometry.texts import ONE, TOP, TWO, panel, read
from hypothesis import given
from hypothesis import strategies as st

TILTED = (
    TOP
    + panel("a", fs="0.99x+0.1y-0.2z", ss="-0.1x+0.99y+0.05z", coffset=0.003)
    + panel("b", y=10, corner_x=-30.25, corner_y=12.5, fs="-y", ss="+1.01x", res=13333.3)
)
SHIFTS = st.floats(-0.01, 0.01)
POSITIONS = st.floats(0, 1)


def slow_q(panel_, fs, ss, clen, shift, wavelength):
    """The formula of ``crystfel_geometry(5)``, in metres, one position at a time."""
    pitch = 1 / panel_.res
    x = (panel_.corner_x + fs * panel_.fs[0] + ss * panel_.ss[0]) * pitch + shift[0]
    y = (panel_.corner_y + fs * panel_.fs[1] + ss * panel_.ss[1]) * pitch + shift[1]
    z = clen + panel_.coffset + (fs * panel_.fs[2] + ss * panel_.ss[2]) * pitch
    length = math.sqrt(x * x + y * y + z * z)
    return [x / length / wavelength, y / length / wavelength, (z / length - 1) / wavelength]


@given(POSITIONS, POSITIONS, st.sampled_from([0, 1]), SHIFTS, SHIFTS, st.floats(0.03, 1), st.floats(0.5, 3))
def test_q_is_that_of_the_manual(fs, ss, number, shift_x, shift_y, clen, wavelength):
    geometry = read(TILTED)
    panel_ = geometry.panels[number]
    fs, ss = fs * panel_.width, ss * panel_.height
    detector = geometry.detector(clen, shift_x, shift_y)
    q = detector.q(np.array([number]), np.array([fs]), np.array([ss]), wavelength)
    assert q.shape == (1, 3)
    assert q[0] == pytest.approx(slow_q(panel_, fs, ss, clen, (shift_x, shift_y), wavelength), abs=1e-12)


@given(POSITIONS, POSITIONS, st.sampled_from([0, 1]), SHIFTS, SHIFTS, st.floats(0.03, 1))
def test_a_ray_goes_back_to_its_pixel(fs, ss, number, shift_x, shift_y, clen):
    geometry = read(TILTED)
    panel_ = geometry.panels[number]
    fs, ss = fs * panel_.width, ss * panel_.height
    detector = geometry.detector(clen, shift_x, shift_y)
    q = detector.q(np.array([number]), np.array([fs]), np.array([ss]), 1.3)[0]
    mu, mu_fs, mu_ss = detector.back[number] @ (q + np.array([0, 0, 1 / 1.3]))
    assert mu > 0
    assert (mu_fs / mu, mu_ss / mu) == pytest.approx((fs, ss), abs=1e-6)


def test_largest_q_is_that_of_the_farthest_corner():
    geometry = read(TILTED)
    detector = geometry.detector(0.08)
    corners = [
        np.linalg.norm(slow_q(p, fs, ss, 0.08, (0, 0), 1.0))
        for p in geometry.panels
        for fs in (0, p.width)
        for ss in (0, p.height)
    ]
    assert detector.max_q == pytest.approx(max(corners), rel=1e-12)


def test_mean_camera_length_holds_the_offsets():
    assert read(TILTED).detector(0.08).clen == pytest.approx(0.08 + 0.0015)


def test_shift_is_in_metres():
    geometry = read(TWO)
    moved = geometry.detector(0.08, 1e-4, -2e-4).corner - geometry.detector(0.08).corner
    assert moved == pytest.approx(np.array([[1, -2, 0], [1, -2, 0]]), abs=1e-9)


def test_the_same_values_give_the_same_detector():
    geometry = read(ONE)
    assert geometry.detector(0.08) is geometry.detector(0.08)
    assert geometry.detector(0.08) is not geometry.detector(0.081)


@pytest.mark.parametrize("clen", [0.0, -0.43, 1e-5])
def test_any_camera_length_is_legal_where_panels_are_away_from_the_sample(clen):
    geometry = read(ONE.replace("0.08", "/clen") + "p0/coffset = 0.582\n")
    assert geometry.detector(clen).clen == pytest.approx(clen + 0.582)


def test_a_panel_that_is_seen_edge_on_is_legal():
    geometry = read(TOP + panel(fs="+1.0z", corner_x=100))
    assert np.isfinite(geometry.detector(0.08).back).all()


@pytest.mark.parametrize("clen", [-0.002, -0.002 + 1e-10])
def test_sample_in_the_plane_of_a_panel_is_an_error_that_names_it(clen):
    geometry = read(TOP.replace("0.08", "/clen") + panel("a") + panel("b", y=10, coffset=0.002))
    with pytest.raises(ValueError, match=r"the plane of panel b passes .* m from the sample"):
        geometry.detector(clen)


@pytest.mark.parametrize(
    "values", [(math.nan, 0, 0), (math.inf, 0, 0), (0.1, math.nan, 0), (0.1, 0, math.inf)]
)
def test_endless_lengths_are_errors(values):
    with pytest.raises(ValueError, match="not all finite"):
        read(ONE).detector(*values)


@pytest.mark.parametrize("values", [(1e30, 0, 0), (1e308, 0, 0), (0.1, 1e200, 0)])
def test_absurd_lengths_are_errors(values):
    with pytest.raises(ValueError, match="too large to be right"):
        read(ONE).detector(*values)
