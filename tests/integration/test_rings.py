# SPDX-License-Identifier: GPL-3.0-or-later
"""Intensities as CrystFEL measures them, in every way that it has."""

import numpy as np
import pytest
from integration.frozen import case_of, frame_of, lines, names

from gpuidx.integration.integrator import Integrator


def measured(name):
    case = case_of(name)
    integrator = Integrator(case.geometry, case.masks, case.options)
    return case, integrator.measure(frame_of(case.geometry), case.crystals())


@pytest.mark.parametrize("name", [name for name in names() if "grad" not in name])
def test_measures_the_reflections_of_crystfel_to_the_last_digit(name):
    case, crystals = measured(name)
    for crystal, expected in zip(crystals, case.expected, strict=True):
        assert lines(crystal.reflections) == expected["lines"]
        assert crystal.reflections.n_saturated == expected["saturated"]
        assert crystal.reflections.n_implausible == expected["implausible"]


@pytest.mark.parametrize("name", [name for name in names() if "grad" in name])
def test_measures_above_a_slope_as_crystfel_does(name):
    # the plane comes from another way of solving, so a few intensities differ by one in the last digit
    case, crystals = measured(name)
    for crystal, expected in zip(crystals, case.expected, strict=True):
        ours, theirs = lines(crystal.reflections), expected["lines"]
        assert [line[:14] for line in ours] == [line[:14] for line in theirs]
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(
                [float(word) for word in our.split()[3:9]],
                [float(word) for word in their.split()[3:9]],
                rtol=0,
                atol=0.0101,
            )
        assert crystal.reflections.n_saturated == expected["saturated"]
        assert crystal.reflections.n_implausible == expected["implausible"]


def test_moves_boxes_and_fits_slopes_in_the_frozen_cases():
    plain, moved = (case_of(name).expected[0]["lines"] for name in ("plain", "cen"))
    assert len(set(moved) - set(plain)) > 5
    flat, sloped = (
        {line[:14]: float(line.split()[3]) for line in case_of(name).expected[0]["lines"]}
        for name in ("two", "grad_two")
    )
    assert sum(abs(sloped[key] - flat[key]) > 0.1 for key in sloped) > 20
