# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed pixels: what HDF5's filters make is read, and damage is rejected before a library meets it."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.chunks import COMPRESSIONS, MOST_BYTES, checked, unpack
from gpuidx.formats.frame import DTYPE_OF
from gpuidx.simulation.compress import compress

BLOCKED = ("bslz4", "bszstd", "lz4")
PACKED = (*BLOCKED, "gzip", "gzip+shuffle")
RNG = np.random.default_rng(11)
IMAGE = RNG.poisson(1, (67, 131)).astype("<u4")
U4 = IMAGE.dtype


def image(letters: str, shape: tuple[int, ...], noise: bool) -> np.ndarray:
    """Counts, or bytes that nothing can compress."""
    dtype = DTYPE_OF[letters]
    if noise:
        return np.frombuffer(RNG.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    return RNG.poisson(1, shape).astype(dtype)


def why(data: bytes, compression: str, dtype: np.dtype = U4, shape: tuple[int, ...] = IMAGE.shape) -> str:
    with pytest.raises(Rejected) as caught:
        unpack(memoryview(data), compression, dtype, shape)
    assert caught.value.reason == "damaged image"
    return caught.value.detail


@given(
    st.sampled_from(COMPRESSIONS),
    st.sampled_from(sorted(DTYPE_OF)),
    st.lists(st.integers(1, 90), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([0, 8, 256, 1024]),
)
@example("lz4", "|u1", [1], False, 0)
@example("bslz4", "|u1", [1], True, 0)
@example("gzip", "|i1", [1], True, 0)
@settings(max_examples=200)
def test_what_is_compressed_is_decompressed(compression, letters, shape, noise, block):
    sent = image(letters, tuple(shape), noise)
    found = unpack(memoryview(compress(sent, compression, block)), compression, sent.dtype, sent.shape)
    assert found.dtype == sent.dtype
    assert found.shape == sent.shape
    assert found.tobytes() == sent.tobytes()


@pytest.mark.parametrize("compression", PACKED)
def test_pixels_may_be_written_to(compression):
    data = compress(IMAGE, compression)
    found = unpack(memoryview(data), compression, U4, IMAGE.shape)
    assert found.flags.writeable
    assert found.flags.c_contiguous
    assert found.flags.aligned
    found[0] = 7
    assert_array_equal(found[1:], IMAGE[1:])
    assert_array_equal(unpack(memoryview(data), compression, U4, IMAGE.shape), IMAGE)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_pixels_that_are_all_the_same_are_decompressed(compression):
    """They come close to the greatest ratio that LZ4 can have."""
    sent = np.full((1000, 1100), 7, "<u4")
    assert_array_equal(
        unpack(memoryview(compress(sent, compression)), compression, sent.dtype, sent.shape), sent
    )


def test_single_bytes_are_not_pythons_own():
    data = compress(np.array([5], "u1"), "lz4")
    found = unpack(memoryview(data), "lz4", np.dtype("u1"), (1,))
    found[0] = 6
    assert bytes([5]) == b"\x05"


def test_pixels_outlive_the_chunk():
    found = unpack(memoryview(compress(IMAGE, "bslz4")), "bslz4", U4, IMAGE.shape)
    others = [unpack(memoryview(compress(IMAGE + i, "bslz4")), "bslz4", U4, IMAGE.shape) for i in range(5)]
    assert_array_equal(found, IMAGE)
    assert [int(other[0, 0]) for other in others] == [int(IMAGE[0, 0]) + i for i in range(5)]


def test_pixels_without_compression_stay_where_they_are():
    data = bytearray(IMAGE.tobytes())
    found = unpack(memoryview(data), "none", U4, IMAGE.shape)
    assert found.flags.writeable
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))


def test_unknown_compression_is_named():
    with pytest.raises(Rejected, match="unknown compression: 'brotli'; expected one of none"):
        unpack(memoryview(b""), "brotli", U4, (2, 2))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("shape", [(0, 5), (-1, -5), (2**40, 2**40), (2**15, 2**15)])
