# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels without a value: flagged in place where the geometry has a flag, else NaN; kernels then agree."""

from typing import Any

import numpy as np
import pytest
from formats.making import GEOMETRY
from numpy.testing import assert_array_equal

from gpuidx.backends.values import float32_rules, is_bad
from gpuidx.formats.no_data import NoData, flagged_value, is_flagged, unused_value
from gpuidx.formats.setting import Setting
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks, ValueRules
from gpuidx.options import Options

RULES = [
    ValueRules(),
    ValueRules(morethan=65534.0),
    ValueRules(lessthan=-5.0),
    ValueRules(equal=-1.0),
    ValueRules(equal=65535.0),
    ValueRules(equal=4294967295.0),
    ValueRules(lessthan=-32764.0, morethan=30000.0, equal=77.0),
]


def taking(extra: str) -> NoData:
    geometry = parse_geometry(GEOMETRY.replace("{extra}", extra), "test.geom")
    options = Options(geometry="test.geom", output="o.stream", input="l.lst", indexing="none")
    return NoData(Setting.of(geometry, options, Masks(geometry)))


def image(dtype: str, **marked: int) -> Any:
    made = np.full((64, 64), 10, dtype)
    made[3, 4] = marked.get("at_3_4", 10)
    return made


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4"])
def test_flags_are_understood_as_kernels_understand_them(rules, dtype):
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max, limits.max - 1, 0, 77):
        assert is_flagged(value, rules) == is_bad(np.float32(value), float32_rules(rules))
    mark = flagged_value(np.dtype(dtype), rules)
    if mark is not None:
        assert is_bad(np.float32(np.array(mark, dtype)), float32_rules(rules))


@pytest.mark.parametrize(
    ("dtype", "value"), [("u1", 255), ("<u2", 65535), (">u4", 2**32 - 1), ("i2", -32768), ("f4", None)]
)
def test_the_unused_value_of_a_type(dtype, value):
    assert unused_value(np.dtype(dtype)) == value


def test_an_image_without_bad_pixels_is_left_alone():
    sent = image("u2")
    assert taking("").taken_out(sent, 65535) is sent


def test_bad_pixels_become_nan_where_nothing_is_flagged():
    found = taking("").taken_out(image("u2", at_3_4=65535), 65535)
    assert_array_equal(np.argwhere(np.isnan(found)), [(3, 4)])


def test_a_flagged_value_costs_nothing():
    sent = image("u2", at_3_4=65535)
    assert taking("flag_morethan = 65000").taken_out(sent, 65535) is sent
    assert sent[3, 4] == 65535


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("extra", ["", "flag_equal = 65535", "flag_morethan = 100", "flag_lessthan = -3"])
def test_limits_leave_out_what_is_taken_out_by_value(dtype, extra):
    whole, no_data = np.iinfo(dtype), taking(extra)
    near = [whole.min, whole.max, 0, 1, *(n + d for n in (50, 254, 1000, 65534, 1 << 24) for d in (0, 1))]
    sent = np.array([n for n in near if n <= whole.max], dtype).reshape(1, -1)
    unused = unused_value(sent.dtype)
    rules = no_data.masks.rules
    for greatest in (None, 50, 254, 1000, 65534, 1 << 24):
        low, high = no_data.limits(sent.dtype, unused, greatest)
        taken = no_data.taken_out(sent.copy(), unused, None, greatest)
        own = [bool(np.isnan(n)) or is_flagged(n, rules) for n in taken[0]]
        assert own == [is_flagged(n, rules) or not low <= n <= high for n in sent[0]]


@pytest.mark.parametrize(
    ("dtype", "unused", "greatest"), [("u2", 7, None), ("i4", None, (1 << 24) + 1), ("f4", -1, None)]
)
def test_values_without_limits_have_to_be_looked_at(dtype, unused, greatest):
    assert taking("").limits(np.dtype(dtype), unused, greatest) is None


def test_masked_pixels_get_a_flagged_value_in_place():
    masked = np.zeros((64, 64), bool)
    masked[9, 9] = True
    sent = image("i2", at_3_4=-32768)
    found = taking("flag_equal = -7").taken_out(sent, -32768, masked)
    assert found is sent
    assert_array_equal(np.argwhere(found == -7), [(3, 4), (9, 9)])


def test_flags_of_single_panels_are_heeded_too():
    found = taking("p0/flag_equal = 10").taken_out(image("u2", at_3_4=65535), 65535)
    assert np.isnan(found[:32]).all()
    assert_array_equal(found[32:], 10)


def test_a_value_that_the_type_cannot_have_is_no_matter():
    sent = image("i2")
    assert taking("").taken_out(sent, 2**63) is sent


def test_floating_point_images_get_nan_in_place():
    masked = np.zeros((64, 64), bool)
    masked[9, 9] = True
    sent = image("f4")
    found = taking("flag_equal = -7").taken_out(sent, None, masked)
    assert found is sent
    assert_array_equal(np.argwhere(np.isnan(found)), [(9, 9)])


@pytest.mark.parametrize(("greatest", "bad"), [(None, 1), (20, 2), (65534, 1), (65535, 1), (2**40, 1)])
def test_values_above_the_greatest_valid_one_are_bad(greatest, bad):
    sent = image("u2", at_3_4=65535)
    sent[5, 6] = 21
    assert np.isnan(taking("").taken_out(sent, 65535, None, greatest)).sum() == bad


def test_a_flag_above_the_greatest_valid_value_serves_too():
    sent = image("u2", at_3_4=65535)
    sent[5, 6] = 21
    assert taking("flag_morethan = 20").taken_out(sent, 65535, None, 20) is sent
    assert sent[5, 6] == 21


def test_signed_pixels_have_bad_ones_at_both_ends():
    sent = image("i2", at_3_4=-32768)
    sent[5, 6] = 32767
    found = taking("").taken_out(sent, -32768, None, 32766)
    assert_array_equal(np.argwhere(np.isnan(found)), [(3, 4), (5, 6)])
