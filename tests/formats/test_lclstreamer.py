# SPDX-License-Identifier: GPL-3.0-or-later
"""LCLStreamer's "Simplon" serializer: pixels of any shape, values of start and image, damage is told."""

import cbor2
import numpy as np
import pytest
from formats.making import IMAGE, WIDE
from formats.making_series import FIXED, PANELS, decoded, making, pixels, why
from numpy.testing import assert_array_equal

from gpuidx.formats.lclstreamer import LclstreamerDecoder, begins
from gpuidx.simulation.encode_lclstreamer import image, start, stop

LOOKED_UP = "photon_energy = photon_energy eV\nclen = detector/distance m\n" + PANELS
STACK = np.stack([IMAGE[:32], IMAGE[32:]])
STACKED = """\
photon_energy = 9500
clen = 0.05
res = 10000
adu_per_photon = 1
data = image
dim1 = ss
dim2 = fs
fs = x
ss = y
min_fs = 0
max_fs = 63
min_ss = 0
max_ss = 31
p0/dim0 = 0
p0/corner_x = -32
p0/corner_y = -32
p1/dim0 = 1
p1/corner_x = -32
p1/corner_y = 0
"""


@pytest.mark.parametrize("name", ["uint16", "int32", "int64", "float32", "float64"])
def test_each_type_gives_the_pixels(name):
    sent = IMAGE.astype(name)
    assert_array_equal(pixels(making(LclstreamerDecoder), image(sent), start((64, 64), name)), IMAGE)


def test_the_shape_is_that_of_the_start_message():
    sent = WIDE.astype("f8")
    assert_array_equal(pixels(making(LclstreamerDecoder), image(sent), start(WIDE.shape, "float64")), IMAGE)


def test_without_a_start_message_the_shape_is_the_geometrys():
    decoder = making(LclstreamerDecoder)
    assert_array_equal(pixels(decoder, image(IMAGE.astype("f8"))), IMAGE)
    assert decoder.notes == {"images of a shape that no start message told": 1}
    assert why(decoder, image(WIDE.astype("f8")))[0] == "damaged image"


@pytest.mark.parametrize("told", [True, False])
def test_a_detector_of_several_modules(told):
    sent = start(STACK.shape, "float64") if told else []
    assert_array_equal(pixels(making(LclstreamerDecoder, STACKED), image(STACK.astype("f8")), sent), IMAGE)


def test_the_last_elements_that_fill_no_block():
    text = FIXED.replace("max_ss = 63", "max_ss = 62").replace("max_fs = 63", "max_fs = 62")
    sent = IMAGE[:63, :63].astype("f8")
    assert_array_equal(pixels(making(LclstreamerDecoder, text), image(sent)), sent)


def test_header_values_of_the_image_and_then_of_the_start():
    decoder = making(LclstreamerDecoder, LOOKED_UP, copy_header=("message_id", "beam_direction/angle_x"))
    values = {"photon_energy": 9000.5, "beam_direction": {"angle_x": 0.5}}
    begin = start((64, 64), "float64", detector={"distance": 0.25})
    frame = decoded(decoder, image(IMAGE.astype("f8"), 3, values=values), begin)
    assert frame.photon_energy == pytest.approx(9000.5)
    assert frame.detector.clen == pytest.approx(0.25)
    assert frame.headers["message_id"] == 3
    assert frame.headers["beam_direction/angle_x"] == 0.5


def test_the_start_of_another_run_is_not_used():
    decoder = making(LclstreamerDecoder)
    begin = start((1, 1), "float64", run="8")
    assert_array_equal(pixels(decoder, image(IMAGE.astype("f8"), run="7"), begin), IMAGE)
    assert decoder.notes["frames of another series than the last start message"] == 1


def test_a_shape_that_is_none_is_left_aside():
    begin = [b"c" + cbor2.dumps({"type": "start", "shape": "64x-64"})]
    assert_array_equal(pixels(making(LclstreamerDecoder), image(IMAGE.astype("f8")), begin), IMAGE)


def sent(**values: object) -> list[bytes]:
    whole = {"type": "image", "compressed_data": b"\0" * 40, "dtype": "float64"} | values
    return [b"m" + cbor2.dumps(whole)]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (stop(), "not an image"),
        (start((64, 64), "float64"), "not an image"),
        ([b"m" + stop()[0][1:]], "not an image"),
        ([b"m"], "truncated message"),
        (sent(compressed_data="text"), "wrong type"),
        (sent(dtype="object"), "unknown pixel type"),
        (sent(dtype=["float64"]), "unknown pixel type"),
        (sent(), "damaged image"),
        (sent(compressed_data=b"\0" * 4000), "damaged image"),
    ],
)
def test_what_is_wrong_is_told(parts, reason):
    assert why(making(LclstreamerDecoder), parts)[0] == reason


def test_a_shape_that_the_pixels_cannot_have():
    begin = start((4096, 4096), "float64")
    assert why(making(LclstreamerDecoder), image(IMAGE.astype("f8")), begin)[0] == "wrong shape"


def test_it_begins_with_a_letter_and_a_type():
    for parts in (image(IMAGE.astype("f8")), start((64, 64), "float64"), stop()):
        assert begins([memoryview(parts[0])])
        assert not begins([memoryview(parts[0][1:])])
    assert not begins([])
