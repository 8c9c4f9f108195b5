# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk over CBOR: the same values as another decoder gives, from parts of the message, and no harm."""

from collections import Counter
from contextlib import suppress
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuidx.errors import Rejected
from gpuidx.formats import cbor
from gpuidx.formats.cbor import Entries, decode, end_of
from gpuidx.formats.cbor_arrays import array_of

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
) | st.binary()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


def entries(data: bytes) -> Entries:
    return Entries(memoryview(data), "the message", Counter())


def reason(data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        dict(entries(data))
    return caught.value.reason


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
@settings(deadline=None, max_examples=30)
def test_values_are_those_of_another_decoder(whole, says_so):
    data = cbor2.dumps(cbor2.CBORTag(55799, whole) if says_so else whole)
    assert dict(entries(data)) == whole


@given(VALUES)
@settings(deadline=None)
def test_an_item_ends_where_it_ends(value):
    data = cbor2.dumps(value)
    assert end_of(memoryview(data + b"\x01\x02"), 0)[0] == len(data)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.data())
@settings(deadline=None, max_examples=30)
def test_a_part_of_a_message_is_truncated(whole, data):
    packed = cbor2.dumps(whole)
    size = data.draw(st.integers(0, len(packed) - 1))
    assert reason(packed[:size]) == "truncated message"


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None)
def test_any_bytes_are_read_or_rejected(data, is_map):
    with suppress(Rejected):
        found = entries((b"\xbf" if is_map else b"") + data)
        assert len(dict(found)) == len(found)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("bf 61 61 01 ff", {"a": 1}),
        ("a1 61 61 9f 01 82 02 03 ff", {"a": [1, [2, 3]]}),
        ("a1 61 61 7f 61 62 61 63 ff", {"a": "bc"}),
        ("a1 61 61 5f 41 62 41 63 ff", {"a": b"bc"}),
        ("a1 61 61 bf 61 62 01 ff", {"a": {"b": 1}}),
        ("a1 61 61 f9 3c 00", {"a": 1.0}),
        ("a1 61 61 fa 3f 80 00 00", {"a": 1.0}),
        ("a1 61 61 c0 61 62", {"a": "b"}),
        ("a2 01 02 61 61 03", {"a": 3}),
        ("a2 61 61 01 61 61 02", {"a": 1}),
        ("a1 61 61 f7", {"a": None}),
        ("a1 61 61 61 ff", {"a": "\ufffd"}),
    ],
)
def test_forms_that_encoders_may_choose(data, value):
    assert dict(entries(bytes.fromhex(data))) == value


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "truncated message"),
        (b"\x80", "not a map"),
        (b"\xa1\x61a", "truncated message"),
        (b"\xa1\x61a\x1c", "malformed message"),
        (b"\xa1\x61a\xff", "malformed message"),
        (b"\xbf\x61a\xff", "malformed message"),
        (b"\xa1\x61a\x5f\x01\xff", "malformed message"),
        (b"\xa1\x61a" + b"\x81" * 100 + b"\x01", "malformed message"),
        (b"\xa1\x61a" + b"\xc1" * 100 + b"\x01", "malformed message"),
        (b"\xa1\x61a\x5b" + b"\xff" * 8, "truncated message"),
        (b"\xa1\x61a\x9b" + b"\xff" * 8, "truncated message"),
        (b"\xa1\x61a\x9a\x00\x08\x00\x00" + b"\xf6" * (1 << 19), "malformed message"),
        (b"\xa1\x61a\x9a\x00\x02\x00\x00" + b"\xf6" * (2 << 16), "bad header value"),
    ],
)
def test_what_is_wrong_is_told(data, expected):
    assert reason(data) == expected


def test_a_missing_entry_is_named():
    with pytest.raises(Rejected, match="'b' is not in the message, which has 'a'"):
        entries(b"\xa1\x61a\x01").get_item("b")


def test_duplicate_keys_are_counted_and_the_first_is_taken():
    notes: Counter[str] = Counter()
    assert Entries(memoryview(bytes.fromhex("a2616101616102")), "it", notes)["a"] == 1
    assert notes == {"maps with duplicate keys": 1}


def test_byte_strings_are_not_copied():
    data = bytearray(cbor2.dumps({"a": b"abc"}))
    found = cbor.binary(Entries(memoryview(data), "it", Counter()).get_item("a"))
    data[-1] = ord("d")
    assert found == b"abd"


@pytest.mark.parametrize("item", ["01", "40", "820101", "d828820101", "d8288281024102"])
def test_what_is_no_array(item):
    with pytest.raises(Rejected):
        array_of(memoryview(bytes.fromhex(item)), "it")


def test_the_example_of_an_array_in_the_standard():
    """RFC 8746, section 3.1.1: a 2 by 3 array of big-endian 16-bit integers."""
    item: Any = bytes.fromhex("d82882820203d8414c000200040008000400100100")
    assert np.array_equal(array_of(memoryview(item), "it").pixels(), [[2, 4, 8], [4, 16, 256]])


def test_decode_gives_numbers():
    assert decode(memoryview(b"\x38\x63"), "it") == -100
