# SPDX-License-Identifier: GPL-3.0-or-later
"""peakfinder8, rule by rule, on frames drawn by hand."""

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from backends import ways
from backends.peakfinder8_cases import FixedMasks, make_frame, make_geometry, make_panel, small_case

from gpuidx.backends.cpu import packed, peakfinder8
from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.errors import Rejected
from gpuidx.geometry.masks import ValueRules
from gpuidx.model import PIXEL_TYPES, PeakList
from gpuidx.options import PeakOptions

Find = Search = Callable[..., PeakList]

SIZE = 64
GEOMETRY = make_geometry([make_panel("p0", (0, 0, SIZE, SIZE), (-32.0, -32.0))], (SIZE, SIZE))
OPTIONS = PeakOptions(peaks="peakfinder8", threshold=100.0, min_snr=5.0, min_pix_count=1)


def background(dtype: str = "i4") -> np.ndarray:
    """Values 10 and 12 in a chequered pattern: mean 11, spread 1."""
    ss, fs = np.mgrid[:SIZE, :SIZE]
    return (10 + 2 * ((fs + ss) % 2)).astype(dtype)


def with_pixels(values: dict[tuple[int, int], float], dtype: str = "i4") -> np.ndarray:
    """The background with other values at (fs, ss)."""
    image = background(dtype)
    for (fs, ss), value in values.items():
        image[ss, fs] = value
    return image


@pytest.fixture(params=ways.WAYS)
def find(request):
    """Gives the peaks of a frame, from geometry, options, masks and frame."""
    return partial(ways.find, request.param)


@pytest.fixture
def search(find):
    """Gives the peaks of an image of the panel above, from the image and other options than the above."""

    def search(image: np.ndarray | None, masks: FixedMasks | None = None, **more) -> PeakList:
        options = dataclasses.replace(OPTIONS, **more)
        return find(GEOMETRY, options, masks or FixedMasks(GEOMETRY), make_frame(GEOMETRY, image))

    return search


def positions(peaks: PeakList) -> list[tuple[float, float]]:
    return list(zip(peaks.fs.tolist(), peaks.ss.tolist(), strict=True))


@pytest.mark.parametrize("dtype", PIXEL_TYPES)
def test_a_pixel_must_be_above_the_threshold_not_at_it(dtype: str, search: Search) -> None:
    image = with_pixels({(20, 10): 100, (40, 30): 101}, dtype)
    assert positions(search(image)) == [(40.5, 30.5)]


def test_a_peak_has_its_centre_of_mass_and_its_intensity_above_the_local_background(search: Search) -> None:
    peaks = search(with_pixels({(20, 10): 300, (21, 10): 100 + 200}), local_bg_radius=3)
    assert positions(peaks) == [(21.0, 10.5)]
    disc = [(x, y) for x in range(-6, 6) for y in range(-6, 6) if x * x + y * y <= 36]
    around = [background()[10 + y, 20 + x] for x, y in disc if (x, y) not in [(0, 0), (1, 0)]]
    mean = np.float32(sum(around)) / np.float32(len(around))
    assert peaks.intensity[0] == 2 * (np.float32(300) - mean)
    assert peaks.panel.tolist() == [0]


def test_the_disc_of_the_background_ends_a_pixel_earlier_on_the_high_side(search: Search) -> None:
    alone = search(with_pixels({(20, 20): 500})).intensity[0]
    assert search(with_pixels({(20, 20): 500, (26, 20): 90})).intensity[0] == alone
    assert search(with_pixels({(20, 20): 500, (20, 26): 90})).intensity[0] == alone
    assert search(with_pixels({(20, 20): 500, (14, 20): 90})).intensity[0] < alone
    assert search(with_pixels({(20, 20): 500, (20, 14): 90})).intensity[0] < alone
    assert search(with_pixels({(20, 20): 500, (13, 20): 90})).intensity[0] == alone


