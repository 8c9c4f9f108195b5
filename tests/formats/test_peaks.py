# SPDX-License-Identifier: GPL-3.0-or-later
import msgpack
import numpy as np
import pytest
from formats.making import GEOMETRY, IMAGE, PEAKS, array_map, decode, decoder, fields, pack, reason
from numpy.testing import assert_allclose, assert_array_equal

SHARED = GEOMETRY.replace("p1/min_ss = 32", "p1/data = low\np1/min_ss = 0").replace(
    "p1/max_ss = 63", "p1/max_ss = 31"
)
"""Two panels of different data arrays with the same pixel range."""


def message(peaks: object, **more: object) -> bytes:
    return pack(fields(peaks=peaks, **more))


def peaks_of(data: bytes, text: str = GEOMETRY, **options: object):
    using = decoder(text, peaks="msgpack", **options)
    found = decode(data, using).peaks
    assert found is not None
    return found, using.notes


def test_positions_are_those_within_the_panel_with_half_a_pixel():
    found, notes = peaks_of(message(PEAKS))
    assert_array_equal(found.panel, [1, 0])
    assert_allclose(found.fs, [40.5, 21.0])
    assert_allclose(found.ss, [8.5, 10.75])
    assert_allclose(found.intensity, [100, 50])
    assert found.panel.dtype == np.int32
    assert not notes


def test_no_half_pixel_is_added_if_so_told():
    found, _ = peaks_of(message(PEAKS), half_pixel_shift=False)
    assert_allclose(found.fs, [40.0, 20.5])


@pytest.mark.parametrize(
    "sent",
    [
        {"fs": [40, 20.5], "ss": [40, 10.25], "intensity": [100, 50]},
        {key.encode(): value for key, value in PEAKS.items()},
        PEAKS | {"num_peaks": 2, "snr": [1.0, 2.0], "num_pixels": [3, 4]},
        {key: array_map(np.array(value, ">f8")) for key, value in PEAKS.items()},
        {key: array_map(np.array(value, "<f4")) for key, value in PEAKS.items()},
    ],
    ids=["integers", "binary keys", "further keys", "arrays", "single precision arrays"],
)
def test_numbers_are_numbers_however_they_are_sent(sent):
    found, _ = peaks_of(message(sent))
    assert_allclose(found.fs, [40.5, 21.0])
    assert_allclose(found.ss, [8.5, 10.75])
    assert_allclose(found.intensity, [100, 50])


def test_single_precision_lists_are_numbers():
    found, _ = peaks_of(msgpack.packb(fields(peaks=PEAKS), use_single_float=True))
    assert_allclose(found.fs, [40.5, 21.0])


def test_an_empty_list_has_no_peaks():
    found, _ = peaks_of(message({"fs": [], "ss": [], "intensity": []}))
    assert len(found) == 0
    assert found.panel.dtype == np.int32


@pytest.mark.parametrize(
    ("sent", "why", "text"),
    [
        (None, "missing key", "'peaks' is not in the message"),
        (5, "not a map", "'peaks' is an integer"),
        ([1.0], "not a map", "'peaks' is an array"),
        (PEAKS | {"ss": [1.0]}, "bad peak list", "2 fs, 1 ss and 2 intensity"),
        ({"fs": [1.0], "ss": [1.0]}, "missing key", "'intensity' is not in 'peaks'"),
        (PEAKS | {"fs": [None, None]}, "bad peak list", "'peaks/fs' holds something else than numbers"),
        (PEAKS | {"fs": ["40", "20"]}, "bad peak list", "'peaks/fs'"),
        (PEAKS | {"intensity": [True, False]}, "bad peak list", "'peaks/intensity'"),
        (PEAKS | {"fs": np.array([40.0, 20.0]).tobytes()}, "bad peak list", "'peaks/fs' is binary"),
        (PEAKS | {"fs": 40.0}, "bad peak list", "'peaks/fs' is a float"),
        (PEAKS | {"fs": array_map(np.ones((2, 1)))}, "bad peak list", "one dimension"),
        (PEAKS | {"panel": ["p0"]}, "bad peak list", "expected an array of 2 panels"),
        (PEAKS | {"panel": ["p0", "p7"]}, "bad peak list", "'p7', which is no panel"),
        (PEAKS | {"panel": [0, 2]}, "bad peak list", "2, which is no panel"),
        (PEAKS | {"panel": [0, -1]}, "bad peak list", "-1, which is no panel"),
        (PEAKS | {"panel": [0.0, 1.0]}, "bad peak list", "'peaks/panel'"),
        (PEAKS | {"panel": array_map(np.array([1, 0, 1], "<u2"))}, "bad peak list", "3 entries for 2 peaks"),
        ({key: [1] * 100_001 for key in PEAKS}, "bad peak list", "at most 100000 numbers"),
        ({key: array_map(np.ones(100_001, "<f4")) for key in PEAKS}, "bad peak list", "has 100001 peaks"),
        (PEAKS | {"panel": 3}, "bad peak list", "'peaks/panel'"),
    ],
)
def test_a_list_that_is_no_list_of_peaks_is_rejected(sent, why, text):
    found, detail = reason(message(sent), decoder(peaks="msgpack"))
    assert found == why
    assert text in detail


