# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of panels are numbered as CrystFEL numbers them, and turn about their centres."""

import numpy as np
import pytest
from geometry.texts import TOP, panel, read

from gpuidx.errors import GeometryError
from gpuidx.geometry.hierarchy import Hierarchy

PANELS = TOP + "".join(panel(name, y=10 * n, corner_x=100.0 * n) for n, name in enumerate("abc"))
DEEP = "group_g1 = a,b,c\ngroup_g2 = g1\ngroup_g3 = g2\ngroup_g4 = g3\ngroup_all = g4\n"
NESTED = PANELS + "group_pair = b,c\ngroup_all = a,pair\n"


def serials(text, deepest=99):
    """Serials of the groups of each panel, the smallest group first."""
    found = Hierarchy(read(text), deepest)
    return [[int(found.serial[group]) for group in chain if group >= 0] for chain in found.chain]


def test_panels_without_groups_are_members_of_one():
    assert serials(PANELS) == [[100, 0], [200, 0], [300, 0]]


def test_members_of_members_are_numbered_by_their_place_in_each_group():
    assert serials(NESTED) == [[100, 0], [10200, 200, 0], [20200, 200, 0]]


@pytest.mark.parametrize(("deepest", "expected"), [(0, [[0]] * 3), (1, [[100, 0], [200, 0], [200, 0]])])
def test_groups_below_the_level_are_left_out(deepest, expected):
    assert serials(NESTED, deepest) == expected


def test_the_centre_of_a_group_is_the_mean_of_its_members():
    geometry = read(NESTED)
    found = Hierarchy(geometry, 99)
    centers = dict(zip(found.serial.tolist(), found.centers(geometry.detector(0.08)), strict=True))
    middle = np.array([-5.5 + 10, -3.5 + 5])
    expected = {100: 0.0, 10200: 100.0, 20200: 200.0, 200: 150.0, 0: 75.0}
    assert set(centers) == set(expected)
    for serial, x in expected.items():
        first = middle[0] + 5.5 + x if serial != 100 else middle[0] + 5.5
        np.testing.assert_allclose(centers[serial], np.array([first, middle[1], 800.0]) / 1e4)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("group_pair = b,c\n", "has no group 'all' of all panels, which --mille needs"),
        ("group_all = b,c\n", "panel a is in no group below 'all'"),
        (
            "group_g1 = a,b,c\ngroup_g2 = g1\ngroup_g3 = g2\ngroup_g4 = g3\ngroup_all = g4\n",
            "max-mille-level=4",
        ),
    ],
)
def test_groups_that_cannot_be_numbered_are_refused(groups, said):
    with pytest.raises(GeometryError, match=said):
        Hierarchy(read(PANELS + groups), 99)
