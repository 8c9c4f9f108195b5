# SPDX-License-Identifier: GPL-3.0-or-later
"""Intensities by a fitted profile as CrystFEL measures them (``--integration=prof2d``)."""

from dataclasses import replace

import numpy as np
import pytest
from backends.ways import all_options
from integration.frozen import case_of, frame_of, lines, low_frame_of, profile_cases

from gpuidx.integration.integrator import NO_PROFILE, Integrator
from gpuidx.integration.prof2d import fit_profile
from gpuidx.options import PeakOptions
from gpuidx.pipeline import Pipeline


def made(case, **options):
    return Integrator(case.geometry, case.masks, replace(case.options, **options))


@pytest.mark.parametrize("name", profile_cases())
def test_measures_the_reflections_of_crystfel_to_the_last_digit(name):
    case = case_of(name)
    crystals = made(case).measure(low_frame_of(case.geometry), case.crystals())
    for crystal, expected in zip(crystals, case.expected, strict=True):
        assert lines(crystal.reflections) == expected["lines"]


def test_frozen_cases_differ_in_what_their_options_change():
    measured = {name: case["crystals"][0]["lines"] for name, case in profile_cases().items()}
    assert len({tuple(found) for found in measured.values()}) == len(measured)
    assert all(len(found) > 50 for found in measured.values())


def test_counts_saturated_spots_though_crystfel_does_not():
    case = case_of("prof2d_prof2d")
    (strict,) = made(case).measure(low_frame_of(case.geometry), case.crystals())
    (kept,) = made(case, integration="prof2d-sat").measure(low_frame_of(case.geometry), case.crystals())
    assert strict.reflections.n_saturated == kept.reflections.n_saturated > 0
    assert len(kept.reflections) > len(strict.reflections)


def test_says_that_no_spot_was_clear_enough_for_a_profile():
    case = case_of("plain")
    integrator = made(case, integration="prof2d")
    (crystal,) = integrator.measure(frame_of(case.geometry), case.crystals())
    assert len(crystal.reflections) == 0
    assert integrator.notes == {NO_PROFILE: 1}


def test_note_comes_with_the_frame_and_only_once():
    case = case_of("plain")
    options = replace(all_options(PeakOptions()), integration="prof2d", indexing="none")
    pipeline = Pipeline(options, case.geometry, None)
    pipeline.integrator.measure(frame_of(case.geometry), case.crystals())
    assert pipeline.take_notes() == [(NO_PROFILE, 1)]
    assert pipeline.take_notes() == []


def test_no_note_where_there_is_a_profile_or_no_spot():
    case = case_of("prof2d_prof2d")
    integrator = made(case)
    integrator.measure(low_frame_of(case.geometry), case.crystals())
    nowhere = [replace(crystal, resolution_limit=0.0) for crystal in case.crystals()]
    none = made(case, push_res=0.0)
    (crystal,) = none.measure(low_frame_of(case.geometry), nowhere)
    assert len(crystal.reflections) == 0
    assert not integrator.notes
    assert not none.notes


def test_fit_leaves_out_pixels_that_spot_or_profile_lacks():
    profile = np.array([1.0, 4.0, 1.0, np.nan, 2.0])
    heights = np.array([3.0, 12.0, 3.0, 100.0, np.nan])
    number, intensity, rest = fit_profile(heights, profile)
    assert number == 3
    assert intensity == pytest.approx(18.0)
    assert rest == pytest.approx(0.0)


def test_fit_is_that_of_least_squares():
    random = np.random.default_rng(5)
    profile, heights = random.random(30), random.random(30)
    number, intensity, rest = fit_profile(heights, profile)
    scale, left = np.linalg.lstsq(profile[:, None], heights, rcond=None)[:2]
    assert number == 30
    assert intensity == pytest.approx(scale[0] * profile.sum())
    assert rest == pytest.approx(left[0])
