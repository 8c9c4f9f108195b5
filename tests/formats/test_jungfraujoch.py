# SPDX-License-Identifier: GPL-3.0-or-later
"""Jungfraujoch: its superset of DECTRIS Stream V2, and the messages of 2023; spots as peaks."""

import cbor2
import numpy as np
import pytest
from formats.making import IMAGE
from formats.making_series import FIXED, PANELS, decoded, making, pixels, why
from numpy.testing import assert_array_equal

from gpuidx.formats import dectris_v2
from gpuidx.formats.jungfraujoch import JungfraujochDecoder, begins
from gpuidx.simulation.encode_dectris import v2_image, v2_start
from gpuidx.simulation.encode_jungfraujoch import early_end, early_image, early_start, end, image, start

LOOKED_UP = "photon_energy = incident_energy eV\nclen = detector_distance m\n" + PANELS
VALUES = {"incident_energy": 12000.0, "detector_distance": 0.25}
PHOTONS = IMAGE.astype("<i2")
SPOTS = [(40.0, 40.0, 100.0), (20.5, 10.25, 50.0)]


@pytest.mark.parametrize("compression", ["none", "bslz4", "bszstd"])
@pytest.mark.parametrize("letters", ["<i2", "<i4"])
@pytest.mark.parametrize("encode", [image, early_image])
def test_each_compression_and_type_gives_the_pixels(compression, letters, encode):
    parts = encode(IMAGE.astype(letters), compression=compression)
    found = pixels(making(JungfraujochDecoder), parts)
    assert_array_equal(found, IMAGE)
    assert found.dtype == letters


def test_messages_of_a_dectris_detector_are_read_too():
    assert_array_equal(pixels(making(JungfraujochDecoder), v2_image({"a": IMAGE.astype("<u2")})), IMAGE)


def test_distance_and_energy_of_the_start():
    frame = decoded(making(JungfraujochDecoder, LOOKED_UP), image(PHOTONS), start(VALUES))
    assert frame.detector.clen == pytest.approx(0.25)
    assert frame.photon_energy == pytest.approx(12000)


@pytest.mark.parametrize(("error_value", "sent"), [(None, -32768), (-32768, -32768), (-1, -1)])
def test_pixels_in_error_are_bad(error_value, sent):
    counts = PHOTONS.copy()
    counts[7, 9] = sent
    decoder = making(JungfraujochDecoder, masked=True)
    found = pixels(decoder, image(counts), start(VALUES, error_value))
    assert_array_equal(np.argwhere(np.isnan(found)), [(7, 9)])


@pytest.mark.parametrize("letters", ["<i2", "<i4"])
def test_pixels_in_error_are_bad_in_early_messages(letters):
    counts = IMAGE.astype(letters)
    counts[7, 9], counts[8, 9] = -32766, -32764
    found = pixels(making(JungfraujochDecoder, masked=True), early_image(counts))
    assert_array_equal(np.argwhere(np.isnan(found)), [(7, 9)])


def test_flags_of_the_geometry_save_the_conversion():
    counts = PHOTONS.copy()
    counts[7, 9] = -32768
    decoder = making(JungfraujochDecoder, extra="flag_lessthan = -32764", masked=True)
    assert_array_equal(pixels(decoder, early_image(counts)), counts)


@pytest.mark.parametrize("encode", [image, early_image])
def test_spots_are_peaks(encode):
    peaks = decoded(making(JungfraujochDecoder, peaks="msgpack"), encode(PHOTONS, spots=SPOTS)).peaks
    assert peaks is not None
    assert list(peaks.fs) == [40.5, 21.0]
    assert list(peaks.ss) == [8.5, 10.75]
    assert list(peaks.panel) == [1, 0]
    assert list(peaks.intensity) == [100, 50]


def test_spots_may_be_a_typed_array():
    numbers = np.array(SPOTS, "<f4")
    content = {"type": "image", "magic_number": 1, "spots": cbor2.CBORTag(85, numbers.tobytes())}
    decoder = making(JungfraujochDecoder, peaks="msgpack", image_data=False, revalidate=False)
    assert len(decoded(decoder, [cbor2.dumps(content)]).peaks or ()) == 2


@pytest.mark.parametrize("spots", [5, [1.0, 2.0], ["a", "b", "c"], [{"x": 1.0}], [None] * 3, {"a": 1}])
def test_spots_that_are_none(spots):
    content = {"type": "image", "magic_number": 1, "spots": spots}
    decoder = making(JungfraujochDecoder, peaks="msgpack", image_data=False, revalidate=False)
    assert why(decoder, [cbor2.dumps(content)])[0] == "bad peak list"


def test_an_early_image_of_another_size_is_told():
    reason, detail = why(making(JungfraujochDecoder), early_image(IMAGE[:60].astype("<i2")))
    assert reason == "wrong shape"
    assert "its head says 7680" in detail


def test_a_chunk_of_a_few_bytes_is_told():
    parts = [cbor2.dumps({"type": "image", "data": b"\0\0"})]
    assert why(making(JungfraujochDecoder), parts)[0] == "wrong shape"


def test_it_begins_with_keys_of_its_own():
    for parts in (image(PHOTONS), start(VALUES), end(), early_image(PHOTONS)):
        assert begins([memoryview(parts[0])])
    for parts in (early_start(), early_end(), v2_image({"a": PHOTONS}), v2_start({})):
        assert not begins([memoryview(parts[0])])
        assert dectris_v2.begins([memoryview(parts[0])])


def test_a_frame_after_an_early_start_is_decoded():
    assert_array_equal(pixels(making(JungfraujochDecoder, FIXED), early_image(PHOTONS), early_start()), IMAGE)
