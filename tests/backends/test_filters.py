# SPDX-License-Identifier: GPL-3.0-or-later
"""``--median-filter`` and ``--filter-noise``: what becomes of pixels, bad ones included."""

import numpy as np
import pytest
from backends.peakfinder8_cases import FixedMasks, make_geometry, make_panel
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuidx.backends.filters import Filters
from gpuidx.geometry.masks import ValueRules
from gpuidx.options import PeakOptions


def filters(shape, rules=None, **options) -> Filters:
    height, width = shape
    top = make_panel("top", (0, 0, width, height // 2), (0.0, 0.0))
    low = make_panel("low", (1, height // 2, width - 1, height - height // 2), (0.0, 0.0))
    geometry = make_geometry([top, low], shape)
    made = Filters.wanted(geometry, PeakOptions(**options), FixedMasks(geometry, rules=rules))  # type: ignore[arg-type]
    assert made is not None
    return made


def less_median(panel: np.ndarray, radius: int) -> np.ndarray:
    """Each pixel less the upper median of its square, NaN left out."""
    result = panel.astype(np.float32)
    for ss, fs in np.ndindex(panel.shape):
        square = panel[max(ss - radius, 0) : ss + radius + 1, max(fs - radius, 0) : fs + radius + 1]
        values = np.sort(square[~np.isnan(square)].astype(np.float32))
        if len(values):
            result[ss, fs] -= values[len(values) // 2]
    return result


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(2, 24),
    width=st.integers(2, 24),
    radius=st.integers(1, 6),
    spread=st.sampled_from([1, 3, 1000, 2**31 - 1]),
    kind=st.sampled_from(["u2", "i2", "u4", "i4", "f4"]),
    n_nan=st.integers(0, 40),
)
def test_the_median_of_the_square_is_taken_off(seed, height, width, radius, spread, kind, n_nan) -> None:
    rng = np.random.default_rng(seed)
    spread = min(spread, np.iinfo(kind).max) if kind != "f4" else spread
    low = -spread if kind in ("i2", "i4", "f4") else 0
    image = rng.integers(low, spread, (height, width), endpoint=True).astype(kind)
    if kind == "f4":
        image /= np.float32(8)
        image[rng.integers(0, height, n_nan), rng.integers(0, width, n_nan)] = np.nan
    values, flagged, _ = filters(image.shape, median_filter=radius).values(image)
    for part in (np.s_[: height // 2, :], np.s_[height // 2 :, 1:]):
        np.testing.assert_array_equal(values[part], less_median(image[part], radius))
        np.testing.assert_array_equal(flagged[part], np.isnan(image[part]))


def test_rules_are_for_values_as_they_were_sent() -> None:
    image = np.full((20, 10), 100, np.int32)
    image[3, 4], image[12, 5] = 65535, 103
    rules = ValueRules(lessthan=50.0, morethan=60000.0)
    made = filters(image.shape, rules, median_filter=2)
    values, flagged, after = made.values(image)
    assert flagged.sum() == 1
    assert flagged[3, 4]
    assert values[3, 4] == 65435
    assert values[12, 5] == 3
    assert values[2, 4] == 0
    assert not after.lessthan > -1e38
    assert np.isnan(made.image(image)[3, 4])
    assert np.isnan(made.image(image)).sum() == 1


def test_the_noise_filter_leaves_the_border_where_it_is_positive() -> None:
    image = np.full((12, 8), 7, np.int16)
    image[0, 3], image[6, 2], image[3, 3] = -5, -6, 1000
    values, _, _ = filters(image.shape, filter_noise=True).values(image)
    assert values[1:5, 1:-1].max() == values[7:-1, 2:-1].max() == 0
    assert values[0, 3] == values[6, 2] == 0
    assert values[0, 0] == values[5, 4] == values[11, 7] == 7


def test_the_median_comes_before_the_noise_filter() -> None:
    image = np.full((12, 8), 7, np.int16)
    image[0, 0] = 9
    values, _, _ = filters(image.shape, filter_noise=True, median_filter=2).values(image)
    assert values[0, 0] == 2
    assert np.count_nonzero(values) == 1


def test_without_options_there_are_no_filters() -> None:
    geometry = make_geometry([make_panel("p", (0, 0, 8, 8), (0.0, 0.0))], (8, 8))
    assert Filters.wanted(geometry, PeakOptions(), FixedMasks(geometry)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_the_image_itself_is_not_changed(kind: str) -> None:
    image = np.arange(80).reshape(10, 8).astype(kind)
    before = image.copy()
    filters(image.shape, median_filter=1, filter_noise=True).image(image)
    np.testing.assert_array_equal(image, before)
