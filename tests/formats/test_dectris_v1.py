# SPDX-License-Identifier: GPL-3.0-or-later
"""DECTRIS Stream V1: what is sent is what is decoded; headers of the series; damage is told."""

import json

import numpy as np
import pytest
from formats.making import IMAGE, PANELS, WIDE
from formats.making_series import COUNTS, FIXED, bad_at, decoded, making, message, pixels, why
from numpy.testing import assert_array_equal

from gpuidx.formats.dectris_v1 import DectrisV1Decoder, begins
from gpuidx.simulation.encode_dectris import V1_ENCODINGS, v1_end, v1_image, v1_start

LOOKED_UP = "photon_energy = photon_energy eV\nclen = /detector_distance m\n" + PANELS
CONFIGURATION = {"photon_energy": 12000.0, "detector_distance": 0.25, "wavelength": 1.0332, "nimages": 5}
DIMS = "dim0 = %\ndim1 = ss\ndim2 = fs"


@pytest.mark.parametrize("encoding", V1_ENCODINGS)
@pytest.mark.parametrize("letters", ["u1", "u2", "u4"])
def test_each_encoding_and_type_gives_the_pixels(encoding, letters):
    sent = IMAGE.astype(letters)
    assert_array_equal(pixels(making(DectrisV1Decoder), v1_image(sent, encoding=encoding)), IMAGE)


@pytest.mark.parametrize("encoding", [">", "lz4>", "bs-lz4>"])
def test_big_endian_pixels(encoding):
    assert_array_equal(pixels(making(DectrisV1Decoder), v1_image(COUNTS, encoding=encoding)), IMAGE)


def test_noise_that_lz4_makes_longer():
    noise = np.random.default_rng(1).integers(0, 1 << 16, (64, 64)).astype("<u2")
    parts = v1_image(noise, encoding="lz4<")
    assert len(parts[2]) > noise.nbytes
    assert_array_equal(pixels(making(DectrisV1Decoder), parts), noise)


def test_the_width_comes_first_in_the_shape():
    parts = v1_image(WIDE.astype("<u2"))
    assert json.loads(parts[1])["shape"] == [70, 74]
    assert_array_equal(pixels(making(DectrisV1Decoder), parts), IMAGE)


def test_elements_that_are_shuffled_may_be_smaller_than_pixels():
    parts = v1_image(COUNTS.view("u1").reshape(64, 128))
    about = json.loads(parts[1]) | {"shape": [64, 64], "type": "uint16"}
    parts[1] = json.dumps(about).encode()
    assert about["encoding"] == "bs8-lz4<"
    assert_array_equal(pixels(making(DectrisV1Decoder), parts), IMAGE)


def test_header_values_of_the_image_and_then_of_the_series():
    decoder = making(DectrisV1Decoder, LOOKED_UP, copy_header=("frame", "nimages", "real_time", "user/run"))
    appendix = json.dumps({"user": {"run": 12}}).encode()
    frame = decoded(decoder, v1_image(COUNTS, frame=3, appendix=appendix), v1_start(1, CONFIGURATION))
    assert frame.photon_energy == pytest.approx(12000)
    assert frame.detector.clen == pytest.approx(0.25)
    assert frame.headers == {
        "photon_energy": 12000.0, "/detector_distance": 0.25, "frame": 3, "nimages": 5, "real_time": 900,
        "user/run": 12,
    }  # fmt: skip


def test_a_path_of_the_file_finds_the_key_of_the_same_name():
    text = LOOKED_UP.replace("photon_energy eV", "/entry/instrument/beam/photon_energy eV")
    frame = decoded(making(DectrisV1Decoder, text), v1_image(COUNTS), v1_start(1, CONFIGURATION))
    assert frame.photon_energy == pytest.approx(12000)


def test_a_frame_without_header_is_decoded_with_the_geometrys_values():
    assert decoded(making(DectrisV1Decoder), v1_image(COUNTS)).photon_energy == pytest.approx(9500)


def test_a_missing_header_is_named():
    reason, detail = why(making(DectrisV1Decoder, LOOKED_UP), v1_image(COUNTS))
    assert reason == "missing key"
    assert "'photon_energy' is not in the message, which has 'htype'" in detail


def test_the_header_of_another_series_is_not_used():
    decoder = making(DectrisV1Decoder, LOOKED_UP)
    reason, _ = why(decoder, v1_image(COUNTS, series=1), v1_start(2, CONFIGURATION))
    assert reason == "missing key"
    assert decoder.notes == {"frames of another series than the last start message": 1}


def test_a_header_that_cannot_be_read_is_counted_and_the_frame_goes_on():
    decoder = making(DectrisV1Decoder)
    assert_array_equal(pixels(decoder, v1_image(COUNTS), [b"{nothing"]), IMAGE)
    assert decoder.notes == {"start messages that cannot be read: malformed message": 1}


