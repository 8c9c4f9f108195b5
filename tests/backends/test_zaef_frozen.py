# SPDX-License-Identifier: GPL-3.0-or-later
"""The peaks that CrystFEL 0.12 found in made-up frames by zaef and after filters, to every printed digit."""

import numpy as np
import pytest
from backends.peakfinder8_frozen import printed, read_frozen
from backends.zaef_cases import filter_case, found, zaef_case

ZAEF = read_frozen("zaef_small.txt.gz")
FILTERED = read_frozen("filters_small.txt.gz")


@pytest.mark.parametrize("number", ZAEF)
def test_zaef_gives_the_peaks_of_crystfel(number: int) -> None:
    case = zaef_case(number)
    assert printed(case.geometry, case.frame, found(case)) == ZAEF[number]


@pytest.mark.parametrize("number", FILTERED)
def test_filtered_frames_give_the_peaks_of_crystfel(number: int) -> None:
    case = filter_case(number)
    assert printed(case.geometry, case.frame, found(case)) == FILTERED[number]


def test_the_frozen_cases_are_many_with_enough_peaks() -> None:
    assert (len(ZAEF), len(FILTERED)) == (100, 60)
    assert sum(len(lines) - 1 for lines in ZAEF.values()) > 2000
    assert sum(len(lines) > 1 for lines in ZAEF.values()) > 55
    assert sum(len(lines) - 1 for lines in FILTERED.values()) > 600


def test_the_frozen_cases_are_of_all_pixel_types_with_masks_rules_and_saturated_peaks() -> None:
    cases = [zaef_case(number) for number in ZAEF if len(ZAEF[number]) > 1]
    assert {case.frame.image.dtype.str[1:] for case in cases} == {"u2", "i2", "u4", "i4", "f4"}
    assert {len(case.geometry.panels) for case in cases} == {1, 2, 3, 4}
    assert any(np.isfinite(case.masks.rules.equal) for case in cases)
    assert any(case.masks.bad.any() for case in cases)
    assert any(not case.options.use_saturated for case in cases)
    assert len({case.options.peak_radius for case in cases}) == 5
    filtered = [filter_case(number).options for number in FILTERED]
    assert {options.peaks for options in filtered} == {"zaef", "peakfinder8"}
    assert any(options.filter_noise for options in filtered)
    assert len({options.median_filter for options in filtered}) > 5
