# SPDX-License-Identifier: GPL-3.0-or-later
"""peakfinder9: its rules one by one, a slow version of them, and made-up peaks of known place."""

import math
from dataclasses import replace

import numpy as np
import pytest
from backends.peakfinder8_cases import FixedMasks, make_frame, make_geometry, make_panel, small_case

from gpuidx.backends.cpu.peakfinder9 import Peakfinder9
from gpuidx.geometry.masks import ValueRules
from gpuidx.model import PeakList
from gpuidx.options import PeakOptions

SIZE = 64
GEOMETRY = make_geometry([make_panel("p0", (0, 0, SIZE, SIZE), (-32.0, -32.0), max_adu=900.0)], (SIZE, SIZE))
OPTIONS = PeakOptions(peaks="peakfinder9", min_sig=2.0, min_snr=5.0, local_bg_radius=3)


def search(image: np.ndarray, bad=None, rules=None, **options) -> PeakList:
    masks = FixedMasks(GEOMETRY, bad, rules)
    return Peakfinder9(GEOMETRY, replace(OPTIONS, **options), masks).find(make_frame(GEOMETRY, image))  # type: ignore[arg-type]


def spot(height: float = 100.0, background: float = 10.0) -> np.ndarray:
    """One peak at 20, 30 with half its height to the right."""
    image = np.full((SIZE, SIZE), background, np.float32)
    image[30, 20:22] += height, height / 2
    return image


def test_a_peak_is_at_its_centre_of_mass_with_what_is_above_the_background() -> None:
    peaks = search(spot())
    assert len(peaks) == 1
    assert peaks.fs[0] == pytest.approx((100 * 20 + 50 * 21) / 150 + 0.5)
    assert peaks.ss[0] == pytest.approx(30.5)
    assert peaks.intensity[0] == pytest.approx(150.0)


def test_the_highest_pixel_must_stand_out_by_min_snr_biggest_pix() -> None:
    assert len(search(spot(14.5))) == 1
    assert len(search(spot(13.5))) == 0
    assert len(search(spot(13.5), min_snr_biggest_pix=6.0)) == 1


def test_other_pixels_belong_to_the_peak_if_they_stand_out_by_min_snr_peak_pix() -> None:
    assert search(spot(20.0)).intensity[0] == pytest.approx(20.0)
    assert search(spot(20.0), min_snr_peak_pix=4.0).intensity[0] == pytest.approx(30.0)


def test_the_whole_peak_must_stand_out_by_min_snr() -> None:
    assert len(search(spot(), min_snr=74.0)) == 1
    assert len(search(spot(), min_snr=76.0)) == 0


def test_sigma_is_that_of_the_pixels_around_where_it_is_more_than_min_sig() -> None:
    image = spot(60.0)
    image[::2] += 8  # 8 or 0 in turn
    assert len(search(image)) == 1
    assert len(search(image, min_snr_biggest_pix=20.0)) == 0
    assert len(search(spot(60.0), min_snr_biggest_pix=20.0)) == 1


def test_the_highest_pixel_must_be_above_those_around_by_min_peak_over_neighbour() -> None:
    image = spot()
    image[30, 17] = 25.0
    assert len(search(image)) == 1
    assert len(search(image, min_peak_over_neighbour=80.0)) == 1
    assert len(search(image, min_peak_over_neighbour=90.0)) == 0


def test_the_first_ring_without_a_pixel_of_the_peak_ends_it() -> None:
    image = spot(background=0.0)
    image[30, 24] = 70.0  # at 4 px; nothing at 2 and 3
    peaks = search(image, local_bg_radius=6)
    assert peaks.intensity[0] == pytest.approx(150.0)
    image[30, 22:24] = 60.0, 65.0
    assert search(image, local_bg_radius=6).intensity[0] == pytest.approx(100 + 50 + 60 + 65 + 70)


def test_two_equal_neighbours_are_no_summit() -> None:
    image = spot()
    image[30, 21] = image[30, 20]
    assert len(search(image)) == 0


def test_bad_pixels_are_no_peaks_no_neighbours_and_no_background() -> None:
    image = spot()
    image[30, 21] = 5000.0
    bad = image == 5000.0
    assert search(image, bad=bad).intensity[0] == pytest.approx(100.0)
    assert search(image, rules=ValueRules(morethan=4000.0)).intensity[0] == pytest.approx(100.0)
    image[bad] = np.nan
    assert search(image).intensity[0] == pytest.approx(100.0)
    assert len(search(image, bad=image > 50)) == 0
    around = np.ones((SIZE, SIZE), bool)
    around[29:32, 19:22] = False
    assert len(search(spot(), bad=around)) == 0


def test_peaks_nearer_to_the_border_than_the_radius_are_not_found() -> None:
    image = np.zeros((SIZE, SIZE), np.float32)
    image[30, 2] = image[30, SIZE - 3] = image[2, 30] = image[SIZE - 3, 30] = 100.0
    assert len(search(image)) == 0
    image[3, 40] = image[40, SIZE - 4] = 100.0
    assert len(search(image)) == 2