def test_a_geometry_without_peak_list_is_named():
    using = decoder(GEOMETRY.replace("peak_list = peaks\n", ""), peaks="msgpack")
    assert reason(message(PEAKS), using) == ("bad peak list", "the geometry has no peak_list")


def test_peaks_outside_all_panels_are_dropped_and_counted():
    sent = {
        "fs": [400.0, -5.0, 63.6, 63.4, -0.5],
        "ss": [40.0, 10.0, 31.7, 31.4, 63.4],
        "intensity": [1.0] * 5,
    }
    found, notes = peaks_of(message(sent))
    assert_allclose(found.fs, [63.9, 0.0])
    assert_allclose(found.ss, [31.9, 31.9])
    assert notes == {"peaks outside all panels, dropped": 3}


@pytest.mark.parametrize("key", ["fs", "ss", "intensity"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_peaks_that_are_not_finite_are_dropped_and_counted(key, value):
    found, notes = peaks_of(message(PEAKS | {key: [value, PEAKS[key][1]]}))
    assert_array_equal(found.panel, [0])
    assert_allclose(found.intensity, [50])
    assert notes == {"peaks that are not finite, dropped": 1}


def test_peaks_in_several_panels_are_dropped_and_counted():
    found, notes = peaks_of(message(PEAKS, low=array_map(IMAGE[:32])), SHARED)
    assert len(found) == 0
    assert notes == {"peaks in several panels, dropped": 1, "peaks outside all panels, dropped": 1}


@pytest.mark.parametrize("panel", [["p1", "p0"], [1, 0], array_map(np.array([1, 0], "<u2")), ["p1", 0]])
def test_a_message_can_say_which_panel_a_peak_is_on(panel):
    sent = PEAKS | {"ss": [20.0, 10.0], "panel": panel}
    found, notes = peaks_of(message(sent, low=array_map(IMAGE[:32])), SHARED)
    assert_array_equal(found.panel, [1, 0])
    assert_allclose(found.ss, [20.5, 10.5])
    assert not notes


def test_a_peak_that_is_not_on_the_panel_it_names_is_dropped():
    found, notes = peaks_of(message(PEAKS | {"panel": ["p0", "p0"]}))
    assert_array_equal(found.panel, [0])
    assert_allclose(found.fs, [21.0])
    assert notes == {"peaks outside all panels, dropped": 1}


def test_peaks_come_without_an_image():
    found, _ = peaks_of(pack(fields(None, peaks=PEAKS)), image_data=False, revalidate=False)
    assert len(found) == 2


def test_peaks_are_not_read_for_another_peak_search():
    assert decode(message(5)).peaks is None


def test_many_peaks_are_placed_block_by_block():
    rng = np.random.default_rng(1)
    n = 10000
    sent = {
        "fs": rng.uniform(-0.5, 63.4, n),
        "ss": rng.uniform(-0.5, 63.4, n),
        "intensity": np.arange(n, dtype=float),
    }
    found, _ = peaks_of(message({key: array_map(value) for key, value in sent.items()}))
    assert len(found) == n
    assert_array_equal(found.panel, sent["ss"] + 0.5 >= 32)
    assert_allclose(found.ss + 32 * found.panel, sent["ss"] + 0.5)
