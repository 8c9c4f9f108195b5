# SPDX-License-Identifier: GPL-3.0-or-later
"""CBF images: pixels, header values, gzip, files; what is refused, and why."""

import gzip
import re
from typing import Any

import fabio
import numpy as np
import pytest
from formats.making import GEOMETRY, IMAGE, image_of
from formats.making_decoders import made, message
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.cbf import CbfDecoder, begins, file_begins
from gpuidx.model import Frame, Message
from gpuidx.simulation.encode_cbf import TYPES, encode_cbf

TEXT = GEOMETRY.replace("photon_energy = photon_energy eV", "wavelength = Wavelength A").replace(
    "clen_mm mm", "Detector_distance m"
)
VALUES: dict[str, object] = {
    "Detector:": "PILATUS 6M, S/N 60-0119",
    "Exposure_time": "0.0190000 s",
    "Tau =": "1697.2e-09 s",
    "Wavelength": "0.9795 A",
    "Detector_distance": "0.20000 m",
    "Beam_xy": "(1261.61, -13.5) pixels",
    "N_oscillations": "1",
    "Threshold_setting:": "6400 eV",
}


def using(text: str = TEXT, masks: bool = False, **options: Any) -> CbfDecoder:
    return made(CbfDecoder, text, masks, **options)


def decode(data: bytes, decoder: CbfDecoder | None = None) -> Frame:
    return (decoder or using()).decode(message([data]))


def why(data: bytes, decoder: CbfDecoder | None = None) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        decode(data, decoder)
    return caught.value.reason, caught.value.detail


def whole(image: Any = IMAGE, **options: Any) -> bytes:
    return encode_cbf(image, VALUES, **options)[0]


def with_field(name: str, value: str) -> bytes:
    """A message whose field of the binary section has another value."""
    data = whole()
    changed, count = re.subn(rb"(?m)^" + name.encode() + rb": .*?\r$", f"{name}: {value}\r".encode(), data)
    assert count == 1
    return changed


def from_file(path: Any) -> Message:
    return Message(serial=1, filename=str(path), event="//", data=memoryview(b""))


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("letters", sorted(TYPES))
def test_every_type_is_decoded(letters, gzipped):
    image = image_of(decode(whole(IMAGE.astype(letters), gzipped=gzipped)))
    assert image.dtype.str[1:] == ("u4" if letters == "u4" else "i4")
    assert_array_equal(image, IMAGE)
    assert image.flags.writeable


def test_what_is_written_is_read_by_fabio(tmp_path):
    (tmp_path / "a.cbf").write_bytes(whole())
    assert_array_equal(fabio.open(tmp_path / "a.cbf").data, IMAGE)


def test_header_values_are_found_by_their_first_word():
    names = ("Exposure_time", "Beam_x", "/Beam_y", "N_oscillations", "Detector", "Tau")
    frame = decode(whole(), using(copy_header=names))
    assert frame.headers == {
        "Wavelength": 0.9795,
        "Detector_distance": 0.2,
        "Exposure_time": 0.019,
        "Beam_x": 1261.61,
        "/Beam_y": -13.5,
        "N_oscillations": 1,
        "Detector": "PILATUS 6M, S/N 60-0119",
        "Tau": 1697.2e-9,
    }
    assert frame.wavelength == pytest.approx(0.9795)
    assert frame.detector.clen == pytest.approx(0.2)


def test_literal_values_need_no_header():
    text = TEXT.replace("Wavelength A", "1.5 A").replace("Detector_distance m", "0.1 m")
    frame = decode(encode_cbf(IMAGE, {})[0], using(text))
    assert frame.wavelength == 1.5
    assert frame.headers == {}


def test_missing_header_value_is_named():
    assert why(encode_cbf(IMAGE, {"Wavelength": 1})[0])[1].startswith("'Detector_distance' is not in")


def test_pixels_without_compression_are_read():
    pixels = IMAGE.astype("<u2").tobytes()
    data = with_field("X-Binary-Size", str(len(pixels))).replace(b'conversions="x-CBF_BYTE_OFFSET"', b"")
    data = data.replace(b'"signed 32-bit', b'"unsigned 16-bit')
    start = data.index(b"\x0c\x1a\x04\xd5") + 4
    image = image_of(decode(data[:start] + pixels))
    assert image.dtype == np.uint16
    assert_array_equal(image, IMAGE)
    assert why(data[:start] + pixels[:-1])[0] == "damaged image"


def test_larger_images_than_the_panels_are_cut():
    assert_array_equal(image_of(decode(whole(np.pad(IMAGE, ((0, 3), (0, 5)))))), IMAGE)


def test_bad_pixels_of_a_frame_are_nan():
    text = TEXT.replace("{extra}", "").replace("p0/min_fs", "p0/flag_equal = 7\np0/min_fs", 1)
    sent = IMAGE.copy()
    sent[3, 4] = sent[40, 4] = 7
    image = image_of(decode(whole(sent), using(text, masks=True)))
    assert np.isnan(image[3, 4])
    assert image[40, 4] == 7


@pytest.mark.parametrize("gzipped", [False, True])
def test_files_are_read_by_name(tmp_path, gzipped):
    path = tmp_path / "frame.cbf"
    path.write_bytes(whole(gzipped=gzipped))
    assert file_begins(str(path))
    frame = using().decode_file(from_file(path))
    assert_array_equal(image_of(frame), IMAGE)
    assert frame.filename == str(path)


