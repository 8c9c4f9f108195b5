# SPDX-License-Identifier: GPL-3.0-or-later
"""DECTRIS Stream V2: what is sent is what is decoded; channels; the start of the series; damage is told."""

import cbor2
import numpy as np
import pytest
from formats.making import IMAGE, PANELS, WIDE
from formats.making_series import COUNTS, FIXED, bad_at, decoded, making, pixels, why
from numpy.testing import assert_array_equal

from gpuidx.formats.dectris_v2 import DectrisV2Decoder, begins
from gpuidx.simulation.encode_dectris import (
    TYPED,
    V2_COMPRESSIONS,
    array,
    cbor_map,
    v2_end,
    v2_image,
    v2_start,
)

LOOKED_UP = "photon_energy = incident_energy eV\nclen = /detector_translation/2 m\n" + PANELS
VALUES = {"incident_energy": 12000.0, "incident_wavelength": 1.0332, "detector_translation": [0.0, 0.0, 0.25]}
ONE = {"threshold_1": COUNTS}
TWO = {"threshold_2": COUNTS + np.uint16(1), "threshold_1": COUNTS}


@pytest.mark.parametrize("compression", V2_COMPRESSIONS)
@pytest.mark.parametrize("letters", ["|u1", "<u2", "<u4", "<i4"])
def test_each_compression_and_type_gives_the_pixels(compression, letters):
    parts = v2_image({"threshold_1": IMAGE.astype(letters)}, compression=compression)
    assert_array_equal(pixels(making(DectrisV2Decoder), parts), IMAGE)


@pytest.mark.parametrize("letters", sorted(TYPED))
def test_every_typed_array_is_read(letters):
    parts = v2_image({"threshold_1": IMAGE.astype(letters)}, compression="none")
    assert_array_equal(pixels(making(DectrisV2Decoder), parts), IMAGE)


def test_the_image_may_be_larger_than_the_panels():
    assert_array_equal(pixels(making(DectrisV2Decoder), v2_image({"a": WIDE.astype("<u2")})), IMAGE)


def test_pixels_that_are_not_compressed_stay_in_the_message():
    from formats.making_series import message

    data = v2_image(ONE, compression="none")[0]
    one = message([data])
    for start in range(2):  # aligned in one of the two
        memory = np.zeros(len(data) + 16, np.uint8)
        memory[start : start + len(data)] = np.frombuffer(data, np.uint8)
        one = message([data])
        object.__setattr__(one, "data", memoryview(memory)[start : start + len(data)])
        image = making(DectrisV2Decoder).decode(one).image
        assert_array_equal(image, IMAGE)
        if np.shares_memory(image, memory):
            return
    pytest.fail("the pixels were copied")


@pytest.mark.parametrize(
    "name", ["threshold_2", "/threshold_2", "/data/threshold_2", "/entry/data/threshold_2"]
)
def test_the_geometry_names_the_channel(name):
    text = FIXED.replace("data = image", f"data = {name}")
    assert_array_equal(pixels(making(DectrisV2Decoder, text), v2_image(TWO)), IMAGE + 1)


def test_else_the_first_channel_in_the_detectors_order():
    decoder = making(DectrisV2Decoder)
    start = v2_start(VALUES, channels=("threshold_1", "threshold_2"))
    assert_array_equal(pixels(decoder, v2_image(TWO), start), IMAGE)
    assert decoder.notes == {"frames with 2 channels, of which 'threshold_1' was taken": 1}


def test_else_the_first_channel_of_the_message():
    assert_array_equal(pixels(making(DectrisV2Decoder), v2_image(TWO)), IMAGE + 1)


def test_panels_in_different_channels():
    text = FIXED.replace("p1/min_fs", "p0/data = threshold_1\np1/data = threshold_2\np1/min_fs")
    image = pixels(making(DectrisV2Decoder, text), v2_image(TWO))
    assert_array_equal(image[:32], IMAGE[:32])
    assert_array_equal(image[-32:], IMAGE[32:] + 1)


def test_header_values_of_the_image_and_then_of_the_start():
    decoder = making(DectrisV2Decoder, LOOKED_UP, copy_header=("image_id", "start_time", "arm_date", "on"))
    more = {"arm_date": cbor2.CBORTag(0, "2026-01-01T00:00:00Z"), "on": True}
    frame = decoded(decoder, v2_image(ONE, image_id=5), v2_start(VALUES | more))
    assert frame.photon_energy == pytest.approx(12000)
    assert frame.detector.clen == pytest.approx(0.25)
    assert frame.headers == {
        "incident_energy": 12000.0, "/detector_translation/2": 0.25, "image_id": 5, "start_time": 1e-4,
        "arm_date": "2026-01-01T00:00:00Z", "on": 1,
    }  # fmt: skip


def test_a_path_of_the_file_finds_the_key_of_the_same_name():
    text = "wavelength = /entry/instrument/beam/incident_wavelength A\nclen = 0.1\n" + PANELS
    frame = decoded(making(DectrisV2Decoder, text), v2_image(ONE), v2_start(VALUES))
    assert frame.wavelength == pytest.approx(1.0332)


def test_a_start_of_another_series_is_not_used():
    decoder = making(DectrisV2Decoder, LOOKED_UP)
    assert why(decoder, v2_image(ONE, series=1), v2_start(VALUES, series=2))[0] == "missing key"
    assert decoder.notes == {"frames of another series than the last start message": 1}


def test_a_start_without_number_is_used():
    assert decoded(making(DectrisV2Decoder, LOOKED_UP), v2_image(ONE), [cbor_map({"type": "start"} | VALUES)])