def test_what_is_brighter_nearby_but_below_the_limit_is_taken_for_noise(find: Find) -> None:
    # the ring of the neighbour has a high limit of its own: 60 is no candidate there, but 55 is a peak here
    panels = [make_panel("p0", (0, 0, SIZE, SIZE), (-32.0, -32.0))]
    geometry = make_geometry(panels, (SIZE, SIZE))
    image = background()
    image[20, 32] = 55
    ss, fs = np.mgrid[:SIZE, :SIZE]
    ring = np.rint(np.hypot(fs - 32, ss - 32))
    image[(ring == 15) & ((fs + ss) % 2 == 0)] = 60
    options = dataclasses.replace(OPTIONS, threshold=20.0, min_snr=1.5)
    peaks = find(geometry, options, FixedMasks(geometry), make_frame(geometry, image))
    assert (32.5, 20.5) not in positions(peaks)
    image[image == 60] = 12
    peaks = find(geometry, options, FixedMasks(geometry), make_frame(geometry, image))
    assert (32.5, 20.5) in positions(peaks)


def test_pixels_that_touch_at_a_corner_are_one_peak(search: Search) -> None:
    peaks = search(with_pixels({(20, 10): 300, (21, 11): 300, (20, 12): 300}), min_pix_count=3)
    assert len(peaks) == 1
    assert peaks.ss[0] == 11.5


def test_pixels_counts_are_inclusive(search: Search) -> None:
    image = with_pixels({(20, 10): 300, (21, 10): 300, (22, 10): 300})
    assert len(search(image, min_pix_count=3)) == 1
    assert len(search(image, min_pix_count=4)) == 0
    assert len(search(image, max_pix_count=3)) == 1
    assert len(search(image, max_pix_count=2)) == 0


def test_a_pixel_of_the_border_starts_no_peak_but_belongs_to_one(search: Search) -> None:
    assert len(search(with_pixels({(0, 20): 300, (20, 0): 300, (63, 30): 300, (30, 63): 300}))) == 0
    assert positions(search(with_pixels({(0, 20): 300, (1, 20): 300}))) == [(1.0, 20.5)]
    assert positions(search(with_pixels({(63, 20): 300, (62, 20): 300}))) == [(63.0, 20.5)]


def test_without_noise_around_there_is_no_peak(search: Search) -> None:
    image = np.full((SIZE, SIZE), 10, np.int32)
    image[20, 20] = 1000
    assert len(search(image)) == 0


def test_the_least_and_greatest_radius_are_themselves_left_out(search: Search) -> None:
    # distance from the beam at (32, 32), of the pixel's first corner
    spots = {(42, 32): 300, (43, 32): 300, (47, 32): 300, (48, 32): 300, (52, 32): 300, (53, 32): 300}
    alone = {key: value for key, value in spots.items() if key[0] in (42, 47, 52)}
    assert [x for x, _ in positions(search(with_pixels(alone)))] == [42.5, 47.5, 52.5]
    assert [x for x, _ in positions(search(with_pixels(alone), min_res=10))] == [47.5, 52.5]
    assert [x for x, _ in positions(search(with_pixels(alone), min_res=9))] == [42.5, 47.5, 52.5]
    assert [x for x, _ in positions(search(with_pixels(alone), max_res=20))] == [42.5, 47.5]
    assert [x for x, _ in positions(search(with_pixels(alone), max_res=21))] == [42.5, 47.5, 52.5]


def test_the_pixel_at_the_beam_is_never_used(search: Search) -> None:
    alone = search(with_pixels({(36, 32): 300})).intensity
    assert search(with_pixels({(36, 32): 300, (32, 32): 90})).intensity == alone
    assert search(with_pixels({(36, 32): 300, (33, 32): 90})).intensity < alone


def test_bad_pixels_are_not_used(search: Search) -> None:
    bad = np.zeros((SIZE, SIZE), bool)
    bad[20, 20] = True
    masks = FixedMasks(GEOMETRY, bad)
    assert positions(search(with_pixels({(20, 20): 300, (40, 20): 300}), masks)) == [(40.5, 20.5)]
    assert positions(search(with_pixels({(20, 20): 300, (21, 20): 300}), masks)) == [(21.5, 20.5)]