def test_empty_message_opens_no_file(tmp_path):
    (tmp_path / "frame.cbf").write_bytes(whole())
    with pytest.raises(Rejected, match="not a CBF image"):
        using().decode(from_file(tmp_path / "frame.cbf"))


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"\x89HDF\r\n\x1a\n")
    for name, found in (
        ("other", "not a CBF image"),
        ("missing", "file cannot be read"),
        ("", "file cannot be read"),
    ):
        assert not file_begins(str(tmp_path / name))
        with pytest.raises(Rejected, match=found):
            using().decode_file(from_file(tmp_path / name))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(Rejected, match="expected at most"):
        using().decode_file(from_file(tmp_path / "huge"))
    assert not file_begins("a\0b")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("Size-Fastest-Dimension", "0", "Fastest"), ("Size-Fastest-Dimension", "-64", "Fastest"),
        ("Size-Fastest-Dimension", "65", "Elements"), ("Size-Second-Dimension", "x", "Second"),
        ("Size-Second-Dimension", "9" * 30, "Second"), ("Size", "", "X-Binary-Size"),
        ("Size", "4095", "4095"), ("Size", "99999999", "99999999"),
        ("Number-of-Elements", "4097", "Elements"),
        ("Element-Byte-Order", "BIG_ENDIAN", "BIG"), ("Element-Type", '"complex 64-bit"', "complex"),
        ("Element-Type", '"signed 32-bit real IEEE"', "real"),
    ],
)  # fmt: skip
def test_heads_that_contradict_themselves_are_refused(field, value, named):
    reason, detail = why(with_field(f"X-Binary-{field}", value))
    assert reason == "damaged image"
    assert named in detail


@pytest.mark.parametrize("name", ["x-CBF_PACKED", "x-CBF_CANONICAL", "x-CBF_PACKED_V2"])
def test_other_compressions_are_named(name):
    data = whole().replace(b"x-CBF_BYTE_OFFSET", name.encode())
    assert why(data) == ("unknown compression", f"'{name}'; expected x-CBF_BYTE_OFFSET or none")


def test_image_of_another_detector_is_refused_before_it_is_unpacked():
    data = encode_cbf(np.zeros((9000, 1), "i4"), VALUES)[0].replace(b"-Dimension: 1\r", b"-Dimension: 9000\r")
    data = data.replace(b"Elements: 9000", b"Elements: 81000000").replace(b"Size: 9000", b"Size: 81000000")
    assert why(data)[0] == "wrong shape"
    assert why(whole(IMAGE[:-1].copy()))[0] == "wrong shape"


def test_gzip_is_unpacked_no_further_than_needed():
    bomb = gzip.compress(whole() + bytes(2**26))
    assert_array_equal(image_of(decode(bomb)), IMAGE)
    assert why(gzip.compress(bytes(2**26)))[0] == "not a CBF image"
    assert "no pixels begin" in why(gzip.compress(b"###CBF" + bytes(2**24)))[1]


def test_every_truncation_is_refused():
    for data in (whole(), whole(gzipped=True)):
        end = data.find(b"\x0c\x1a\x04\xd5") + 4 + IMAGE.size if data[0] == 0x23 else len(data) - 60
        for length in [*range(1, 40), *range(40, end, 97), end - 1]:
            assert why(data[:length])[0] in (
                "damaged image",
                "not a CBF image",
                "missing key",
                "bad header value",
            )


def test_damage_of_gzip_is_seen():
    data = bytearray(whole(gzipped=True))
    data[-6] ^= 1
    assert why(bytes(data)) == (
        "damaged image",
        "gzip: Error -3 while decompressing data: incorrect data check",
    )


def test_is_told_from_other_messages():
    def one(data: bytes) -> list[memoryview]:
        return [memoryview(data)]

    assert begins(one(whole()))
    assert begins(one(whole(gzipped=True)))
    assert not begins(one(gzip.compress(b"\x89HDF\r\n\x1a\n")))
    assert not begins(one(b"\x1f\x8bxxxx"))
    assert not begins(one(b"\x1f\x8b"))
    assert not begins(one(b""))
    assert not begins([])
    assert not begins(one(b"##") + one(whole()))


USING = using(copy_header=("Detector",))
WHOLE, ZIPPED = whole(), whole(gzipped=True)


def check_any(data: bytes) -> None:
    """Decode, or reject with a reason; anything else fails the test."""
    found: Frame | Rejected
    try:
        found = USING.decode(message([data]))
    except Rejected as rejected:
        found = rejected
    if isinstance(found, Rejected):
        assert found.reason
        assert "\n" not in found.detail
    else:
        assert image_of(found).shape == (64, 64)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=300)
def test_changed_bytes_are_decoded_or_refused(changes):
    for data in (bytearray(WHOLE), bytearray(ZIPPED)):
        for place, value in changes:
            data[place % len(data)] = value
        check_any(bytes(data))


@given(st.integers(0, 2000), st.integers(0, 2000), st.binary(max_size=30))
@settings(max_examples=200)
def test_inserted_and_deleted_bytes_are_decoded_or_refused(begin, end, insertion):
    check_any(WHOLE[:begin] + insertion + WHOLE[end:])
