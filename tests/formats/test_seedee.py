# SPDX-License-Identifier: GPL-3.0-or-later
"""Seedee messages: header values beside the metadata, every type and compression, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
from formats.making import GEOMETRY, IMAGE, image_of
from formats.making_decoders import made, message
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.frame import DTYPE_OF, PIXEL_OF
from gpuidx.formats.seedee import SeedeeDecoder, begins
from gpuidx.model import Frame
from gpuidx.simulation.encode_seedee import NUMBERS, encode_seedee, seedee_metadata

VALUES: dict[str, object] = {"photon_energy": 9500.0, "clen_mm": 50, "run": {"name": "r7"}}


def using(text: str = GEOMETRY, masks: bool = False, **options: Any) -> SeedeeDecoder:
    return made(SeedeeDecoder, text, masks, **options)


def decode(parts: list[bytes], decoder: SeedeeDecoder | None = None) -> Frame:
    return (decoder or using()).decode(message(parts))


def why(parts: list[bytes], decoder: SeedeeDecoder | None = None) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        decode(parts, decoder)
    return caught.value.reason, caught.value.detail


def changed(key: str, value: Any, inside: bool = False) -> list[bytes]:
    """A message with one of Seedee's own values changed."""
    own = json.loads(seedee_metadata(IMAGE, "bslz4"))
    (own["array"] if inside else own)[key] = value
    payload = encode_seedee(IMAGE, {})[1]
    return [json.dumps({**VALUES, "_data_format": own}).encode(), payload]


@pytest.mark.parametrize("compression", NUMBERS)
@pytest.mark.parametrize("letters", sorted(DTYPE_OF))
def test_every_type_is_decoded(letters, compression):
    sent = IMAGE.astype(DTYPE_OF[letters])
    image = image_of(decode(encode_seedee(sent, VALUES, compression)))
    assert image.dtype.str[1:] == PIXEL_OF[letters[1:]]
    assert_array_equal(image, IMAGE)


@pytest.mark.parametrize("as_text", [True, False])
def test_header_values_stand_beside_the_metadata(as_text):
    frame = decode(encode_seedee(IMAGE, VALUES, as_text=as_text), using(copy_header=("/run/name",)))
    assert frame.headers == {"photon_energy": 9500.0, "clen_mm": 50, "/run/name": "r7"}
    assert (frame.serial, frame.filename, frame.event) == (7, "ZMQdata", "//7")


def test_metadata_may_be_seedees_alone():
    text = GEOMETRY.replace("= photon_energy eV", "= 9000").replace("= clen_mm mm", "= 0.1")
    frame = decode([seedee_metadata(IMAGE, "lz4").encode(), encode_seedee(IMAGE, {}, "lz4")[1]], using(text))
    assert_array_equal(image_of(frame), IMAGE)
    assert frame.photon_energy == pytest.approx(9000)


def test_leading_axis_of_one_is_left_out():
    assert_array_equal(image_of(decode(encode_seedee(IMAGE[None], VALUES))), IMAGE)


def test_geometry_may_count_frames():
    text = GEOMETRY.replace("{extra}", "dim0 = %\ndim1 = ss\ndim2 = fs")
    for image in (IMAGE, IMAGE[None]):
        assert_array_equal(image_of(decode(encode_seedee(image, VALUES), using(text))), IMAGE)


def test_larger_images_than_the_panels_are_cut():
    wide = np.pad(IMAGE, ((0, 3), (0, 5)))
    assert_array_equal(image_of(decode(encode_seedee(wide, VALUES))), IMAGE)


def test_pixels_stay_in_the_message_where_they_can():
    whole = message(encode_seedee(IMAGE, VALUES, "none"))
    image = image_of(using().decode(whole))
    assert np.shares_memory(image, np.frombuffer(whole.data, np.uint8))


def test_peaks_cannot_come_from_such_a_message():
    assert why(encode_seedee(IMAGE, VALUES), using(peaks="msgpack")) == (
        "no peak list",
        "this format has none for --peaks=msgpack; give --peaks=peakfinder8",
    )


