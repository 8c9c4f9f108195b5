# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decoded, and what is rejected: the messages of which the behaviour of indexamajig is known."""

import json
import pickle

import msgpack
import numpy as np
import pytest
from formats.making import (
    GEOMETRY,
    IMAGE,
    RNG,
    WIDE,
    array_map,
    decode,
    decoder,
    fields,
    image_of,
    image_with,
    pack,
    reason,
)
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected

GOOD = pack(fields())
OTHER = fields(IMAGE[::-1].copy(), photon_energy=8000.0)
ENERGY, CLEN = ("photon_energy", 9500.0), ("clen_mm", 50.0)


def pairs(*entries: tuple[object, object]) -> bytes:
    """A map with these entries, duplicates and odd keys included."""
    return bytes([0x80 + len(entries)]) + b"".join(pack(key) + pack(value) for key, value in entries)


DECODED = {
    "a map": GOOD,
    "an array of maps": pack([fields(), OTHER]),
    "binary keys": pack({key.encode(): value for key, value in fields().items()}),
    "binary keys in the image": pack(fields({k.encode(): v for k, v in array_map(IMAGE).items()})),
    "text and binary keys mixed": pairs(*fields().items(), (b"more", 1)),
    "integer keys": pairs((5, 5), (-1, 2), (None, 3), *fields().items()),
    "arrays and maps as keys": pairs(([1], 2), ({"a": 1}, 2), *fields().items()),
    "trailing bytes": GOOD + b"garbage",
    "two objects in one message": GOOD + pack(OTHER),
    "trailing bytes after an array": pack([fields(), OTHER]) + b"\xc1\xc1",
    "data longer than the shape": image_with(data=IMAGE.tobytes() * 2),
    "extension types and timestamps": pack(
        fields() | {"e": msgpack.ExtType(5, b"abc"), "t": msgpack.Timestamp(1, 2)}
    ),
    "deeply nested values": pack(fields() | {"n": json.loads("[" * 400 + "]" * 400)}),
    "shape larger than needed": pack(fields(WIDE)),
    "keys that begin a wanted key": pairs(("im", 5), ("photon", 1.0), ("", 5), ("c", 1), *fields().items()),
    "keys that a wanted key begins": pairs(("images", 5), ("photon_energy_eV", 1.0), *fields().items()),
    "duplicate keys": pairs(*fields().items(), ("image", array_map(OTHER["image"]["data"] and IMAGE[::-1]))),
    "duplicate header keys": pairs(ENERGY, ("photon_energy", 1.0), CLEN, ("image", array_map(IMAGE))),
    "text keys of a long map": pack(fields() | {f"key{i}": i for i in range(70000)}),
    "binary type": image_with(type=b"<i4"),
    "further keys in the image": pack(fields(array_map(IMAGE) | {"nd": True, "kind": b""})),
    "keys that are no UTF-8": pairs(*fields().items()).replace(b"\x83", b"\x84", 1) + b"\xa2\xff\xfe\x01",
}


@pytest.mark.parametrize("data", DECODED.values(), ids=DECODED)
def test_decodes(data):
    frame = decode(data)
    assert_array_equal(image_of(frame), IMAGE)
    assert frame.photon_energy == pytest.approx(9500)
    assert frame.detector.clen == pytest.approx(0.05)
    assert (frame.serial, frame.filename, frame.event) == (7, "ZMQdata", "//7")