def test_a_start_that_cannot_be_read_is_counted_and_the_frame_goes_on():
    decoder = making(DectrisV2Decoder)
    assert_array_equal(pixels(decoder, v2_image(ONE), [v2_start(VALUES)[0][:-4]]), IMAGE)
    assert decoder.notes == {"start messages that cannot be read: truncated message": 1}


def test_pixels_of_the_pixel_mask_are_bad():
    start = v2_start(VALUES, pixel_mask={"threshold_1": bad_at((3, 5), (40, 63))})
    image = pixels(making(DectrisV2Decoder, masked=True), v2_image(ONE), start)
    assert_array_equal(np.argwhere(np.isnan(image)), [(3, 5), (40, 63)])


def test_the_pixel_mask_is_that_of_the_channel():
    masks = {"threshold_1": bad_at((3, 5)), "threshold_2": bad_at((9, 9))}
    text = FIXED.replace("data = image", "data = threshold_2")
    image = pixels(
        making(DectrisV2Decoder, text, masked=True), v2_image(TWO), v2_start(VALUES, pixel_mask=masks)
    )
    assert_array_equal(np.argwhere(np.isnan(image)), [(9, 9)])


def test_no_mask_data_leaves_the_pixel_mask_aside():
    start = v2_start(VALUES, pixel_mask={"threshold_1": bad_at((3, 5))})
    decoder = making(DectrisV2Decoder, masked=True, mask_data=False)
    assert_array_equal(pixels(decoder, v2_image(ONE), start), IMAGE)


def test_a_pixel_mask_of_another_size_is_counted_and_the_frame_goes_on():
    start = v2_start(VALUES, pixel_mask={"threshold_1": bad_at(shape=(32, 64))})
    decoder = making(DectrisV2Decoder, masked=True)
    assert_array_equal(pixels(decoder, v2_image(ONE), start), IMAGE)
    assert decoder.notes == {"start messages that cannot be read: wrong shape": 1}


def test_big_endian_and_shuffled_by_smaller_elements():
    shuffled = array(COUNTS.view("u1").reshape(64, 128), "bslz4").value[1].value
    tagged = cbor2.CBORTag(40, [[64, 64], cbor2.CBORTag(69, shuffled)])
    assert_array_equal(
        pixels(making(DectrisV2Decoder), [cbor_map({"type": "image", "data": {"a": tagged}})]), IMAGE
    )


def sent(**values: object) -> list[bytes]:
    return [cbor_map({"type": "image", "data": {"a": array(COUNTS)}} | values)]


def tagged(shape: object, tag: int, content: object) -> list[bytes]:
    return sent(data={"a": cbor2.CBORTag(40, [shape, cbor2.CBORTag(tag, content)])})


def compressed(*parts: object) -> list[bytes]:
    return tagged([64, 64], 69, cbor2.CBORTag(56500, list(parts)))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (v2_end(), "not an image"),
        (v2_start(VALUES), "not an image"),
        ([cbor_map({"data": 1})], "not an image"),
        ([b"\x83\x01\x02\x03"], "not a map"),
        ([b"\xa1"], "truncated message"),
        ([b"\xbb" + b"\xff" * 8], "truncated message"),
        (sent(data=5), "not a map"),
        (sent(data={}), "missing key"),
        ([cbor_map({"type": "image"})], "missing key"),
        (sent(data={"a": [1, 2]}), "wrong type"),
        (sent(data={"line\nbreak": [1, 2]}), "wrong type"),
        (tagged([64, 64], 67, b"\0" * 8), "damaged image"),
        (tagged([64, 64], 87, COUNTS.tobytes()), "unknown pixel type"),
        (tagged([64, 64], 69, COUNTS.tobytes()[1:]), "damaged image"),
        (tagged([64, 64], 69, [1, 2, 3]), "wrong type"),
        (tagged([4096], 69, COUNTS.tobytes()), "wrong shape"),
        (tagged([64, -64], 69, COUNTS.tobytes()), "wrong shape"),
        (tagged([2**40, 2**40], 69, b"\0"), "wrong shape"),
        (tagged("ab", 69, COUNTS.tobytes()), "wrong shape"),
        (compressed("bslz4", 2, b"\0" * 40), "damaged image"),
        (compressed("bslz4", 0, b"\0" * 40), "malformed message"),
        (compressed("bslz4", 3, b"\0" * 40), "malformed message"),
        (compressed("bslz4", 2, "text"), "malformed message"),
        (compressed("trpx", 2, b"\0" * 40), "unknown compression"),
        (compressed(["bslz4"], 2, b"\0" * 40), "unknown compression"),
        (compressed("bslz4", 2), "wrong type"),
    ],
)
def test_what_is_wrong_is_told(parts, reason):
    assert why(making(DectrisV2Decoder), parts)[0] == reason


def test_there_are_no_peak_lists():
    assert why(making(DectrisV2Decoder, peaks="msgpack"), v2_image(ONE))[0] == "no peak list"


def test_it_begins_with_a_type():
    for parts in (v2_image(ONE), v2_start({}), v2_end()):
        assert begins([memoryview(parts[0])])
        assert begins([memoryview(parts[0][3:])])
    assert not begins([memoryview(b"\xd9\xd9\xf7\x83dtype")])
    assert not begins([memoryview(b"")])
    assert not begins([])


def test_values_above_the_saturation_of_the_start_are_bad():
    counts = COUNTS.copy()
    counts[7, 9], counts[8, 9] = 1001, 1000
    found = pixels(
        making(DectrisV2Decoder, masked=True),
        v2_image({"threshold_1": counts}),
        v2_start(VALUES | {"saturation_value": 1000}),
    )
    assert_array_equal(np.argwhere(np.isnan(found)), [(7, 9)])
