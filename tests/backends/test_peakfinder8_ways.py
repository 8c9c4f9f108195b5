# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to the statistics against a plain float32 reference, to the last bit; and the sample drawn."""

import dataclasses

import numpy as np
import pytest
from backends import peakfinder8_reference as reference
from backends.peakfinder8_cases import Case, FixedMasks, make_frame, make_geometry, make_panel, small_case

from gpuidx.backends import sample
from gpuidx.backends.cpu.growth import FS, HIGHEST, INTENSITY, N_COLUMN, PANEL, SS, Criteria
from gpuidx.backends.cpu.peakfinder8 import PeakFinder, Search
from gpuidx.backends.rings import make_rings
from gpuidx.backends.values import float32_rules
from gpuidx.options import PeakOptions

FIRST = 200  # other frames than those with frozen peaks
NO_MAP = np.empty(0, np.float32)


def make_search(case: Case, use_packed: bool) -> Search:
    options = dataclasses.replace(case.options, peakfinder8_fast=False)
    rings = make_rings(
        case.frame.detector, case.geometry.slab_shape, case.masks.bad, options.min_res, options.max_res
    )
    return Search(rings, float32_rules(case.masks.rules), options, use_packed=use_packed)


def found_by(search: Search, case: Case) -> list[tuple[float, ...]]:
    options = case.options
    criteria = Criteria(
        np.float32(options.min_snr), options.min_pix_count, options.max_pix_count, options.local_bg_radius
    )
    found = search.peaks(case.image.reshape(-1), criteria, NO_MAP, np.empty((9999, N_COLUMN), np.float32))
    return [tuple(row) for row in found[:, [PANEL, FS, SS, INTENSITY, HIGHEST]]]


def assert_same(case: Case, use_packed: bool) -> Search:
    mean, upper, peaks = reference.search(
        case.image, case.frame.detector, case.masks.bad, case.masks.rules, case.options
    )
    search = make_search(case, use_packed)
    found = found_by(search, case)
    _, sums = search.statistics(case.image.reshape(-1))
    assert sums.mean.tobytes() == mean.astype(np.float32).tobytes()
    assert sums.upper.tobytes() == upper.astype(np.float32).tobytes()
    assert found == peaks
    assert not search.taken.any()
    return search


@pytest.mark.parametrize("number", range(FIRST, FIRST + 60))
def test_both_ways_give_the_bits_of_the_reference(number: int) -> None:
    case = small_case(number)
    assert_same(case, use_packed=False)
    assert_same(case, use_packed=True)


def test_the_way_of_photon_counts_is_taken_where_it_can_be() -> None:
    ways = []
    for number in range(FIRST, FIRST + 60):
        case = small_case(number)
        search = make_search(case, use_packed=True)
        search.statistics(case.image.reshape(-1))
        ways.append(search.way)
    assert ways.count("packed") >= 15
    assert ways.count("lanes") >= 15


def photon_case(image: np.ndarray, **options) -> Case:
    """One panel about the beam, photon counts."""
    height, width = image.shape
    geometry = make_geometry(
        [make_panel("p0", (0, 0, width, height), (-width / 2 + 0.3, -height / 2 - 0.4))], image.shape
    )
    chosen = PeakOptions(peaks="peakfinder8", **options)
    return Case(geometry, make_frame(geometry, image), chosen, FixedMasks(geometry))


def counts(mean: float, seed: int, size: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, (size, size)).astype(np.int32)


@pytest.mark.parametrize("mean", [0.001, 0.01, 0.06, 0.3, 2.0, 25.0])
@pytest.mark.parametrize("height", [0, 30, 3000, 200000])
def test_packed_sums_are_exact_for_any_mean_and_height_of_spots(mean: float, height: int) -> None:
    image = counts(mean, seed=height + 1)
    spots = np.random.default_rng(5).integers(2, 198, (40, 2))
    image[spots[:, 0], spots[:, 1]] += height
    case = photon_case(image, threshold=3.0, min_snr=4.0, min_pix_count=1)
    assert assert_same(case, use_packed=True).way == "packed"


