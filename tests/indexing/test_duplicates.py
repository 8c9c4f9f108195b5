# SPDX-License-Identifier: GPL-3.0-or-later
"""Two crystals count as one if their lattices agree in some setting."""

import numpy as np
import pytest
from indexing.stills import random_turn

from gpuidx.cell import real_axes
from gpuidx.indexing.cell_check import unimodular_matrices
from gpuidx.indexing.duplicates import SameCrystal

AXES = real_axes((50.0, 60.0, 70.0, 80.0, 95.0, 100.0))


def turned(axes, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return axes @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_same_lattice_in_another_setting(seed):
    rng = np.random.default_rng(seed)
    axes = AXES @ random_turn(rng)
    other = rng.choice(unimodular_matrices()) @ axes * rng.choice([-1, 1])
    assert SameCrystal("P")(axes, other * 1.02)


def test_different_orientations_are_different_crystals():
    same = SameCrystal("P")
    assert same(AXES, turned(AXES, 3))
    assert not same(AXES, turned(AXES, 12))
    assert not same(AXES, AXES @ random_turn(np.random.default_rng(1)))


def test_lengths_may_differ_by_ten_percent():
    same = SameCrystal("P")
    assert same(AXES * (1 / 0.91), AXES)
    assert not same(AXES * (1 / 0.89), AXES)


def test_a_change_of_centring_is_no_setting():
    # exchange of a and c carries the lattice into itself nearly, but C into A
    axes = real_axes((60.0, 130.0, 60.5, 90.0, 90.0, 90.0))
    exchanged = axes[[2, 1, 0]] * np.array([[1.0], [1.0], [-1.0]])
    assert SameCrystal("P")(axes, exchanged)
    assert not SameCrystal("C")(axes, exchanged)
