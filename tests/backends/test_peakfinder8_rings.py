# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ring a pixel belongs to, and the order of pixels within a ring."""

import math

import numpy as np
import pytest
from backends.peakfinder8_cases import make_geometry, make_panel, small_case
from backends.peakfinder8_reference import panel_radii

from gpuidx.backends.cpu.tiles import ALL_GOOD, EMPTY, MIXED, TILE, least_of_tile, make_tiles, range_table
from gpuidx.backends.rings import MASKED, Rings, make_rings


def rings_of(case) -> Rings:
    options = case.options
    return make_rings(
        case.frame.detector, case.geometry.slab_shape, case.masks.bad, options.min_res, options.max_res
    )


@pytest.mark.parametrize("number", range(300, 320))
def test_rings_are_those_of_the_rounded_radius(number: int) -> None:
    case = small_case(number)
    rings = rings_of(case)
    seen = np.zeros(case.geometry.slab_shape, bool)
    for panel, (x0, y0, n_fs, n_ss) in enumerate(rings.rect):
        box = slice(y0, y0 + n_ss), slice(x0, x0 + n_fs)
        radius = panel_radii(case.frame.detector, panel)
        usable = (radius > case.options.min_res) & ~case.masks.bad[box]
        usable &= (radius < case.options.max_res) | (case.options.max_res == 0)
        expected = np.where(usable, np.rint(radius), MASKED)
        assert (rings.ring.reshape(seen.shape)[box] == expected).all()
        assert (rings.panel_of.reshape(seen.shape)[box] == panel).all()
        seen[box] = True
    assert (rings.ring.reshape(seen.shape)[~seen] == MASKED).all()


@pytest.mark.parametrize("number", range(300, 320))
def test_members_are_sorted_by_ring_then_panel_then_along_the_slab(number: int) -> None:
    rings = rings_of(small_case(number))
    usable = np.flatnonzero(rings.ring != MASKED)
    order = np.lexsort((usable, rings.panel_of[usable], rings.ring[usable]))
    assert rings.members.tolist() == usable[order].tolist()
    assert rings.count.tolist() == np.bincount(rings.ring[usable], minlength=rings.n_ring).tolist()
    assert np.diff(rings.start).tolist() == rings.count.tolist()


@pytest.mark.parametrize("even", [True, False])
def test_a_radius_half_way_goes_to_the_even_ring(even: bool) -> None:
    # x² + y² = k(k + 1) has the root k + ½ in float32, for large k
    for k in range(2048 if even else 2049, 4000, 2):
        found = [
            (x, math.isqrt(k * k + k - x * x))
            for x in range(1, k)
            if math.isqrt(k * k + k - x * x) ** 2 == k * k + k - x * x
        ]
        if found:
            break
    x, y = found[0]
    assert np.float32(math.sqrt(x * x + y * y)) == k + 0.5
    geometry = make_geometry([make_panel("p0", (0, 0, 1, 1), (float(x), float(y)))], (1, 1))
    rings = make_rings(geometry.detector(0.1), (1, 1), np.zeros((1, 1), bool), 0, 0)
    assert rings.ring[0] == (k if even else k + 1)


def test_coordinates_are_cut_towards_zero() -> None:
    geometry = make_geometry([make_panel("p0", (0, 0, 8, 1), (-3.7, 0.9))], (1, 8))
    rings = make_rings(geometry.detector(0.1), (1, 8), np.zeros((1, 8), bool), 0, 0)
    assert rings.ring.tolist() == [3, 2, 1, MASKED, MASKED, 1, 2, 3]


@pytest.mark.parametrize("number", range(300, 320))
def test_tiles_know_their_rings_and_the_least_value_of_these(number: int) -> None:
    rings = rings_of(small_case(number))
    tiles = make_tiles(rings)
    values = (np.arange(rings.n_ring) * 7919 % 1000).astype(np.int16)
    table = range_table(values)
    for tile, start in enumerate(range(0, len(rings.ring), TILE)):
        part = rings.ring[start : start + TILE]
        good = part[part != MASKED]
        kind = EMPTY if len(good) == 0 else ALL_GOOD if len(good) == TILE else MIXED
        assert tiles.kind[tile] == kind
        if len(good):
            assert (tiles.first_ring[tile], tiles.last_ring[tile]) == (good.min(), good.max())
            expected = values[good.min() : good.max() + 1].min()
            assert least_of_tile(table, tiles, np.uint64(tile)) == expected