@pytest.mark.parametrize("dtype", ["i4", "f4"])
@pytest.mark.parametrize(
    "rules", [ValueRules(morethan=999.0), ValueRules(equal=1000.0), ValueRules(lessthan=-5.0)], ids=str
)
def test_values_that_mean_bad_are_not_used(rules: ValueRules, dtype: str, search: Search) -> None:
    value = -1000 if np.isfinite(rules.lessthan) else 1000
    image = with_pixels({(20, 20): value, (24, 20): 300}, dtype)
    peaks = search(image, FixedMasks(GEOMETRY, None, rules))
    bad = np.zeros((SIZE, SIZE), bool)
    bad[20, 20] = True
    expected = search(image, FixedMasks(GEOMETRY, bad))
    assert positions(peaks) == positions(expected) == [(24.5, 20.5)]
    assert peaks.intensity == expected.intensity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_not_used(value: float, search: Search) -> None:
    image = with_pixels({(20, 20): value, (24, 20): 300}, "f4")
    bad = np.zeros((SIZE, SIZE), bool)
    bad[20, 20] = True
    expected = search(with_pixels({(24, 20): 300}, "f4"), masks=FixedMasks(GEOMETRY, bad))
    peaks = search(image)
    assert positions(peaks) == positions(expected) == [(24.5, 20.5)]
    assert peaks.intensity == expected.intensity


def test_values_at_the_end_of_the_range_do_no_harm(search: Search) -> None:
    image = with_pixels({(20, 20): 3.4e38, (21, 20): 3.4e38, (40, 40): 300}, "f4")
    assert positions(search(image)) == [(40.5, 40.5)]
    image = with_pixels({(20, 20): 2**32 - 1, (40, 40): 300}, "u4")
    assert positions(search(image)) == [(20.5, 20.5), (40.5, 40.5)]


def test_peaks_come_panel_by_panel_then_row_by_row(find: Find) -> None:
    panels = [
        make_panel("right", (32, 0, 32, 64), (0.0, -32.0)),
        make_panel("left", (0, 0, 32, 64), (-32.0, -32.0)),
    ]
    geometry = make_geometry(panels, (SIZE, SIZE))
    image = with_pixels({(10, 10): 300, (50, 12): 300, (40, 20): 300, (5, 30): 300})
    peaks = find(geometry, OPTIONS, FixedMasks(geometry), make_frame(geometry, image))
    assert peaks.panel.tolist() == [0, 0, 1, 1]
    assert positions(peaks) == [(18.5, 12.5), (8.5, 20.5), (10.5, 10.5), (5.5, 30.5)]


def test_a_peak_ends_at_the_edge_of_its_panel(find: Find) -> None:
    panels = [
        make_panel("left", (0, 0, 32, 64), (-32.0, -32.0)),
        make_panel("right", (32, 0, 32, 64), (0.0, -32.0)),
    ]
    geometry = make_geometry(panels, (SIZE, SIZE))
    image = with_pixels({(30, 10): 300, (31, 10): 300, (32, 10): 300, (33, 10): 300})
    peaks = find(geometry, OPTIONS, FixedMasks(geometry), make_frame(geometry, image))
    assert positions(peaks) == [(31.0, 10.5), (1.0, 10.5)]


@pytest.fixture
def lonely_pixel(find):
    """Gives the peaks of one pixel, from its value and options."""
    return partial(find_lonely_pixel, find)


def find_lonely_pixel(find: Find, value: float, max_adu: float = np.inf, **more) -> PeakList:
    """A pixel in a ring of tens, all around it masked: it has no background but the mean of its ring."""
    geometry = make_geometry(
        [make_panel("p0", (0, 0, SIZE, SIZE), (-32.0, -32.0), max_adu=max_adu)], (SIZE, SIZE)
    )
    image = np.full((SIZE, SIZE), 10, np.float32)
    image[20, 45] = value
    bad = np.zeros((SIZE, SIZE), bool)
    bad[14:27, 39:52] = True
    bad[20, 45] = False
    options = dataclasses.replace(OPTIONS, threshold=1.0, local_bg_radius=3, **more)
    return find(geometry, options, FixedMasks(geometry, bad), make_frame(geometry, image))


