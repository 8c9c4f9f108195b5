# SPDX-License-Identifier: GPL-3.0-or-later
"""The peaks that CrystFEL 0.12 found in made-up frames, to every printed digit."""

import numpy as np
import pytest
from backends.peakfinder8_cases import large_case, small_case
from backends.peakfinder8_frozen import printed, read_frozen
from backends.ways import WAYS, find
from thorough import sample

SMALL = read_frozen("peakfinder8_small.txt.gz")
LARGE = read_frozen("peakfinder8_4m.txt.gz")


@pytest.mark.parametrize("number", SMALL)
def test_small_frames_give_the_peaks_of_crystfel_in_all_ways(number: int) -> None:
    case = small_case(number)
    for way in WAYS:
        peaks = find(way, case.geometry, case.options, case.masks, case.frame)
        assert printed(case.geometry, case.frame, peaks) == SMALL[number], way


@pytest.mark.parametrize("number", sample(LARGE, 4))
def test_frames_of_four_megapixels_give_the_peaks_of_crystfel_in_all_ways(number: int) -> None:
    case = large_case(number)
    for way in WAYS:
        peaks = find(way, case.geometry, case.options, case.masks, case.frame)
        assert printed(case.geometry, case.frame, peaks) == LARGE[number], way


def test_the_frozen_cases_are_a_hundred_small_frames_and_ten_large_ones_with_enough_peaks() -> None:
    assert len(SMALL), len(LARGE) == (100, 10)
    assert sum(map(len, SMALL.values())) > 1800
    assert sum(map(len, LARGE.values())) > 1600


def test_the_small_frames_are_of_all_pixel_types_and_one_to_four_panels() -> None:
    cases = [small_case(number) for number in SMALL]
    assert {case.image.dtype.str[1:] for case in cases} == {"u2", "i2", "u4", "i4", "f4"}
    assert {len(case.geometry.panels) for case in cases} == {1, 2, 3, 4}
    assert any(np.isfinite(case.masks.rules.equal) for case in cases)
    assert any(case.options.peakfinder8_fast for case in cases)
    assert any(not case.options.use_saturated for case in cases)
