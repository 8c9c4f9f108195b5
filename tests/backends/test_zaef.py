# SPDX-License-Identifier: GPL-3.0-or-later
"""zaef: its rules one by one, with numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from backends.peakfinder8_cases import FixedMasks, make_frame, make_geometry, make_panel

from gpuidx.backends.cpu.zaef import Known, Zaef, _climb
from gpuidx.geometry.masks import ValueRules
from gpuidx.model import PeakList
from gpuidx.options import PeakOptions

SIZE = 64
PANELS = [
    make_panel("p0", (0, 0, SIZE, SIZE), (-32.0, -32.0), max_adu=900.0),
    make_panel("p1", (0, SIZE, SIZE, SIZE), (40.0, -32.0)),
]
GEOMETRY = make_geometry(PANELS, (2 * SIZE, SIZE))
OPTIONS = PeakOptions(
    peaks="zaef", threshold=50.0, min_squared_gradient=100.0, min_snr=3.0, peak_radius=(2.0, 3.0, 4.0)
)


def search(image: np.ndarray, bad=None, rules=None, radii=(4.0, 5.0, 7.0), **options) -> PeakList:
    masks = FixedMasks(GEOMETRY, bad, rules)
    finder = Zaef(GEOMETRY, replace(OPTIONS, **options), masks, radii)  # type: ignore[arg-type]
    return finder.find(make_frame(GEOMETRY, image))


def spot(height: float = 100.0, fs: int = 20, ss: int = 30) -> np.ndarray:
    """A peak with half its height to the right, on a background of 10."""
    image = np.full((2 * SIZE, SIZE), 10.0, np.float32)
    image[ss, fs : fs + 2] += height, height / 2
    return image


def test_a_peak_is_at_its_centre_of_mass_above_the_background() -> None:
    peaks = search(spot())
    assert len(peaks) == 1
    assert peaks.fs[0] == pytest.approx((100 * 20 + 50 * 21) / 150 + 0.5)
    assert peaks.ss[0] == pytest.approx(30.5)
    assert peaks.intensity[0] == pytest.approx(150.0)
    assert peaks.panel[0] == 0


def test_positions_are_within_the_panel() -> None:
    peaks = search(spot(ss=SIZE + 30))
    assert (peaks.panel[0], peaks.ss[0]) == (1, pytest.approx(30.5))


def test_a_climb_begins_at_the_threshold() -> None:
    assert len(search(spot(), threshold=110.0)) == 1
    assert len(search(spot(), threshold=110.5)) == 0


def test_a_climb_begins_where_the_gradient_is_large_enough() -> None:
    # from the summit: 50 to the right, 100 to the left, above and across the corner
    assert len(search(spot(), min_squared_gradient=16250.0)) == 1
    assert len(search(spot(), min_squared_gradient=16251.0)) == 0


def climb(image: np.ndarray, fs: int, ss: int, radius: float) -> tuple[bool, int, int]:
    known = Known(*(np.zeros(image.size, kind) for kind in (np.uint8, np.uint8, np.int32)), 1)
    return _climb(image.reshape(-1), (0, 0, *image.shape[::-1]), image.shape[1], fs, ss, radius, known)


def test_a_climb_goes_on_to_the_summit_or_ends_too_far_from_its_foot() -> None:
    image = np.zeros((20, 40), np.uint16)
    image[10, 10:30:2] = np.arange(1, 11)
    image[10, 14] = 100
    assert climb(image, 10, 10, 4.0) == (True, 14, 10)
    assert climb(image, 12, 10, 2.0) == (True, 14, 10)
    assert climb(image, 10, 10, 3.0)[0] is False
    assert climb(image, 5, 10, 2.0) == (True, 5, 10)


def test_the_square_moves_while_it_is_looked_over() -> None:
    image = np.zeros((20, 40), np.uint16)
    image[10, 13] = 5  # where the climb goes first, so that the next row is looked over from 10 to 16
    image[11, 8], image[11, 15] = 9, 7
    assert climb(image, 10, 10, 3.0)[1:] == (15, 11)
    image[10, 13] = 0
    assert climb(image, 10, 10, 3.0) == (True, 8, 11)


def test_a_broken_radius_reaches_farther_below_than_above() -> None:
    image = np.zeros((20, 40), np.uint16)
    image[10, 13] = 5
    assert climb(image, 10, 10, 2.5) == (True, 10, 10)
    image[10, 13], image[10, 7] = 0, 5
    assert climb(image, 10, 10, 2.5)[1:] == (7, 10)


def test_the_peak_must_stand_out_by_min_snr() -> None:
    # the ring is flat, so the variance is the intensity: 150 / √150
    assert len(search(spot(), min_snr=12.2)) == 1
    assert len(search(spot(), min_snr=12.3)) == 0


def test_a_bad_pixel_on_disc_or_ring_makes_it_no_peak_but_one_between_does_not() -> None:
    for step, n_peak in ((0, 0), (2, 0), (3, 0), (4, 0), (5, 1)):
        bad = np.zeros((2 * SIZE, SIZE), bool)
        bad[30 + step, 20] = True
        assert len(search(spot(), bad=bad)) == n_peak, step
    bad = np.zeros((2 * SIZE, SIZE), bool)
    bad[32, 21] = True  # √5 px away, between 2 and 3
    assert len(search(spot(), bad=bad)) == 1


def test_bad_pixels_are_climbed_and_then_are_no_peak() -> None:
    image = spot()
    image[31, 21] = 5000.0
    assert len(search(image, rules=ValueRules(morethan=4000.0))) == 0


def test_what_is_near_the_border_is_no_peak() -> None:
    assert len(search(spot(fs=4))) == 1
    assert len(search(spot(fs=3))) == 0
    assert len(search(spot(ss=SIZE - 4))) == 0


def test_the_second_of_two_near_peaks_is_dropped() -> None:
    for distance, n_peak in ((3, 1), (5, 2)):
        image = spot()
        image[30 + distance, 20:22] += 100.0, 50.0
        peaks = search(image, min_snr=0.0)
        assert len(peaks) == n_peak, distance


def test_saturated_peaks_go_if_they_are_not_wanted() -> None:
    assert len(search(spot(950.0))) == 1
    assert len(search(spot(950.0), use_saturated=False)) == 0
    assert len(search(spot(950.0, ss=SIZE + 30), use_saturated=False)) == 1


def test_radii_are_those_of_the_integration_unless_given() -> None:
    image = spot()
    image[30, 24] += 8.0
    assert search(image).intensity[0] != pytest.approx(158.0)
    assert search(image, peak_radius=None).intensity[0] == pytest.approx(158.0)
    assert search(image, peak_radius=None, radii=(2.0, 3.0, 3.5)).intensity[0] == pytest.approx(150.0)


def test_nan_is_no_peak_and_does_no_harm() -> None:
    image = spot()
    image[10, 10], image[28, 50] = np.nan, np.inf
    assert len(search(image)) == 1
    image[30, 22] = np.nan
    assert len(search(image)) == 0


def test_peaks_stay_the_same_frame_after_frame() -> None:
    finder = Zaef(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY), (4.0, 5.0, 7.0))  # type: ignore[arg-type]
    for number in range(600):
        image = spot(fs=10 + number % 40)
        peaks = finder.find(make_frame(GEOMETRY, image))
        assert len(peaks) == 1
        assert peaks.fs[0] == pytest.approx(10 + number % 40 + 1 / 3 + 0.5)
    assert len(finder.find(make_frame(GEOMETRY, None))) == 0