def test_absurd_shapes_are_rejected(compression, shape):
    assert "is empty or above" in why(compress(IMAGE, compression), compression, U4, shape)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_other_sizes_than_the_heads_are_rejected(compression):
    data = compress(IMAGE, compression)
    why(data, compression, U4, (67, 132))
    why(data, compression, np.dtype("u2"), (67, 131))
    why(data, compression, np.dtype("u2"), (67, 130))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_truncation_is_rejected(compression):
    data = compress(IMAGE, compression)
    for length in [*range(40), len(data) // 2, *range(len(data) - 40, len(data))]:
        why(data[:length], compression)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bytes_behind_the_pixels_are_rejected(compression):
    why(compress(IMAGE, compression) + b"\0", compression)


@pytest.mark.parametrize("compression", BLOCKED)
@pytest.mark.parametrize("length", [0, 1, 2**31, 2**32 - 1])
def test_lengths_that_lead_elsewhere_are_rejected(compression, length):
    data = bytearray(compress(IMAGE, compression, 1024))
    data[12:16] = struct.pack(">I", length)
    why(bytes(data), compression)


@pytest.mark.parametrize("compression", BLOCKED)
@pytest.mark.parametrize("block", [0, 1, 12, 2**31 + 1, 2**32 - 1])
def test_absurd_blocks_are_rejected(compression, block):
    data = bytearray(compress(IMAGE, compression, 1024))
    data[8:12] = struct.pack(">I", block)
    why(bytes(data), compression)


def test_more_memory_than_a_message_can_fill_is_not_asked_for():
    """LZ4 and its like have a greatest ratio; a small message cannot make a gigabyte."""
    shape = (MOST_BYTES // 4, 1)
    for compression in ("lz4", "bslz4"):
        data = struct.pack(">QII", MOST_BYTES, MOST_BYTES, 20) + bytes(20)
        assert "cannot be 20 bytes long" in why(data, compression, U4, shape)


def test_deflate_stops_at_the_size_of_the_array():
    bomb = zlib.compress(bytes(10**8))
    assert "35109 bytes came out" in why(bomb, "gzip")


def test_checking_alone_decompresses_nothing():
    data = bytearray(compress(IMAGE, "bslz4"))
    data[16:-200] = bytes(len(data) - 216)
    with pytest.raises(Rejected):
        checked(memoryview(data), "bslz4", U4, IMAGE.shape)
    whole = checked(memoryview(compress(IMAGE, "bslz4")), "bslz4", U4, IMAGE.shape)
    assert (whole.size, whole.block) == (IMAGE.nbytes, 8192)


def check_any(data: bytes, compression: str, shape: tuple[int, ...]) -> None:
    """Decompress, or reject with the one reason; anything else fails the test."""
    found: np.ndarray | Rejected
    try:
        found = unpack(memoryview(data), compression, U4, shape)
    except Rejected as rejected:
        found = rejected
    if isinstance(found, Rejected):
        assert found.reason == "damaged image"
        assert "\n" not in found.detail
    else:
        assert found.shape == shape
        assert found.dtype == U4


@given(
    st.sampled_from(PACKED),
    st.sampled_from([0, 8, 1024]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 60),
)
@settings(max_examples=500)
def test_changed_bytes_are_decompressed_or_rejected(compression, block, changes, where):
    """Anywhere, and in the heads more often."""
    data = bytearray(compress(IMAGE, compression, block))
    for place, value in changes:
        data[place % (len(data) if place % 3 else where + 1)] = value
    check_any(bytes(data), compression, IMAGE.shape)


@given(st.sampled_from(COMPRESSIONS), st.binary(max_size=200), st.sampled_from([(1,), (5, 3), (40, 50)]))
@settings(max_examples=200)
def test_random_bytes_never_do_harm(compression, data, shape):
    head = struct.pack(">QI", 4 * int(np.prod(shape)), 64)
    for whole in (data, head + data):
        check_any(whole, compression, shape)