def test_without_background_a_peak_is_held_against_a_hundredth_adu(lonely_pixel: Search) -> None:
    assert lonely_pixel(10.0625).intensity.tolist() == [0.0625]
    assert lonely_pixel(10.0625, min_snr=6.0).intensity.tolist() == [0.0625]
    assert len(lonely_pixel(10.0625, min_snr=6.5)) == 0


def test_a_pixel_at_the_limit_is_not_saturated(lonely_pixel: Search) -> None:
    assert len(lonely_pixel(2010.0, max_adu=2000.0, use_saturated=False)) == 1
    assert len(lonely_pixel(2010.25, max_adu=2000.0, use_saturated=False)) == 0
    assert len(lonely_pixel(2010.25, max_adu=2000.0)) == 1


def test_values_are_rounded_before_they_are_compared_with_flag_equal(search: Search) -> None:
    masks = FixedMasks(GEOMETRY, None, ValueRules(equal=300.0))
    image = with_pixels({(20, 20): 300.4, (40, 20): 300.6, (20, 40): 300.5, (40, 40): 299.5}, "f4")
    assert positions(search(image, masks)) == [(40.5, 20.5)]


def many_spots() -> tuple:
    """A frame of 3600 spots of one pixel each."""
    size = 256
    geometry = make_geometry(
        [make_panel("p0", (0, 0, size, size), (300.0, 300.0), max_adu=2000.0)], (size, size)
    )
    ss, fs = np.mgrid[:size, :size]
    image = (10 + 2 * ((fs + ss) % 2)).astype(np.int32)
    image[8:248:4, 8:248:4] = 1000
    return geometry, image