def test_bad_pixels_of_a_frame_are_nan():
    text = GEOMETRY.replace("{extra}", "").replace("p0/min_fs", "p0/flag_equal = 7\np0/min_fs", 1)
    sent = IMAGE.copy()
    sent[3, 4] = sent[40, 4] = 7
    image = image_of(decode(encode_seedee(sent, VALUES), using(text, masks=True)))
    assert np.isnan(image[3, 4])
    assert image[40, 4] == 7


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("protocol", "other"), ("protocol", None), ("version_major", 2), ("version_major", True),
        ("data_format", "raw"), ("compression", 7), ("compression", "bslz4"), ("compression", None),
        ("array", 5), ("array", None),
    ],
)  # fmt: skip
def test_other_metadata_are_refused(key, value):
    reason, detail = why(changed(key, value))
    assert reason == "malformed metadata"
    assert f"'{key}' is " in detail


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("shape", [64], "shape"), ("shape", [64, -64], "size"), ("shape", [64, 0], "size"),
        ("shape", [64, 65], "size"), ("shape", "64", "shape"), ("shape", [64, 6.4], "shape"),
        ("shape", [64, 10**30], "shape"), ("ndims", -1, "shape"), ("ndims", 10**6, "shape"),
        ("itemsize", 0, "itemsize"), ("itemsize", -4, "itemsize"), ("itemsize", 3, "itemsize"),
        ("datatype", "i", "datatype"), ("datatype", ord("O"), "datatype"), ("byteorder", 0, "byteorder"),
        ("stride", [4, 256], "stride"), ("size", 5, "size"), ("size", None, "size"),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(key, value, named):
    reason, detail = why(changed(key, value, inside=True))
    assert reason == "malformed metadata"
    assert f"'{named}' is " in detail


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"5", b'"x"', b"{", b"\xff", b"[" * 10**5, b"1" * 5000, b'{"_data_format":null}',
     b'{"_data_format":[]}', seedee_metadata(IMAGE, "none").encode("utf-16"),
     b'{"_data_format":"{"}', b'{"_data_format":"null"}', b'{"_data_format":"\\ud800"}'],
)  # fmt: skip
def test_metadata_that_are_no_json_map_are_refused(text):
    assert why([text, encode_seedee(IMAGE, {})[1]])[0] == "malformed metadata"


def test_long_metadata_are_not_parsed():
    assert "expected at most" in why([b" " * (1 << 20) + b"{}", b""])[1]


def test_message_of_one_part_has_no_metadata():
    assert why([encode_seedee(IMAGE, {})[1]])[0] == "no metadata"


def test_missing_header_value_is_named():
    assert why(encode_seedee(IMAGE, {"clen_mm": 50}))[0] == "missing key"


def test_image_of_another_detector_is_refused_before_it_is_unpacked():
    huge = seedee_metadata(np.zeros((1, 1), "u1"), "bslz4")
    own = json.loads(huge)
    own["array"] |= {"shape": [2**14, 2**14], "size": 2**28}
    parts = [json.dumps({**VALUES, "_data_format": own}).encode(), b"x"]
    assert why(parts)[0] == "wrong shape"
    assert why(encode_seedee(IMAGE[:-1].copy(), VALUES))[0] == "wrong shape"


@pytest.mark.parametrize("compression", NUMBERS)
def test_truncated_pixels_are_refused(compression):
    head, payload = encode_seedee(IMAGE, VALUES, compression)
    for length in (0, 1, 7, 8, 11, 12, 15, 16, len(payload) - 1):
        assert why([head, payload[:length]])[0] == "damaged image"


def test_is_told_from_other_messages_of_several_parts():
    def parts(*sent: bytes) -> list[memoryview]:
        return [memoryview(part) for part in sent]

    assert begins(parts(*encode_seedee(IMAGE, VALUES)))
    assert begins(parts(seedee_metadata(IMAGE, "none").encode(), b""))
    assert not begins(parts(b'{"htype":"dimage-1.0","series":1,"frame":0}', b"{}", b""))
    assert not begins(parts(encode_seedee(IMAGE, VALUES)[0]))
    assert not begins([])
    assert not begins(parts(b"", b""))


WHOLE = encode_seedee(IMAGE, VALUES, "bslz4", as_text=False)
USING = using(copy_header=("run",))


def check_any(parts: list[bytes]) -> None:
    """Decode, or reject with a reason; anything else fails the test."""
    found: Frame | Rejected
    try:
        found = USING.decode(message(parts))
    except Rejected as rejected:
        found = rejected
    if isinstance(found, Rejected):
        assert found.reason
        assert "\n" not in found.detail
    else:
        assert image_of(found).shape == (64, 64)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE[0]) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400)
def test_changed_metadata_are_decoded_or_refused(changes):
    head = bytearray(WHOLE[0])
    for place, value in changes:
        head[place] = value
    check_any([bytes(head), WHOLE[1]])


@given(st.lists(st.tuples(st.integers(0, len(WHOLE[1]) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=200)
def test_changed_pixels_are_decoded_or_refused(changes):
    payload = bytearray(WHOLE[1])
    for place, value in changes:
        payload[place] = value
    check_any([WHOLE[0], bytes(payload)])


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["array", "shape", "size"]), inner)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(seedee_metadata(IMAGE, "none"))["array"])), st.booleans(), ANY)
@settings(max_examples=300)
def test_any_value_in_place_of_another_is_decoded_or_refused(key, inside, value):
    check_any(changed(key, value, inside))
