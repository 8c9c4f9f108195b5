# SPDX-License-Identifier: GPL-3.0-or-later
"""Beam centre, reach, coverage and overlaps of detectors that are simple enough to know them."""

import math

import numpy as np
import pytest
from geometry.texts import TOP, panel, read

from gpuidx.geometry.survey import beam_centre, covered, overlaps, reach, resolution

SQUARE = TOP + panel(width=200, height=200, corner_x=-100, corner_y=-100)


def at(text, clen=0.08):
    return read(text).detector(clen)


def test_beam_centre_is_within_the_panel_it_meets():
    found = beam_centre(at(TOP + panel(width=200, height=200, corner_x=-30.5, corner_y=-70.25)))
    assert (found.panel, found.outside) == (0, 0)
    assert (found.fs, found.ss) == pytest.approx((30.5, 70.25))


def test_beam_centre_in_a_gap_is_told_from_the_nearest_panel():
    found = beam_centre(
        at(TOP + panel("a", corner_x=30, corner_y=40) + panel("b", y=10, corner_x=6, corner_y=-2))
    )
    assert (found.panel, found.outside) == (1, pytest.approx(6))
    assert (found.fs, found.ss) == pytest.approx((-6, 2))


def test_beam_centre_of_a_tilted_panel_depends_on_the_distance():
    text = TOP + panel(width=200, height=200, corner_x=-100, corner_y=-100, fs="0.8x+0.6z")
    near, far = (beam_centre(at(text, clen)).fs for clen in (0.05, 0.1))
    assert near == pytest.approx(125)
    assert far == pytest.approx(125)
    text = text.replace("0.8x+0.6z", "0.8x+0.6y")
    assert beam_centre(at(text)).ss == pytest.approx(100 - 0.6 * 125)


def test_panels_upstream_have_no_beam_centre():
    assert beam_centre(at(SQUARE.replace("0.08", "/clen"), -0.1)).panel == -1


def test_a_square_reaches_to_its_sides_and_its_corners():
    found = reach(at(SQUARE))
    assert found.edge == pytest.approx(math.atan2(0.01, 0.08), rel=1e-3)
    assert found.corner == pytest.approx(math.atan2(0.01 * math.sqrt(2), 0.08))
    assert found.covered_to_edge > 0.99
    assert found.covered_to_corner == pytest.approx(4 / (2 * math.pi), abs=0.02)


def test_gaps_count_as_missing_but_do_not_end_the_reach():
    halves = TOP + panel("a", width=90, height=200, corner_x=-100, corner_y=-100)
    halves += panel("b", x=90, width=90, height=200, corner_x=10, corner_y=-100)
    found = reach(at(halves))
    assert found.edge == pytest.approx(math.atan2(0.01, 0.08), rel=1e-3)
    strip = 1 - (2 * 0.1 * math.sqrt(1 - 0.01) + 2 * math.asin(0.1)) / math.pi
    assert found.covered_to_edge == pytest.approx(strip, abs=0.02)


def test_a_detector_beside_the_beam_has_no_complete_ring():
    found = reach(at(TOP + panel(width=50, height=50, corner_x=20, corner_y=-25)))
    assert found.edge == 0
    assert found.corner == pytest.approx(math.atan2(math.hypot(70, 25), 800))


def test_panels_behind_the_sample_are_within_reach():
    text = TOP.replace("0.08", "/clen") + panel(width=2, height=2, fs="-x", corner_x=1, corner_y=-1)
    assert reach(at(text, -0.05)).corner > 3.13


def test_a_detector_straight_behind_the_sample_or_next_to_nothing_has_no_edge():
    behind = TOP.replace("0.08", "/clen") + panel(width=2, height=2, corner_x=-1, corner_y=-1)
    assert reach(at(behind, -0.05)).edge >= 0
    tiny = TOP + panel(width=1, height=1, fs="0.00000000001x", ss="0.00000000001y")
    assert reach(at(tiny)).edge == 0


def test_nothing_is_covered_twice():
    assert (
        covered(at(SQUARE + panel("b", y=200, width=200, height=200, corner_x=-100, corner_y=-100)), 0.1)
        > 0.99
    )
    assert covered(at(SQUARE), 0.0) == 1.0


def test_resolution_is_that_of_bragg():
    assert resolution(2 * math.asin(0.25), 1.0) == pytest.approx(2.0)
    assert resolution(0.0, 1.0) == math.inf


@pytest.mark.parametrize(("shift", "expected"), [(0, None), (-1.9, None), (-5, 5.0), (-15, 10.0)])
def test_overlap_is_told_by_its_narrow_side(shift, expected):
    found = overlaps(at(TOP + panel("a") + panel("b", y=10, corner_x=14.5 + shift)))
    if expected is None:
        assert found == []
    else:
        (one,) = found
        assert (one.first, one.second) == (0, 1)
        assert one.width == pytest.approx(expected)
        assert one.share == pytest.approx(-shift / 20)


def test_panels_one_behind_the_other_overlap_as_seen_from_the_sample():
    text = TOP + panel("a") + panel("b", y=10, coffset=0.08, corner_x=-11, corner_y=-7)
    (one,) = overlaps(at(text))
    assert one.share == pytest.approx(0.25)


def test_turned_panels_share_what_geometry_says():
    text = TOP + panel("a", width=100, height=100, corner_x=-50, corner_y=-50)
    turned = panel(
        "b",
        y=100,
        width=100,
        height=100,
        corner_x=0,
        corner_y=-70.710678,
        fs="0.70710678x+0.70710678y",
        ss="-0.70710678x+0.70710678y",
    )
    (one,) = overlaps(at(text + turned))
    assert one.share == pytest.approx(2 * (math.sqrt(2) - 1), rel=1e-6)


def test_overlaps_agree_with_a_count_of_pixels():
    rng = np.random.default_rng(2)
    for _ in range(20):
        angle, x, y = rng.uniform(0, 6.3), *rng.uniform(-40, 40, 2)
        c, s = math.cos(angle), math.sin(angle)
        text = TOP + panel("a", width=60, height=40, corner_x=0, corner_y=0)
        text += panel(
            "b",
            y=40,
            width=60,
            height=40,
            corner_x=x,
            corner_y=y,
            fs=f"{c:.9f}x{s:+.9f}y",
            ss=f"{-s:.9f}x{c:+.9f}y",
        )
        fs, ss = np.meshgrid(np.arange(0.05, 60, 0.1), np.arange(0.05, 40, 0.1))
        u, v = (fs - x) * c + (ss - y) * s, -(fs - x) * s + (ss - y) * c
        share = np.mean((u > 0) & (u < 60) & (v > 0) & (v < 40))
        found = overlaps(at(text))
        if found:
            assert found[0].share == pytest.approx(share, abs=2e-3)
        else:
            assert share < 0.05
