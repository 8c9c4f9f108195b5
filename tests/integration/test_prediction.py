# SPDX-License-Identifier: GPL-3.0-or-later
"""Predicted spots are those that looking at every lattice point finds."""

import itertools
import math

import numpy as np
import pytest
from integration.frozen import frame_of, geometry_of, made_crystal

from gpuidx.cell import real_axes
from gpuidx.geometry.masks import Masks
from gpuidx.integration.integrator import Integrator
from gpuidx.options import IntegrationOptions

ABSENT = {
    "P": lambda h: False,
    "R": lambda h: False,
    "A": lambda h: (h[1] + h[2]) % 2,
    "B": lambda h: (h[0] + h[2]) % 2,
    "C": lambda h: (h[0] + h[1]) % 2,
    "I": lambda h: sum(h) % 2,
    "F": lambda h: len({index % 2 for index in h}) > 1,
    "H": lambda h: (-h[0] + h[1] + h[2]) % 3,
}


def some_recip(parameters, seed):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return np.linalg.inv(real_axes(parameters) @ turn).T


def half_wavenumber(q):
    return -(q @ q) / (2 * q[2]) if q[2] < 0 else math.nan


def looked_at(q, k, radius, bandwidth):
    """Whether a lattice point reflects, and with which wavenumber: the text of the specification."""
    spread = bandwidth * k
    ray = q + np.array((0, 0, k))
    direction = ray / np.linalg.norm(ray)
    across = (1 - direction[2]) * spread
    if across == 0:
        predicted, error = k, (k - half_wavenumber(q)) ** 2
    else:
        near = k * direction - np.array((0, 0, k))
        error = ((near - q) ** 2).sum()
        w0, w1 = 1 / radius**2, 1 / across**2
        predicted = half_wavenumber((np.minimum(q, (np.inf, np.inf, 0)) * w0 + near * w1) / (w0 + w1))
    width = radius**2 + across**2
    overlap = math.exp(-0.5 * error / width) * radius / math.sqrt(width) if error < 1 else 0.0
    overlap *= math.sqrt((radius**2 + spread**2) / radius**2)
    return overlap >= math.exp(-0.5 * 1.7**2), predicted


def looked_for(frame, recip, centering, radius, bandwidth, limit):
    detector, k = frame.detector, 1 / frame.wavelength
    highest = min(detector.max_q * k, limit)
    ranges = [
        range(-int(highest * a), int(highest * a) + 1) for a in np.linalg.norm(np.linalg.inv(recip), axis=0)
    ]
    found = []
    for hkl in itertools.product(*ranges):
        q = np.array(hkl) @ recip
        if not any(hkl) or ABSENT[centering](hkl) or np.linalg.norm(q) > limit:
            continue
        kept, predicted = looked_at(q, k, radius, bandwidth)
        if not kept:
            continue
        for panel in range(len(detector.back)):
            scale, fs, ss = detector.back[panel] @ (q + np.array((0, 0, predicted)))
            width, height = detector.rect[panel, 2:]
            if scale > 0 and 0 <= fs / scale < width and 0 <= ss / scale < height:
                found.append((*hkl, panel, fs / scale, ss / scale))
                break
    return np.array(found)


@pytest.mark.parametrize(
    ("centering", "radius", "bandwidth", "limit"),
    [
        ("P", 0.002, 1e-8, np.inf),
        ("I", 0.004, 0.003, np.inf),
        ("F", 0.003, 0.02, 0.2),
        ("A", 0.01, 0.1, 0.25),
        ("B", 0.03, 0.0, np.inf),
        ("C", 0.02, 0.0, 0.3),
        ("H", 0.0027, 1e-5, 0.3),
        ("R", 1e-6, 0.05, np.inf),
        ("P", 0.05, 1e-8, 0.1),
    ],
)
def test_finds_the_spots_that_a_plain_search_finds(centering, radius, bandwidth, limit):
    geometry = geometry_of(str(bandwidth))
    frame = frame_of(geometry)
    recip = some_recip((31.0, 37.0, 44.0, 95.0, 83.0, 104.0), ord(centering))
    push_res = 10 * limit - 1.0
    integrator = Integrator(geometry, Masks(geometry), IntegrationOptions(push_res=push_res))
    spots = integrator.predicted(
        frame, made_crystal(recip, centering=centering, profile_radius=radius, resolution_limit=0.1)
    )
    expected = looked_for(frame, recip, centering, radius, bandwidth, limit)
    assert len(expected) > 5
    np.testing.assert_array_equal(np.column_stack([spots.hkl, spots.panel]), expected[:, :4])
    np.testing.assert_allclose(np.column_stack([spots.fs, spots.ss]), expected[:, 4:], atol=1e-6)


def test_predicts_farther_from_the_sphere_on_request():
    geometry = geometry_of()
    frame = frame_of(geometry)
    recip = some_recip((31.0, 37.0, 44.0, 95.0, 83.0, 104.0), 1)
    crystal = made_crystal(recip, profile_radius=0.001)
    wide = made_crystal(recip, profile_radius=0.005)
    more = Integrator(geometry, Masks(geometry), IntegrationOptions(overpredict=True)).predicted(
        frame, crystal
    )
    same = Integrator(geometry, Masks(geometry), IntegrationOptions()).predicted(frame, wide)
    np.testing.assert_array_equal(more.hkl, same.hkl)


def on_left_panel(spots):
    where = np.column_stack([spots.fs, spots.ss])
    return {tuple(h): at for h, at, p in zip(spots.hkl.tolist(), where, spots.panel, strict=True) if p == 0}


def test_a_shift_of_the_detector_moves_spots_the_other_way():
    geometry = geometry_of()
    frame = frame_of(geometry)
    recip = some_recip((31.0, 37.0, 44.0, 95.0, 83.0, 104.0), 1)
    integrator = Integrator(geometry, Masks(geometry), IntegrationOptions())
    here = integrator.predicted(frame, made_crystal(recip))
    there = integrator.predicted(frame, made_crystal(recip, shift=(2e-4, -1e-4)))  # 2 px, −1 px
    places, new_places = on_left_panel(here), on_left_panel(there)
    moved = [new_places[hkl] - places[hkl] for hkl in places.keys() & new_places.keys()]
    assert len(moved) > 10
    np.testing.assert_allclose(moved, np.broadcast_to((-2.0, 1.0), (len(moved), 2)), atol=1e-9)


def test_stops_at_the_highest_index():
    geometry = geometry_of()
    recip = some_recip((4500.0, 40.0, 40.0, 90.0, 90.0, 90.0), 2)
    integrator = Integrator(geometry, Masks(geometry), IntegrationOptions())
    spots = integrator.predicted(frame_of(geometry), made_crystal(recip, profile_radius=0.02))
    assert np.abs(spots.hkl).max() == 511