def test_a_header_is_read_once_for_all_frames_of_a_series():
    decoder = making(DectrisV1Decoder)
    one = message(v1_image(COUNTS), [b"{nothing"])
    decoder.decode(one)
    decoder.decode(one)
    assert sum(decoder.notes.values()) == 1


def test_pixels_of_the_pixel_mask_are_bad():
    start = v1_start(1, CONFIGURATION, bad_at((3, 5), (40, 63)))
    image = pixels(making(DectrisV1Decoder, masked=True), v1_image(COUNTS), start)
    assert image.dtype == np.float32
    assert_array_equal(np.argwhere(np.isnan(image)), [(3, 5), (40, 63)])


def test_virtual_pixels_have_a_value():
    mask = np.full((64, 64), 1 << 31, "<u4")
    image = pixels(making(DectrisV1Decoder, masked=True), v1_image(COUNTS), v1_start(1, CONFIGURATION, mask))
    assert_array_equal(image, IMAGE)


@pytest.mark.parametrize("letters", ["u1", "u2", "u4"])
def test_pixels_with_the_maximum_of_the_type_are_bad(letters):
    sent = IMAGE.astype(letters)
    sent[7, 9] = np.iinfo(letters).max
    decoder = making(DectrisV1Decoder, masked=True)
    assert_array_equal(np.argwhere(np.isnan(pixels(decoder, v1_image(sent)))), [(7, 9)])
    assert len(decoder.notes) == 1


def test_without_masks_all_pixels_are_taken_as_they_are():
    sent = COUNTS.copy()
    sent[7, 9] = 65535
    start = v1_start(1, CONFIGURATION, bad_at((3, 5)))
    assert_array_equal(pixels(making(DectrisV1Decoder), v1_image(sent), start), sent)


def test_frames_dimensions_of_a_files_geometry_do_no_harm():
    text = FIXED.replace("data = image", f"data = /entry/data/data\n{DIMS}")
    assert_array_equal(pixels(making(DectrisV1Decoder, text), v1_image(COUNTS)), IMAGE)


def test_there_are_no_peak_lists():
    assert why(making(DectrisV1Decoder, peaks="msgpack"), v1_image(COUNTS))[0] == "no peak list"


def changed(number: int, **values: object) -> list[bytes]:
    parts = v1_image(COUNTS)
    parts[number] = json.dumps(json.loads(parts[number]) | values).encode()
    return parts


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (v1_end(), "not an image"),
        (v1_start(), "not an image"),
        (v1_image(COUNTS)[:2], "truncated message"),
        ([b"[1]", *v1_image(COUNTS)[1:]], "not a map"),
        ([b"\xff" * 40, *v1_image(COUNTS)[1:]], "malformed message"),
        ([b"[" * 100_000, *v1_image(COUNTS)[1:]], "malformed message"),
        ([b" " * 2_000_000, *v1_image(COUNTS)[1:]], "malformed message"),
        (changed(1, type="object"), "unknown pixel type"),
        (changed(1, encoding="bs16-zstd<"), "unknown compression"),
        (changed(1, encoding=["lz4"]), "unknown compression"),
        (changed(1, shape=[64]), "wrong shape"),
        (changed(1, shape=[64, -64]), "wrong shape"),
        (changed(1, shape=[63, 64]), "wrong shape"),
        (changed(1, shape=[10**30, 10**30]), "wrong shape"),
        (changed(1, shape=[64, 65]), "damaged image"),
        (changed(1, encoding="lz4<"), "damaged image"),
        (changed(1, encoding="<"), "damaged image"),
        (changed(1, type="uint32"), "damaged image"),
    ],
)
def test_what_is_wrong_is_told(parts, reason):
    assert why(making(DectrisV1Decoder), parts)[0] == reason


def test_absurd_integers_are_no_header_values():
    decoder = making(DectrisV1Decoder, LOOKED_UP)
    start = v1_start(1, CONFIGURATION | {"photon_energy": 10**400})
    assert why(decoder, v1_image(COUNTS), start)[0] == "bad header value"


def test_it_begins_with_its_htype():
    assert begins([memoryview(part) for part in v1_image(COUNTS)])
    assert begins([memoryview(part) for part in v1_start()])
    assert not begins([memoryview(b'{"htype": "chunk-1.0"}')])
    assert not begins([])


def test_values_above_the_saturation_of_the_start_are_bad():
    counts = COUNTS.copy()
    counts[7, 9], counts[8, 9] = 1001, 1000
    found = pixels(
        making(DectrisV1Decoder, masked=True),
        v1_image(counts),
        v1_start(1, CONFIGURATION | {"saturation_value": 1000}),
    )
    assert_array_equal(np.argwhere(np.isnan(found)), [(7, 9)])


def test_series_and_number_name_the_image():
    assert decoded(making(DectrisV1Decoder), v1_image(COUNTS, frame=3)).source_id == "1/3"
