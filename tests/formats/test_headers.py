# SPDX-License-Identifier: GPL-3.0-or-later
import msgpack
import numpy as np
import pytest
from formats.making import GEOMETRY, decode, decoder, fields, pack, reason

from gpuidx.errors import OptionError
from gpuidx.units import HC

NUMPY_SCALAR = {b"nd": False, b"type": "<f4", b"data": np.float32(9500).tobytes()}


@pytest.mark.parametrize(
    ("value", "header"),
    [
        (9500.0, 9500.0),
        (9500, 9500),
        ("9500", "9500"),
        ("9.5e3", "9.5e3"),
        (NUMPY_SCALAR, 9500.0),
        (NUMPY_SCALAR | {b"type": "<i8", b"data": np.int64(9500).tobytes()}, 9500),
        ({"type": ">f8", "shape": [1], "data": np.array(9500.0, ">f8").tobytes(), "nd": True}, 9500.0),
    ],
)
def test_a_number_may_be_sent_in_many_ways(value, header):
    frame = decode(pack(fields(photon_energy=value)))
    assert frame.photon_energy == pytest.approx(9500)
    assert frame.wavelength == pytest.approx(HC / 9500)
    assert frame.headers == {"photon_energy": header, "clen_mm": 50.0}
    assert type(frame.headers["photon_energy"]) is type(header)


def test_a_single_precision_number_is_a_number():
    frame = decode(msgpack.packb(fields(photon_energy=9500.5), use_single_float=True))
    assert frame.photon_energy == pytest.approx(9500.5)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (NUMPY_SCALAR | {b"type": "|b1", b"data": b"\1"}, "unknown pixel type"),
        (NUMPY_SCALAR | {b"data": b"\0"}, "short data"),
        ({"type": "<f4", "shape": [2], "data": bytes(8)}, "bad header value"),
        ({"type": "<f4", "data": bytes(8)}, "missing key"),
    ],
)
def test_a_serialised_array_that_is_no_number_is_rejected(value, why):
    found, detail = reason(pack(fields(photon_energy=value)))
    assert found == why
    assert "photon_energy" in detail


@pytest.mark.parametrize(
    ("line", "sent", "wavelength"),
    [
        ("photon_energy = beam/energy keV", {"energy": 9.5}, HC / 9500),
        ("photon_energy = beam/energy", {"energy": 9500}, HC / 9500),
        ("wavelength = beam/w A", {"w": 1.5}, 1.5),
        ("wavelength = beam/w m", {"w": 1.5e-10}, 1.5),
        ("electron_voltage = beam/v kV", {"v": 200}, 0.0250793),
    ],
)
def test_wavelength_in_each_unit(line, sent, wavelength):
    using = decoder(GEOMETRY.replace("photon_energy = photon_energy eV", line))
    frame = decode(pack(fields(beam=sent)), using)
    assert frame.wavelength == pytest.approx(wavelength, rel=1e-5)
    assert frame.photon_energy == pytest.approx(HC / wavelength, rel=1e-5)


@pytest.mark.parametrize(
    ("line", "sent", "clen"),
    [
        ("clen = d", 50.0, 0.05),
        ("clen = d mm", 50.0, 0.05),
        ("clen = d m", 0.05, 0.05),
        ("clen = d m", -0.43, -0.43),
    ],
)
def test_camera_length_in_each_unit(line, sent, clen):
    frame = decode(pack(fields(d=sent)), decoder(GEOMETRY.replace("clen = clen_mm mm", line)))
    assert frame.detector.clen == pytest.approx(clen)


def test_a_literal_camera_length_is_in_metres_and_no_header():
    using = decoder(GEOMETRY.replace("clen = clen_mm mm", "clen = 0.07"))
    frame = decode(pack(fields(clen_mm=None)), using)
    assert frame.detector.clen == pytest.approx(0.07)
    assert list(frame.headers) == ["photon_energy"]


def test_a_camera_length_of_zero_is_legal_where_panels_have_an_offset():
    using = decoder(extra="coffset = 0.3")
    assert decode(pack(fields(clen_mm=0.0)), using).detector.clen == pytest.approx(0.3)
    assert reason(pack(fields(clen_mm=-300.0)), using)[0] == "absurd camera length"
    assert decode(pack(fields(clen_mm=-200.0)), using).detector.clen == pytest.approx(0.1)


def test_a_camera_length_of_zero_is_legal_where_panels_stand_beside_the_beam():
    text = GEOMETRY.replace("/fs = x", "/fs = z").replace("corner_x = -32", "corner_x = 500")
    assert decode(pack(fields(clen_mm=0.0)), decoder(text)).detector.clen == 0.0


def test_detector_shift_from_headers():
    lines = "detector_shift_x = dx mm\ndetector_shift_y = dy"
    using, still = decoder(extra=lines), decoder()
    frame = decode(pack(fields(dx=2.0, dy=-0.001)), using)
    moved = frame.detector.corner - decode(pack(fields()), still).detector.corner
    assert moved == pytest.approx(np.array([[20.0, -10.0, 0.0]] * 2))
    assert list(frame.headers) == ["photon_energy", "clen_mm", "dx", "dy"]
    assert reason(pack(fields(dx=2.0)), using)[1].startswith("'dy' is not in the message")
    assert reason(pack(fields(dx=2.0, dy="far")), using)[0] == "bad header value"


def test_copied_headers_follow_those_that_are_used():
    using = decoder(copy_header=("run", "photon_energy", "meta/name", "gain"))
    frame = decode(pack(fields(run=12, meta={"name": "Probe é"}, gain=0.5)), using)
    assert list(frame.headers.items()) == [
        ("photon_energy", 9500.0), ("clen_mm", 50.0), ("run", 12), ("meta/name", "Probe é"), ("gain", 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [None, [1], True, b"x", "", "two\nlines", "x" * 20000, {"a": 1}])
def test_a_copied_header_that_cannot_be_copied_is_counted_and_the_frame_goes_on(value):
    using = decoder(copy_header=("odd",))
    for _ in range(3):
        frame = decode(pack(fields(odd=value)), using)
    assert list(frame.headers) == ["photon_energy", "clen_mm"]
    ((text, count),) = using.notes.items()
    assert text.startswith("--copy-header=odd left out: ")
    assert count == 3


def test_a_used_header_may_not_break_a_line_of_the_stream():
    assert reason(pack(fields(photon_energy="9500\n")))[0] == "bad header value"


def test_the_name_of_a_copied_header_may_not_break_a_line_of_the_stream():
    with pytest.raises(OptionError, match="copy-header"):
        decoder(copy_header=("good", "a\nb"))


def test_the_same_camera_length_gives_the_same_detector():
    using = decoder()
    first, second = (decode(pack(fields(photon_energy=e)), using) for e in (9500.0, 9400.0))
    assert first.detector is second.detector


@pytest.mark.parametrize(
    ("estimates", "differ"),
    [
        ({}, []),
        ({"wavelength_estimate": 1.3e-10, "camera_length_estimate": 0.05}, []),
        ({"wavelength_estimate": 1.5e-10}, ["wavelength"]),
        ({"camera_length_estimate": 0.056}, ["camera length"]),
        ({"wavelength_estimate": 1e-10, "camera_length_estimate": 0.04}, ["wavelength", "camera length"]),
    ],
)
def test_frames_far_from_the_estimates_are_counted(estimates, differ):
    using = decoder(**estimates)
    decode(pack(fields()), using)
    assert [note.split(" differs")[0] for note in using.notes] == [f"frames whose {what}" for what in differ]