def test_saturated_peaks_go_if_they_are_not_wanted() -> None:
    assert len(search(spot(950.0))) == 1
    assert len(search(spot(950.0), use_saturated=False)) == 0


def test_values_below_zero_change_nothing() -> None:
    peaks, lower = search(spot()), search(spot(background=-300.0))
    assert (peaks.fs[0], peaks.ss[0]) == pytest.approx((lower.fs[0], lower.ss[0]))
    assert peaks.intensity[0] == pytest.approx(lower.intensity[0])


def slow_search(image: np.ndarray, bad: np.ndarray, o: PeakOptions) -> list[tuple[float, ...]]:
    """The rules once more, word by word."""
    values, r, peaks = np.where(bad, np.nan, image.astype(np.float64)), o.local_bg_radius, []
    for ss in range(r, len(values) - r):
        for fs in range(r, values.shape[1] - r):
            square = values[ss - 1 : ss + 2, fs - 1 : fs + 2].copy()
            top, square[1, 1] = values[ss, fs], np.nan
            if not (top > np.nan_to_num(square, nan=-math.inf)).all():
                continue
            near = range(-2, 3)
            around = [values[ss + s, fs + k] for s in (-r, r) for k in near]
            around += [values[ss + k, fs + s] for s in (-r, r) for k in near]
            around = [value for value in around if not math.isnan(value)]
            if len(around) < 4:
                continue
            mean, sigma = np.mean(around), max(np.std(around, ddof=1), o.min_sig)
            if not top > mean + o.min_snr_biggest_pix * sigma:
                continue
            mine = [(top, fs, ss)]
            for ring in range(1, r):
                rest = [
                    (values[y, x], x, y)
                    for y in range(ss - ring, ss + ring + 1)
                    for x in range(fs - ring, fs + ring + 1)
                    if max(abs(y - ss), abs(x - fs)) == ring
                    and values[y, x] > mean + o.min_snr_peak_pix * sigma
                ]
                if not rest:
                    break
                mine += rest
            weight, x, y = np.array([(v - mean, x, y) for v, x, y in mine]).T
            if weight.sum() > o.min_snr * sigma:
                centre = (weight @ x / weight.sum() + 0.5, weight @ y / weight.sum() + 0.5)
                peaks.append((*centre, weight.sum()))
    return peaks


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 13, 14, 20, 36, 65, 87])
def test_frames_of_all_kinds_give_the_peaks_of_the_slow_version(number: int) -> None:
    case = small_case(number)
    radius = 2 + number % 4
    options = replace(
        OPTIONS, local_bg_radius=radius, min_sig=1.0, min_snr_biggest_pix=5.0, min_snr_peak_pix=3.0
    )
    rules, image = case.masks.rules, case.image.astype(np.float32)
    bad = case.masks.bad | (image < rules.lessthan) | (image > rules.morethan)
    bad |= np.rint(image) == rules.equal
    peaks = Peakfinder9(case.geometry, options, case.masks).find(case.frame)  # type: ignore[arg-type]
    expected = []
    for panel in case.geometry.panels:
        box = np.s_[panel.slab_y : panel.slab_y + panel.height, panel.slab_x : panel.slab_x + panel.width]
        expected += slow_search(image[box], bad[box], options)
    ours = np.stack([peaks.fs, peaks.ss, peaks.intensity], axis=1)
    np.testing.assert_allclose(ours, np.array(expected).reshape(-1, 3), rtol=1e-12, atol=1e-9)


def test_most_of_the_made_up_peaks_are_found_and_little_else() -> None:
    rng, size = np.random.default_rng(8), 512
    geometry = make_geometry([make_panel("p0", (0, 0, size, size), (-256.0, -256.0))], (size, size))
    centres = np.stack(np.meshgrid(np.arange(12, 500, 16), np.arange(12, 500, 16)), -1).reshape(-1, 2)
    centres = centres + rng.uniform(-2, 2, centres.shape)
    y, x = np.mgrid[:size, :size] + 0.5
    counts = np.full((size, size), 20.0)
    for fs, ss in centres:
        counts += 300 * np.exp(-((x - fs) ** 2 + (y - ss) ** 2) / (2 * 0.8**2))
    image = rng.poisson(counts).astype(np.int32)
    options = PeakOptions(peaks="peakfinder9", min_sig=4.0, local_bg_radius=4)
    peaks = Peakfinder9(geometry, options, FixedMasks(geometry)).find(make_frame(geometry, image))  # type: ignore[arg-type]
    place = np.stack([peaks.fs, peaks.ss], axis=1)
    distance = np.linalg.norm(centres[:, None] - place[None], axis=2)
    assert np.mean(distance.min(axis=1) < 0.5) > 0.98
    assert np.mean(distance.min(axis=0) < 0.5) > 0.98
    assert np.median(distance.min(axis=1)) < 0.1
