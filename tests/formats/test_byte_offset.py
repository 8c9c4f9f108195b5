# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte-offset compression: any differences are read, and none beyond the end of the data."""

import struct

import numpy as np
import pytest
from fabio.compression import compByteOffset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.byte_offset import unpack_byte_offset
from gpuidx.simulation.encode_cbf import pack_byte_offset


def slow(data: bytes) -> list[int] | None:
    """The definition, read aloud; None if the data end within a difference."""
    pixels, value, place = [], 0, 0
    while place < len(data):
        for size, code in ((1, "b"), (2, "<h"), (4, "<i"), (8, "<q")):
            if place + size > len(data):
                return None
            (difference,) = struct.unpack_from(code, data, place)
            place += size
            if difference != -(1 << (8 * size - 1)):
                break
        value += difference
        pixels.append((value + 2**31) % 2**32 - 2**31)
    return pixels


def unpack(data: bytes, count: int) -> list[int] | None:
    try:
        return unpack_byte_offset(memoryview(data), count).tolist()
    except Rejected:
        return None


MARKS = st.sampled_from(
    [b"\x80", b"\x80\x00\x80", b"\x80\x00\x80\x00\x00\x00\x80", b"\x00", b"\x01", b"\x7f"]
)


@given(st.lists(st.one_of(MARKS, st.binary(max_size=3)), max_size=60).map(b"".join), st.integers(-1, 1))
@example(b"\x80" * 60, 0)
@example(b"\x80\x80\x00" * 50, 0)
@settings(max_examples=500)
def test_any_bytes_are_read_as_defined(data, off):
    expected = slow(data)
    count = max(len(expected) if expected is not None else len(data) // 3, 1)
    assert unpack(data, count) == (expected or None)
    if off and count + off > 0:
        assert unpack(data, count + off) is None


@given(
    st.lists(
        st.one_of(st.integers(-200, 200), st.integers(-40000, 40000), st.integers(-(2**31), 2**31 - 1)),
        min_size=1,
        max_size=80,
    )
)
@settings(max_examples=100)
def test_packed_pixels_are_unpacked(values):
    image = np.array([values], np.int32)
    packed = pack_byte_offset(image)
    if max(map(abs, values)) < 2**30:  # beyond, fabio's differences overflow
        assert packed == compByteOffset(image)
    assert_array_equal(unpack_byte_offset(memoryview(packed), len(values)), values)


def test_large_unsigned_values_are_unpacked():
    image = np.array([[0, 2**32 - 1, 5, 2**31, 2**31 - 1]], np.uint32)
    packed = pack_byte_offset(image)
    assert_array_equal(unpack_byte_offset(memoryview(packed), 5).view(np.uint32), image[0])


def test_noise_of_a_whole_detector_is_unpacked():
    image = np.random.default_rng(3).poisson(9000, (500, 700)).astype(np.int32)
    packed = pack_byte_offset(image)
    assert_array_equal(unpack_byte_offset(memoryview(packed), image.size), image.ravel())


@pytest.mark.parametrize(
    ("data", "count", "why"),
    [
        (b"\x01\x02", 3, "too few for 3 pixels"),
        (b"\x01\x02\x80", 3, "have 2 pixels; 3 are expected"),
        (b"\x80\x01\x02", 3, "have 1 pixels; 3 are expected"),
        (b"\x01\x02\x03", 2, "more than 2 pixels"),
    ],
)
def test_rejections_say_what_is_wrong(data, count, why):
    with pytest.raises(Rejected, match=why) as caught:
        unpack_byte_offset(memoryview(data), count)
    assert caught.value.reason == "damaged image"
