# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: UP031  (printf is what the tests compare with)
"""Tables as text: each number as C's printf writes it."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpuidx.stream.text import (
    LARGEST,
    PEAK_BYTES,
    REFLECTION_BYTES,
    REFUSED,
    NameTable,
    peak_lines,
    peak_text,
    put,
    reflection_lines,
    reflection_text,
)

small = st.floats(-1e6, 1e6)
any_width = st.integers(4, 10)
halves = st.integers(-(10**9), 10**9).map(lambda n: n / 8)
neighbours = st.tuples(st.integers(-(10**12), 10**12), st.sampled_from([-1, 0, 1])).map(
    lambda pair: math.nextafter(pair[0] / 200, pair[1] * math.inf) if pair[1] else pair[0] / 200
)


def written(value: float, decimals: int, width: int) -> str | None:
    buffer = np.zeros(40, np.uint8)
    end = put(float(value), decimals, width, buffer, 0)
    return None if end == REFUSED else buffer[:end].tobytes().decode()


@settings(max_examples=500, deadline=None)  # the first call compiles
@given(
    small | halves | neighbours | st.floats(-LARGEST, LARGEST, exclude_min=True, exclude_max=True), any_width
)
@example(0.125, 7)
@example(0.375, 7)
@example(-0.0, 7)
@example(-0.001, 7)
@example(0.005, 7)
@example(1.005, 7)
@example(2.675, 7)
@example(0.045, 7)
@example(99999.995, 7)
@example(math.nextafter(LARGEST, 0), 10)
@example(5e-324, 4)
def test_number_with_decimals_is_that_of_printf(value, width):
    for decimals in (1, 2):
        assert written(value, decimals, width) == "%*.*f" % (width, decimals, value)


@settings(deadline=None)
@given(st.integers(-(2**31), 2**31 - 1), any_width)
def test_whole_number_is_that_of_printf(value, width):
    assert written(value, 0, width) == "%*i" % (width, value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, LARGEST, -1e300])
def test_refuses_what_it_cannot_write(value):
    assert written(value, 2, 10) is None


def tables(n):
    return st.lists(st.tuples(*[st.floats(-1e9, 1e9)] * n), max_size=5).map(
        lambda rows: np.array(rows, np.float64).reshape(-1, n)
    )


@settings(deadline=None)
@given(tables(4), st.integers(0, 2**32))
def test_peak_lines_are_those_of_printf(table, seed):
    names = NameTable(["p0", "a long name", "q1å"])
    panel = np.random.default_rng(seed).integers(0, 3, len(table)).astype(np.int32)
    buffer = np.zeros(2000, np.uint8)
    end = peak_lines(table, panel, names.names, names.start, buffer, 7)
    expected = "".join(
        "%7.2f %7.2f %10.2f  %10.2f   %s\n" % (*row, names.texts[p])
        for row, p in zip(table, panel, strict=True)
    )
    assert buffer[7:end].tobytes().decode() == expected == peak_text(table, panel, names)


@settings(deadline=None)
@given(tables(6), st.integers(0, 2**32))
def test_reflection_lines_are_those_of_printf(table, seed):
    names = NameTable(["p0", "a long name"])
    rng = np.random.default_rng(seed)
    panel = rng.integers(0, 2, len(table)).astype(np.int32)
    hkl = rng.integers(-(10 ** rng.integers(1, 7)), 10**5, (len(table), 3)).astype(np.int32)
    buffer = np.zeros(2000, np.uint8)
    end = reflection_lines(hkl, table, panel, names.names, names.start, buffer, 0)
    expected = "".join(
        "%4i %4i %4i %10.2f %10.2f %10.2f %10.2f %6.1f %6.1f %s\n" % (*h, *row, names.texts[p])
        for h, row, p in zip(hkl, table, panel, strict=True)
    )
    assert buffer[:end].tobytes().decode() == expected == reflection_text(hkl, table, panel, names)


def test_kernels_stay_within_the_buffer():
    names = NameTable(["panel"])
    panel = np.zeros(3, np.int32)
    for room in range(400):
        guarded = np.full(room + 64, 255, np.uint8)
        buffer = guarded[:room]
        peak_lines(np.full((3, 4), -8.9e13), panel, names.names, names.start, buffer, 0)
        reflection_lines(
            np.full((3, 3), -(2**31), np.int32),
            np.full((3, 6), -8.9e13),
            panel,
            names.names,
            names.start,
            buffer,
            0,
        )
        assert (guarded[room:] == 255).all()


def test_longest_lines_are_within_the_bounds_that_the_kernels_test():
    names = NameTable([""])
    widest = -math.nextafter(LARGEST, 0)
    panel = np.zeros(1, np.int32)
    buffer = np.zeros(1000, np.uint8)
    assert peak_lines(np.full((1, 4), widest), panel, names.names, names.start, buffer, 0) <= PEAK_BYTES
    hkl = np.full((1, 3), -(2**31), np.int32)
    end = reflection_lines(hkl, np.full((1, 6), widest), panel, names.names, names.start, buffer, 0)
    assert 0 < end <= REFLECTION_BYTES