def test_strong_spots_leave_nearly_all_rings_to_the_packed_sums() -> None:
    image = counts(2.0, seed=1, size=500)
    spots = np.random.default_rng(5).integers(2, 498, (60, 2))
    image[spots[:, 0], spots[:, 1]] += 20000  # their squares are far above 2²⁴
    search = assert_same(photon_case(image, threshold=10.0, min_snr=5.0, min_pix_count=1), use_packed=True)
    assert search.way == "packed"
    _, sums = search.statistics(image.reshape(-1))
    assert sums.n_redone < image.size // 100


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("min_snr", [2.0, 2.5, 3.0])
def test_limits_close_to_the_guess_are_right_on_both_sides(min_snr: float, seed: int) -> None:
    # a spread far below Poisson's: the limits fall between the few values that there are
    random = np.random.default_rng(seed)
    image = random.choice([18, 19, 20, 21, 22], (120, 120), p=[0.02, 0.18, 0.6, 0.18, 0.02]).astype(np.int32)
    case = photon_case(image, threshold=0.0, min_snr=min_snr, min_pix_count=1)
    assert assert_same(case, use_packed=True).way == "packed"


def spots_that_fall_one_a_round(n: int, below: float) -> list[int]:
    """Values such that each round clips the highest; the limit after round 4 is next to the last.

    Parameters
    ----------
    n
        Pixels of the ring; all others are zero.
    below
        How far the last value is below that limit, at least 0.004 less; negative: above.
    """
    for high in range(4500, 9000):
        for value in range(1000, 2400):
            mean = (high + value) / (n - 3)
            limit = mean + 5 * np.sqrt((high**2 + value**2) / (n - 3) - mean**2)
            if below - 0.004 < limit - value <= below:
                return [125 * high, 25 * high, 5 * high, high, value]
            if limit < value:
                break
    raise AssertionError("none found")


@pytest.mark.parametrize("below", [-0.004, 0.0, 0.004, 0.008])
@pytest.mark.parametrize("radius", [60, 64, 66, 70])
def test_a_value_within_rounding_of_a_limit_is_decided_by_adding_in_order(radius: int, below: float) -> None:
    image = np.zeros((200, 200), np.int32)
    case = photon_case(image, threshold=1.0, min_snr=5.0, min_pix_count=1)
    members = np.flatnonzero(make_search(case, use_packed=True).rings.ring == radius)
    values = spots_that_fall_one_a_round(len(members), below)
    image.reshape(-1)[members[20 : 20 + 60 * 5 : 60]] = values
    search = assert_same(case, use_packed=True)
    assert search.way == "packed"
    _, sums = search.statistics(image.reshape(-1))
    assert sums.n_redone == len(members)


def test_a_ring_whose_pixels_are_all_alike_but_one_is_right() -> None:
    image = np.zeros((120, 120), np.int32)
    image[60, 100] = 1
    image[20:22, 30] = 7
    for threshold in (-1.0, 0.0, 1.0, 5.0):
        assert_same(photon_case(image, threshold=threshold, min_snr=3.0, min_pix_count=1), use_packed=True)


@pytest.mark.parametrize("value", [1234.567, 77.7, 3.3e6])
def test_rings_of_equal_values_have_a_variance_below_zero_that_is_used(value: float) -> None:
    image = np.full((60, 60), value, np.float32)
    image[20, 40], image[21, 40] = 2 * abs(value), 3 * abs(value)
    for threshold in (-1e7, 1.0):
        case = photon_case(image, threshold=threshold, min_snr=4.0, min_pix_count=1, max_pix_count=9999)
        search = assert_same(case, use_packed=False)
        _, sums = search.statistics(image.reshape(-1))
        assert (sums.upper < sums.mean).any() == (threshold < value)