def test_the_first_2048_peaks_are_kept(find: Find) -> None:
    geometry, image = many_spots()
    masks = FixedMasks(geometry)
    options = dataclasses.replace(OPTIONS, min_snr=1.0)
    peaks = find(geometry, options, masks, make_frame(geometry, image))
    assert len(peaks) == 2048
    assert positions(peaks)[-1] == (8.5 + 4 * (2047 % 60), 8.5 + 4 * (2047 // 60))
    image[40, 8:48:4] = 5000
    options = dataclasses.replace(options, use_saturated=False)
    assert len(find(geometry, options, masks, make_frame(geometry, image))) == 2038


def test_saturated_is_what_is_above_the_limit_without_its_background(find: Find) -> None:
    geometry, image = many_spots()
    masks = FixedMasks(geometry)
    options = dataclasses.replace(OPTIONS, min_snr=1.0, use_saturated=False)
    image[8, 8], image[8, 12] = 2005, 2020
    peaks = find(geometry, options, masks, make_frame(geometry, image))
    assert positions(peaks)[:2] == [(8.5, 8.5), (16.5, 8.5)]


def test_a_saturation_map_counts_pixel_by_pixel(search: Search) -> None:
    masks = FixedMasks(GEOMETRY)
    masks.saturation_map = np.full((SIZE, SIZE), np.inf, np.float32)
    masks.saturation_map[20, 40] = 299
    image = with_pixels({(20, 20): 300, (40, 20): 300})
    assert len(search(image, masks=masks)) == 2
    assert positions(search(image, masks=masks, use_saturated=False)) == [(20.5, 20.5)]


def test_a_frame_without_pixels_has_no_peaks(search: Search) -> None:
    peaks = search(None)
    assert len(peaks) == 0
    assert peaks.panel.dtype == np.int32


def test_a_frame_without_usable_pixels_has_no_peaks(search: Search) -> None:
    masks = FixedMasks(GEOMETRY, np.ones((SIZE, SIZE), bool))
    assert len(search(with_pixels({(20, 20): 300}), masks)) == 0
    assert len(search(with_pixels({(20, 20): 300}), peakfinder8_fast=True, masks=masks)) == 0


@pytest.mark.parametrize("dtype", ["i8", "f8", ">i4", ">f4"])
def test_other_pixel_types_are_refused(dtype: str, search: Search) -> None:
    with pytest.raises(TypeError, match="one of"):
        search(background(dtype))


def test_single_bytes_are_for_devices_alone() -> None:
    with pytest.raises(TypeError, match="one of"):
        PeakFinder(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY)).find(make_frame(GEOMETRY, background("u1")))


def test_images_that_kernels_are_not_compiled_for_are_refused(search: Search) -> None:
    read_only = background()
    read_only.flags.writeable = False
    misaligned = (
        np.frombuffer(bytearray(4 * SIZE * SIZE + 1), np.uint8)[1:].view(np.int32).reshape(SIZE, SIZE)
    )
    for image in (read_only, background().T, np.zeros((SIZE, 2 * SIZE), np.int32)[:, ::2], misaligned):
        with pytest.raises(TypeError, match="C-contiguous"):
            search(image)
    with pytest.raises(TypeError, match="the slab is"):
        search(np.zeros((SIZE, SIZE + 1), np.int32))


@pytest.mark.parametrize("shift", [3.0, -3.0, 50.0])
@pytest.mark.parametrize("way", ["packed", "lanes"])  # a device leaves it to the CPU
def test_a_frame_whose_detector_is_far_off_is_rejected(shift: float, way: str) -> None:
    frame = make_frame(GEOMETRY, background(), shift_x=shift)
    with pytest.raises(Rejected, match="panel 0"):
        ways.find(way, GEOMETRY, OPTIONS, FixedMasks(GEOMETRY), frame)


def test_a_frame_does_not_depend_on_those_before() -> None:
    for number in (9, 45, 94):
        case = small_case(number)
        other = dataclasses.replace(case.frame, image=np.ascontiguousarray(case.image[::-1, ::-1]))
        finder = PeakFinder(case.geometry, case.options, case.masks)
        first = finder.find(case.frame)
        finder.find(other)
        again = finder.find(case.frame)
        assert positions(first) == positions(again)
        assert first.intensity.tolist() == again.intensity.tolist()


def test_tables_of_two_positions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make_rings = peakfinder8.make_rings

    def counted(detector, *rest):
        made.append(detector)
        return make_rings(detector, *rest)

    monkeypatch.setattr(peakfinder8, "make_rings", counted)
    finder = PeakFinder(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY))
    image = with_pixels({(20, 20): 300})
    for shift in (0.0, 1e-4, 0.0, 1e-4, 0.0):
        finder.find(make_frame(GEOMETRY, image, shift_x=shift))
    assert len(made) == 2
    finder.find(make_frame(GEOMETRY, image, shift_x=2e-4))
    finder.find(make_frame(GEOMETRY, image, shift_x=1e-4))
    assert len(made) == 4
    finder.masks.bad = finder.masks.bad.copy()
    finder.find(make_frame(GEOMETRY, image, shift_x=1e-4))
    assert len(made) == 5


def test_data_that_are_no_photon_counts_are_tried_as_such_less_and_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []
    candidates = packed.PackedSums.candidates

    def counted(self, image):
        tried.append(0)
        return candidates(self, image)

    monkeypatch.setattr(packed.PackedSums, "candidates", counted)
    monkeypatch.setattr(packed, "SMALL", 0)
    finder = PeakFinder(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY))
    negative = with_pixels({(20, 20): 300}) - np.int32(20)
    counts = with_pixels({(20, 20): 300})
    for number in range(1, 36):
        seen = len(tried)
        finder.find(make_frame(GEOMETRY, negative if number < 20 else counts))
        tried[seen:] = [number] * (len(tried) - seen)
    assert tried == [1, 3, 7, 15, 31, 32, 33, 34, 35]