REJECTED = {
    "half of it": (GOOD[: len(GOOD) // 2], "truncated message", ""),
    "last byte missing": (GOOD[:-1], "truncated message", ""),
    "header only": (GOOD[:25], "truncated message", ""),
    "truncated array of maps": (pack([fields(), OTHER])[:-1], "truncated message", ""),
    "random bytes": (RNG.bytes(20000), None, ""),
    "nil": (pack(None) + bytes(30), "not a map", "nil"),
    "text": (pack("x" * 100), "not a map", "text"),
    "an empty array": (pack([]) + bytes(30), "not a map", "empty array"),
    "an array of integers": (pack([1, 2, 3]) + bytes(20), "not a map", "an integer"),
    "unused code": (b"\xc1" * 20, "not a map", "unused"),
    "a claim of 2³² entries": (b"\xdf\xff\xff\xff\xff" + bytes(20), "malformed message", "4294967295"),
    "a claim of 2³² elements": (b"\xdd\xff\xff\xff\xff" + bytes(20), "truncated message", ""),
    "millions of nested arrays": (b"\x81\xa1a" + b"\x91" * 3_000_000, "malformed message", ""),
    "millions of nested arrays outside": (b"\x91" * 3_000_000, "malformed message", "the message"),
    "a map of millions": (b"\xdf\0\x30\0\0" + bytes(2 * 0x300000), "malformed message", "3145728 entries"),
    "an array of millions": (b"\xdd\0\x30\0\0\x81\xa1a\xc0" + b"\xc0" * 0x2FFFFF, "missing key", "'a'"),
    "a shape that holds millions": (image_with(shape=[[None] * 1000000, 3]), "wrong shape", "got `array`"),
    "old-style raw strings": (pack(fields(), use_bin_type=False), "wrong type", "'image/data' is text"),
    "no image": (pack(fields(None)), "missing key", "'image' is not in the message, which has"),
    "image is an integer": (pack(fields(5)), "not a map", "'image' is an integer"),
    "image is binary": (pack(fields(bytes(16384))), "not a map", "'image' is binary"),
    "image is a list": (pack(fields([1] * 4096)), "not a map", "'image' is an array"),
    "no type": (image_with(type=None), "missing key", "'type' is not in 'image', which has 'shape'"),
    "no shape": (image_with(shape=None), "missing key", "'shape' is not in 'image'"),
    "no data": (image_with(data=None), "missing key", "'data' is not in 'image'"),
    "type is an integer": (image_with(type=4), "wrong type", "'image/type' is an integer"),
    "one dimension": (image_with(shape=[4096]), "wrong shape", "1 dimensions, (4096,)"),
    "three dimensions": (image_with(shape=[1, 64, 64]), "wrong shape", "3 dimensions, (1, 64, 64)"),
    "shape is text": (image_with(shape="64x64"), "wrong shape", "'image/shape' is text"),
    "shape of texts": (image_with(shape=["64", "64"]), "wrong shape", "Expected `int`, got `str`"),
    "shape of floats": (image_with(shape=[64.0, 64.0]), "wrong shape", "got `float`"),
    "shape of bools": (image_with(shape=[True, True]), "wrong shape", "got `bool`"),
    "shape too small": (image_with(shape=[32, 64]), "wrong shape", "(32, 64), the geometry needs (64, 64)"),
    "shape swapped": (image_with(shape=[32, 128]), "wrong shape", "(32, 128)"),
    "shape zero": (image_with(shape=[0, 0]), "wrong shape", "[0, 0]"),
    "shape negative": (image_with(shape=[-1, -1]), "wrong shape", "[-1, -1]"),
    "shape huge": (image_with(shape=[2**33, 2**33]), "short data", "'image/data' has 16384 bytes"),
    "shape of a thousand dimensions": (image_with(shape=[1] * 1000), "wrong shape", "'image/shape'"),
    "data is text": (image_with(data="x" * 16384), "wrong type", "'image/data' is text; expected binary"),
    "data is a list": (image_with(data=[0] * 4096), "wrong type", "'image/data' is an array"),
    "shape larger than the data": (image_with(shape=[128, 128]), "short data", "needs 65536"),
    "half of the data": (image_with(data=IMAGE.tobytes()[:8192]), "short data", "8192 bytes"),
    "sixteen bytes of data": (image_with(data=b"\1" * 16), "short data", "16 bytes"),
    "no bytes of data": (image_with(data=b""), "short data", "0 bytes"),
    "one byte too few": (image_with(data=IMAGE.tobytes()[:-1]), "short data", "16383 bytes"),
    "64 × 2²⁰ with short data": (image_with(shape=[64, 2**20]), "short data", ""),
    "energy missing": (pack(fields(photon_energy=None)), "missing key", "'photon_energy' is not"),
    "energy renamed": (
        pack(fields(photon_energy=None) | {"beam_energy": 1}), "missing key", "did you mean 'beam_energy'?"
    ),
    "energy is a word": (pack(fields(photon_energy="abc")), "bad header value", "'photon_energy' is 'abc'"),
    "energy with unit": (pack(fields(photon_energy="9500 eV")), "bad header value", "'9500 eV'"),
    "energy with underscore": (pack(fields(photon_energy="9_500")), "bad header value", "'9_500'"),
    "energy is empty": (pack(fields(photon_energy="")), "bad header value", "'photon_energy' is text of 0"),
    "energy is a bool": (pack(fields(photon_energy=True)), "bad header value", "'photon_energy' is a bool"),
    "energy is a list": (pack(fields(photon_energy=[9500.0])), "bad header value", "is an array"),
    "energy is binary": (pack(fields(photon_energy=b"9500")), "bad header value", "is binary"),
    "energy is a map": (pack(fields(photon_energy={"a": 1})), "missing key", "'type' is not in"),
    "energy NaN": (pack(fields(photon_energy=float("nan"))), "bad header value", "nan"),
    "energy infinite": (pack(fields(photon_energy=float("inf"))), "bad header value", "inf"),
    "energy 'nan' as text": (pack(fields(photon_energy="nan")), "bad header value", "'nan'"),
    "energy zero": (pack(fields(photon_energy=0.0)), "absurd wavelength", "'photon_energy' is 0 eV"),
    "energy negative": (pack(fields(photon_energy=-9500.0)), "absurd wavelength", "-9500"),
    "energy 1e30": (pack(fields(photon_energy=1e30)), "absurd wavelength", "1e+30"),
    "energy 1e-300": (pack(fields(photon_energy=1e-300)), "absurd wavelength", "1e-300"),
    "energy of the largest integer": (pack(fields(photon_energy=2**64 - 1)), "absurd wavelength", ""),
    "camera length missing": (pack(fields(clen_mm=None)), "missing key", "'clen_mm'"),
    "camera length NaN": (pack(fields(clen_mm=float("nan"))), "bad header value", "'clen_mm' is nan"),
    "camera length infinite": (pack(fields(clen_mm=float("inf"))), "bad header value", "'clen_mm' is inf"),
    "camera length 1e9 m": (pack(fields(clen_mm=1e12)), "absurd camera length", "1e+09 m"),
    "camera length 1e-15 m": (pack(fields(clen_mm=1e-12)), "absurd camera length", "1e-15 m"),
    "camera length zero": (pack(fields(clen_mm=0)), "absurd camera length", "0 m"),
    "a pickle": (pickle.dumps(fields()), "a pickle", "responding socket"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "why", "text"), REJECTED.values(), ids=REJECTED)
def test_rejects(data, why, text):
    found, detail = reason(data)
    assert found == why or why is None
    assert text in detail
    assert "\n" not in detail
    assert len(detail) < 400


@pytest.mark.parametrize("data", [case[0] for case in REJECTED.values()], ids=REJECTED)
def test_goes_on_after_a_rejected_message(data):
    """One decoder for all: the frame after a bad one is its own."""
    using = decoder()
    assert_array_equal(image_of(decode(pack(OTHER), using)), IMAGE[::-1])
    reason(data, using)
    assert_array_equal(image_of(decode(GOOD, using)), IMAGE)


def test_counts_ignored_maps():
    using = decoder()
    for _ in range(3):
        decode(pack([fields(), OTHER, OTHER]), using)
    assert using.notes["further maps in a message, ignored"] == 6


def test_counts_no_maps_of_a_message_that_is_rejected():
    using = decoder()
    with pytest.raises(Rejected, match="truncated message"):
        decode(b"\xdd\xff\xff\xff\xff" + bytes(100), using)
    assert not using.notes


def test_reports_duplicate_keys():
    using = decoder()
    decode(DECODED["duplicate keys"], using)
    assert using.notes["maps with duplicate keys"] == 1
    decode(GOOD, using)
    assert using.notes["maps with duplicate keys"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image/here", {"image": {"here": array_map(IMAGE)}}),
        ("/image/a/b", {"image": {"a": {"b": array_map(IMAGE)}}}),
        ("a/b", {"a/b": array_map(IMAGE), "a": {"b": 5}}),
        ("a/b/c", {"a/b": {"c": array_map(IMAGE)}, "a": {"x": 1}}),
        ("a/b", {b"a": {b"b": array_map(IMAGE)}}),
    ],
)
def test_finds_nested_keys(text, message):
    using = decoder(GEOMETRY.replace("data = image", f"data = {text}"))
    data = pairs(ENERGY, CLEN, *message.items())
    assert_array_equal(image_of(decode(data, using)), IMAGE)


def test_a_nested_key_that_is_missing_is_named():
    using = decoder(GEOMETRY.replace("data = image", "data = image/here"))
    assert reason(GOOD, using)[0] == "missing key"
    assert "'image/here'" in reason(GOOD, using)[1]


def test_the_image_key_is_not_needed_without_image_data():
    frame = decode(pack(fields(None)), decoder(image_data=False, peaks="none"))
    assert frame.image is None
    assert frame.photon_energy == pytest.approx(9500)


def test_panels_may_come_from_different_keys():
    text = GEOMETRY.replace("p1/min_ss = 32", "p1/data = low\np1/min_ss = 0").replace(
        "p1/max_ss = 63", "p1/max_ss = 31"
    )
    using = decoder(text)
    message = fields(IMAGE[:32].copy()) | {"low": array_map(IMAGE[32:].astype(">i4"))}
    assert_array_equal(image_of(decode(pack(message), using)), IMAGE)
    mixed = fields(IMAGE[:32].astype("<u2")) | {"low": array_map(IMAGE[32:])}
    assert image_of(decode(pack(mixed), using)).dtype == np.float32
    assert_array_equal(image_of(decode(pack(mixed), using)), IMAGE)
    short = fields(IMAGE[:32].copy()) | {"low": array_map(IMAGE[50:])}
    assert reason(pack(short), using)[0] == "wrong shape"
    assert "'low'" in reason(pack(short), using)[1]


@pytest.mark.parametrize("dims", ["dim0 = %\ndim1 = ss\ndim2 = fs", "dim0 = 0\ndim1 = ss\ndim2 = fs"])
def test_further_dimensions_in_the_geometry_are_refused(dims):
    found, detail = reason(GOOD, decoder(extra=dims))
    assert found == "geometry does not suit the format"
    assert "MsgPack: panel p0: streamed images are two-dimensional" in detail