@pytest.mark.parametrize("value", [1000.377, 1008.671, 1011.687])
def test_pixels_below_the_mean_of_their_ring_weigh_as_much_as_those_above(value: float) -> None:
    # with a variance below zero all pixels of a ring are candidates, those below its mean too
    image = np.full((24, 24), value, np.float32)
    case = photon_case(image, threshold=-1e7, min_snr=4.0, min_pix_count=1, max_pix_count=9999)
    search = assert_same(case, use_packed=False)
    assert len(found_by(search, case)) == 1


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4"])
def test_values_about_the_bounds_of_the_packed_sums_are_right(dtype: str) -> None:
    image = counts(3.0, seed=3)
    choice = [255, 256, 257, 4095, 4096, 32767]
    spots = np.random.default_rng(6).integers(2, 198, (24, 2))
    image[spots[:, 0], spots[:, 1]] = np.resize(choice, 24)
    case = photon_case(image.astype(dtype), threshold=10.0, min_snr=5.0, min_pix_count=1)
    assert assert_same(case, use_packed=True).way == "packed"


def test_a_few_negative_pixels_cost_only_their_rings() -> None:
    image = counts(3.0, seed=4)
    image[50, 60], image[120, 130], image[121, 131] = -7, -2_000_000_000, 2_000_000_000
    search = assert_same(photon_case(image, threshold=10.0, min_snr=5.0, min_pix_count=1), use_packed=True)
    assert search.way == "packed"


def test_many_candidates_do_not_overflow_the_list_of_the_lanes() -> None:
    case = photon_case(counts(20.0, seed=7), threshold=0.0, min_snr=1.0, min_pix_count=1)
    search = make_search(case, use_packed=False)
    expected, sums = search.statistics(case.image.reshape(-1))
    assert len(expected) > 1000
    sums.found = np.empty(10, np.int32)
    candidates, _ = search.statistics(case.image.reshape(-1))
    assert candidates.tolist() == expected.tolist()


def test_rings_up_to_the_size_of_the_sample_are_used_whole() -> None:
    image = counts(3.0, seed=8, size=24)
    image[5, 5], image[18, 9] = 300, 400
    case = photon_case(image, threshold=10.0, min_snr=3.0, min_pix_count=1)
    whole = PeakFinder(case.geometry, case.options, case.masks).find(case.frame)
    fast = dataclasses.replace(case.options, peakfinder8_fast=True)
    sample = PeakFinder(case.geometry, fast, case.masks).find(case.frame)
    assert len(whole) == 2
    assert sample.fs.tolist() == whole.fs.tolist()
    assert sample.intensity.tolist() == whole.intensity.tolist()


def test_the_sample_is_drawn_by_the_numbers_of_glibc() -> None:
    state = sample._first_state()
    for calls in range(sample.WARM_UP):
        sample._next_random(state, calls)
    numbers = [int(sample._next_random(state, sample.WARM_UP + k)) >> 1 for k in range(4)]
    assert numbers == [1804289383, 846930886, 1681692777, 1714636915]


def test_the_sample_of_a_ring_goes_panel_by_panel_without_masked_pixels() -> None:
    halves = [make_panel(f"p{k}", (0, 100 * k, 200, 100), (-99.7, -100.4 + 100 * k)) for k in (0, 1)]
    geometry = make_geometry(halves, (200, 200))
    bad = np.zeros((200, 200), bool)
    bad[:, 40:50] = True
    none = np.zeros_like(bad)
    rings = make_rings(geometry.detector(0.1), (200, 200), bad, 0, 0)
    drawn = sample.sample_rings(make_rings(geometry.detector(0.1), (200, 200), none, 0, 0))
    for row, whole in zip(sample.sample_rings(rings), drawn, strict=True):
        used = row[row != sample.EMPTY_SLOT]
        assert (np.diff(rings.panel_of[used].astype(int)) >= 0).all()
        assert used.tolist() == [pixel for pixel in whole if pixel >= 0 and not bad.flat[pixel]]
    assert len({int(panel) for panel in rings.panel_of[drawn[60]]}) == 2
