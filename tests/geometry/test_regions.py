# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad regions and groups of a geometry file."""

import math

import pytest
from geometry.texts import ONE, TOP, TWO, panel, read, refusal, warnings_of

PIXELS = "bad1/min_fs = 3\nbad1/max_fs = 5\nbad1/min_ss = 12\nbad1/max_ss = 14\n"


def only_region(text):
    (found,) = read(text).bad_regions
    return found


def test_region_in_pixels_of_a_panel():
    found = only_region(TWO + PIXELS + "bad1/panel = b\n")
    assert (found.name, found.is_fsss, found.panel, found.line) == ("bad1", True, "b", 21)
    assert (found.min_fs, found.max_fs, found.min_ss, found.max_ss) == (3, 5, 12, 14)


def test_region_in_the_laboratory():
    found = only_region(
        ONE + "badger/min_x = -3.5\nbadger/max_x = 4\nbadger/min_y = -1\nbadger/max_y = inf\n"
    )
    assert (found.name, found.is_fsss, found.panel) == ("badger", False, None)
    assert (found.min_x, found.max_x, found.min_y, found.max_y) == (-3.5, 4.0, -1.0, math.inf)


def test_region_may_come_before_its_panel():
    assert only_region(PIXELS + "bad1/panel = b\n" + TWO).panel == "b"


def test_missing_laboratory_limits_mask_nothing_with_a_warning():
    text = ONE + "bad1/min_x = 3\n"
    assert math.isnan(only_region(text).max_x)
    assert "bad region bad1 has no max_x, min_y, max_y and so masks nothing" in warnings_of(text)


def test_missing_pixel_limits_are_zero_with_a_warning():
    text = ONE + "bad1/max_fs = 3\nbad1/panel = p0\n"
    found = only_region(text)
    assert (found.min_fs, found.max_fs, found.min_ss, found.max_ss) == (0, 3, 0, 0)
    assert "t.geom:13: bad region bad1 has no min_fs, min_ss, max_ss; taken as 0" in warnings_of(text)


def test_region_without_panel_counts_from_the_corner_of_the_only_panel():
    text = TOP + panel(x=100, y=50) + "bad1/min_fs = 2\nbad1/max_fs = 3\nbad1/min_ss = 0\nbad1/max_ss = 9\n"
    found = only_region(text)
    assert (found.min_fs, found.max_fs, found.min_ss, found.max_ss) == (102, 103, 50, 59)
    assert "t.geom:13: bad region bad1 names no panel; taken to be on 'p0', from its corner" in warnings_of(
        text
    )


def test_region_without_panel_beyond_the_only_panel_has_no_effect():
    text = ONE + PIXELS
    assert read(text).bad_regions == ()
    assert "it has no effect" in warnings_of(text)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (PIXELS, "t.geom:21: bad region bad1 names no panel; give its panel"),
        (PIXELS + "bad1/panel = c\n", "t.geom:21: bad region bad1 is on panel 'c', which does not exist"),
        (
            PIXELS + "bad1/panel = a\n",
            "t.geom:21: bad region bad1, fs 3 to 5, ss 12 to 14, is not within panel a",
        ),
        ("bad1/panel = a\n", "t.geom:21: bad region bad1 has no limits"),
        (
            PIXELS + "bad1/max_x = 3\n",
            "t.geom:25: bad1/max_x = '3': a bad region is in x and y or in fs and ss",
        ),
        ("bad1/min_x = 3\nbad1/min_fs = 3\n", "t.geom:22: bad1/min_fs = '3': a bad region is in x and y or"),
    ],
)
def test_useless_region_is_refused_with_its_line(lines, text):
    assert text in refusal(TWO + lines)


def test_groups_build_on_each_other():
    groups = read("group_x = a,b\n" + TWO + "group_all = x,a\n").groups
    assert groups == {"x": ("a", "b"), "all": ("x", "a")}


def test_groups_are_defined_before_they_are_used_but_may_precede_panels():
    assert read("group_x = a,b\n" + TWO).groups == {"x": ("a", "b")}
    assert "t.geom:1: group all has the unknown member 'x'" in refusal("group_all = x\ngroup_x = a\n" + TWO)


def test_without_groups_there_is_one_of_all_panels():
    assert read(TWO).groups == {"all": ("a", "b")}


def test_more_than_64_panels_are_no_group_but_no_error():
    text = TOP + "".join(panel(f"p{i}", y=10 * i) for i in range(65))
    assert read(text).groups == {}
    many = ",".join(f"p{i}" for i in range(65))
    assert "group g has 65 members; at most 64 are allowed" in refusal(text + f"group_g = {many}\n")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("group_x = a,q", "group x has the unknown member 'q'; define the lowest level first"),
        ("group_x = a, b", "unknown member ' b'; blanks after a comma count"),
        ("group_x = a,a", "group x names a member twice"),
        ("group_x =", "group x has no members"),
        ("group_x = ,,", "group x has no members"),
        ("group_a = b", "group a is defined twice, or is also a panel"),
    ],
)
def test_useless_group_is_refused_with_its_line(line, text):
    assert refusal(TWO + line).startswith("t.geom:21: ")
    assert text in refusal(TWO + line)


def test_512_groups_are_the_limit():
    lines = "".join(f"group_g{i} = a\n" for i in range(511))
    assert len(read(TWO + lines[: lines.index("group_g510")]).groups) == 510
    assert "group g510 is one too many; 512 are allowed" in refusal(TWO + lines)


def test_more_than_512_panels_load():
    text = TOP + "".join(panel(f"p{i}", y=10 * i) for i in range(520))
    geometry = read(text)
    assert len(geometry.panels) == 520
    assert geometry.groups == {}


def test_more_than_1024_group_lines_have_no_effect():
    text = TWO + "group_a = b\n" * 1030
    assert "group a is defined twice, or is also a panel (and 1023 more like this)" in refusal(text)
