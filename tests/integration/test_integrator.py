# SPDX-License-Identifier: GPL-3.0-or-later
"""The integrator keeps its promises whatever the frame holds."""

from dataclasses import replace

import numpy as np
import pytest
from integration.frozen import WIDTH, case_of, frame_of, lines

from gpuidx.geometry.masks import Masks
from gpuidx.integration import integrator as integrator_module
from gpuidx.integration.integrator import Integrator
from gpuidx.model import PIXEL_TYPES
from gpuidx.options import IntegrationOptions


def made(case, **options):
    return Integrator(case.geometry, case.masks, replace(case.options, **options))


def test_same_reflections_for_every_pixel_type():
    case = case_of("plain")
    integrator = made(case)
    # 65535 is no int16; both values are bad by their flags or far from any spot
    found = []
    for dtype in PIXEL_TYPES:
        frame = frame_of(case.geometry)
        image = np.minimum(frame.image, 32767).astype(dtype)
        masked = np.asarray(frame.image) > 60000
        image[masked] = 3
        found.append(integrator.measure(replace(frame, image=image), case.crystals())[0].reflections)
    for reflections in found[1:]:
        assert lines(reflections) == lines(found[0])
    assert lines(found[0]) == case.expected[0]["lines"]


@pytest.mark.parametrize(
    "options", [{"integration": "none"}, {"cell_parameters_only": True}], ids=["none", "cell only"]
)
def test_leaves_crystals_alone_when_told_to(options):
    case = case_of("plain")
    (crystal,) = made(case, **options).measure(frame_of(case.geometry), case.crystals())
    assert crystal.reflections is None


def test_invents_no_reflections_without_an_image():
    case = case_of("plain")
    frame = replace(frame_of(case.geometry), image=None)
    (crystal,) = made(case).measure(frame, case.crystals())
    assert crystal.reflections is None
    assert made(case).measure(frame, ()) == ()


def test_tells_where_spots_are_without_an_image():
    case = case_of("plain")
    frame = replace(frame_of(case.geometry), image=None)
    spots = made(case).predicted(frame, case.crystals()[0])
    assert len(spots) > len(case.expected[0]["lines"])
    assert (np.diff(spots.hkl @ (10**6, 10**3, 1)) > 0).all()


def test_marks_of_one_frame_do_not_reach_the_next():
    case = case_of("two")
    integrator = made(case)
    both = integrator.measure(frame_of(case.geometry), case.crystals())
    alone = integrator.measure(frame_of(case.geometry), case.crystals()[:1])
    assert lines(alone[0].reflections) == case_of("plain").expected[0]["lines"]
    again = integrator.measure(frame_of(case.geometry), case.crystals())
    assert [lines(c.reflections) for c in again] == [lines(c.reflections) for c in both]


def test_results_of_one_frame_stay_when_the_next_is_measured():
    case, other = case_of("plain"), case_of("triclinic")
    integrator = made(case)
    (first,) = integrator.measure(frame_of(case.geometry), case.crystals())
    integrator.measure(frame_of(case.geometry), other.crystals())
    assert lines(first.reflections) == case.expected[0]["lines"]


def test_makes_room_for_more_spots_than_expected(monkeypatch):
    monkeypatch.setattr(integrator_module, "_FIRST_CAPACITY", 10)
    case = case_of("plain")
    (crystal,) = made(case).measure(frame_of(case.geometry), case.crystals())
    assert lines(crystal.reflections) == case.expected[0]["lines"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_drops_spots_with_a_pixel_that_is_no_number(value):
    case = case_of("plain")
    frame = frame_of(case.geometry, "f4")
    integrator = made(case)
    (before,) = integrator.measure(frame, case.crystals())
    reflections = before.reflections
    strongest = int(np.argmax(reflections.intensity))
    x = int(reflections.fs[strongest]) + WIDTH * int(reflections.panel[strongest])
    frame.image[int(reflections.ss[strongest]), x] = value
    (after,) = integrator.measure(frame, case.crystals())
    gone = {tuple(h) for h in reflections.hkl.tolist()} - {tuple(h) for h in after.reflections.hkl.tolist()}
    assert gone == {tuple(reflections.hkl[strongest].tolist())}
    assert np.isfinite(after.reflections.intensity).all()


def test_leaves_bad_pixels_out_of_the_background():
    case = case_of("plain")
    frame = frame_of(case.geometry, "f4")
    integrator = made(case)
    (before,) = integrator.measure(frame, case.crystals())
    chosen = int(np.argmax(before.reflections.intensity))
    x = int(before.reflections.fs[chosen]) + WIDTH * int(before.reflections.panel[chosen])
    y = int(before.reflections.ss[chosen])
    frame.image[y - 6, x] = 1e4
    (spoilt,) = integrator.measure(frame, case.crystals())
    assert spoilt.reflections.background[chosen] != before.reflections.background[chosen]
    frame.image[y - 6, x] = np.nan
    (mended,) = integrator.measure(frame, case.crystals())
    where = [tuple(h) for h in mended.reflections.hkl.tolist()].index(tuple(before.reflections.hkl[chosen]))
    assert abs(mended.reflections.background[where] - before.reflections.background[chosen]) < 1.0


def test_takes_gain_from_the_photon_energy_where_the_geometry_says_so():
    case = case_of("plain")
    per_ev = [
        replace(panel, adu_per_photon=None, adu_per_ev=panel.adu_per_photon / 9500.0)
        for panel in case.geometry.panels
    ]
    geometry = replace(case.geometry, panels=tuple(per_ev))
    integrator = Integrator(geometry, Masks(geometry), IntegrationOptions())
    (crystal,) = integrator.measure(frame_of(geometry), case.crystals())
    assert lines(crystal.reflections) == case.expected[0]["lines"]
