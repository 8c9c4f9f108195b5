# SPDX-License-Identifier: GPL-3.0-or-later
"""What is legal in a geometry file and hardly meant, told with its line."""

import pytest
from geometry.texts import ONE, TOP, TWO, panel, read

from gpuidx.geometry.lint import suspicions

LARGE = TOP + panel("a", width=200, height=200, corner_x=-100, corner_y=-100)


def said(text, clen=0.1):
    geometry = read(text)
    length = geometry.clen.value if geometry.clen.value is not None else clen
    factor = 1e-3 if geometry.clen.unit == "mm" else 1.0
    return suspicions(geometry, geometry.detector(length * factor))


def test_a_good_geometry_has_nothing_odd():
    assert said(LARGE) == []
    assert said(TOP + panel("a") + panel("b", y=10, corner_y=6.5)) == []


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (LARGE.replace("0.08", "80"), 2, "panel a is 80 m from the sample; without a unit metres are meant"),
        (LARGE.replace("0.08", "0.08 mm"), 2, "panel a is 8e-05 m from the sample"),
        (LARGE.replace("0.08", "-0.08"), 2, "panel a is upstream of the sample, at -0.08 m"),
        (LARGE.replace("0.08", "/clen"), 2, "the header '/clen' without a unit, so it is taken to be in mm"),
        (LARGE + "a/coffset = 58\n", 13, "panel a: coffset is 58 m; it is always in metres"),
        (LARGE.replace("10000", "75"), 3, "res = 75 means pixels of 0.0133333 m"),
        (LARGE.replace("9000 eV", "9.5"), 1, "means photons of 9.5 eV; without a unit it is in eV"),
        (LARGE.replace("photon_energy = 9000 eV", "wavelength = 1.3 m"), 1, "means photons of"),
        (LARGE + "detector_shift_x = 2\ndetector_shift_y = 0\n", 13, "shift_x is 2 m; without a unit"),
        (LARGE.replace("+1.0x", "+1.1x"), 11, "panel a: fs is 1.1 pixels long; expected 1"),
        (LARGE.replace("+1.0y", "+0.1x +0.995y"), 12, "fs and ss are at 84.3° to each other; expected 90°"),
        (LARGE.replace("corner_x = -100", "corner_x = 400"), 9, "passes all panels, 400 px from"),
        (LARGE + panel("b"), 17, "panels a and b overlap, 10 px wide, 0.5 % of a"),
    ],
)  # fmt: skip
def test_what_is_odd_is_told_with_its_line(text, line, expected):
    found = said(text)
    assert any(where == line and expected in what for where, what in found), found


def test_electrons_have_any_voltage():
    assert said(LARGE.replace("photon_energy = 9000 eV", "electron_voltage = 200 kV")) == []


def test_a_panel_that_is_mirrored_is_told_from_the_others():
    text = (
        LARGE
        + panel("b", y=200, corner_x=120, corner_y=0)
        + panel("c", y=210, corner_x=180, fs="-x", corner_y=0)
    )
    ((line, what),) = said(text)
    assert line == text[: text.index("c/fs")].count("\n") + 1
    assert what.startswith("panel c is a mirror image of most others")


def test_panels_behind_the_sample_are_not_mirrored_for_that():
    text = (
        TOP.replace("0.08", "/clen mm")
        + panel("a", fs="-0.5x+0.1z", ss="0.9y", res=20)
        + panel("b", y=10, fs="x")
    )
    assert not [
        what for _, what in said(text, -0.05) if "mirror" in what and "panel a" in what and "panel b" in what
    ]


def test_swapped_axes_are_proposed_where_they_explain_the_overlaps():
    good = TOP + panel("a", width=100, height=20, corner_x=-50, corner_y=-20)
    good += panel("b", y=20, width=100, height=20, corner_x=-50, corner_y=3)
    assert said(good) == []
    swapped = (
        good.replace("fs = +1.0x", "fs = +1.0q").replace("ss = +1.0y", "ss = +1.0x").replace("+1.0q", "+1.0y")
    )
    assert any("no panels would overlap if fs and ss were exchanged" in what for _, what in said(swapped))


def test_pixels_that_two_panels_read_are_told():
    found = said(TWO.replace("b/min_ss = 10", "b/min_ss = 5"))
    assert [what for _, what in found] == [
        "panel b reads pixels of '/data/data' that another panel reads, too"
    ]


def test_odd_things_of_one_kind_are_told_once():
    many = TOP + "".join(panel(f"p{i}", y=10 * i, corner_y=12 * i, fs="1.2x") for i in range(30))
    ((_, what),) = said(many)
    assert what.endswith("(and 29 more like this)")
    assert said(ONE) == []
