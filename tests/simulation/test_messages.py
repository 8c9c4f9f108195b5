# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as MsgPack."""

import msgpack
import numpy as np
import pytest

from gpuidx.errors import GeometryError
from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import default_geometry
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.messages import encode
from gpuidx.simulation.settings import FrameSettings


@pytest.fixture
def frame(four, cell):
    return Simulator(four, cell, FrameSettings(photons=3000.0)).numbered(4)


def pixels(value):
    return np.frombuffer(value["data"], value["type"]).reshape(value["shape"])


def test_message_has_what_the_geometry_looks_up(four, frame):
    message = msgpack.unpackb(encode(frame, four).data)
    assert set(message) == {
        "frame_number", "truth_id", "event_id", "beam_energy", "detector_distance", "detector_data",
        "peak_list",
    }  # fmt: skip
    assert message["beam_energy"] == 9500.0
    assert message["truth_id"] == message["frame_number"] == 4
    np.testing.assert_array_equal(pixels(message["detector_data"]), frame.image)


def test_number_can_be_changed_in_place(four, frame):
    message = encode(frame, four)
    for number in (0, 127, 70_000, 2**64 - 1):
        decoded = msgpack.unpackb(message.numbered(number))
        assert decoded["frame_number"] == number
        assert decoded["truth_id"] == 4


def test_peak_list_is_that_of_bright_spots_half_a_pixel_less(four, frame):
    peaks = msgpack.unpackb(encode(frame, four, least_photons=100).data)["peak_list"]
    (crystal,) = frame.truth.crystals
    bright = crystal.spots.counts >= 100
    origin = frame.detector.origin[crystal.spots.panel]
    expected = {
        (round(fs + x - 0.5, 6), round(ss + y - 0.5, 6), float(counts))
        for fs, ss, (x, y), counts, is_bright in zip(
            crystal.spots.fs, crystal.spots.ss, origin, crystal.spots.counts, bright, strict=True
        )
        if is_bright
    }
    found = {
        (round(fs, 6), round(ss, 6), intensity)
        for fs, ss, intensity in zip(peaks["fs"], peaks["ss"], peaks["intensity"], strict=True)
    }
    assert found == expected
    assert peaks["num_peaks"] == len(expected) > 5
    assert all(isinstance(x, float) for x in (*peaks["fs"], *peaks["ss"], *peaks["intensity"]))


def test_image_can_be_left_out_and_keys_be_bytes(four, frame):
    assert "detector_data" not in msgpack.unpackb(encode(frame, four, with_image=False).data)
    message = msgpack.unpackb(encode(frame, four, bin_keys=True).data)
    assert set(message["detector_data"]) == {b"nd", b"type", b"kind", b"shape", b"data"}


def test_panels_of_several_arrays_go_to_several_keys(cell):
    text = default_geometry(128).replace("p2/min_fs", "data = lower\np2/min_fs")
    lines = text.split("\n")
    text = "\n".join(
        line.replace("= 64", "= 0").replace("= 127", "= 63") if "_ss" in line else line for line in lines
    )
    geometry = parse_geometry(text, "two.geom")
    frame = Simulator(geometry, cell, FrameSettings()).numbered(0)
    message = msgpack.unpackb(encode(frame, geometry).data)
    assert message["detector_data"]["shape"] == message["lower"]["shape"] == [64, 128]
    for array in geometry.arrays:
        rows = frame.image[array.row : array.row + 64]
        np.testing.assert_array_equal(pixels(message[array.data]), rows)


def test_layouts_that_messages_cannot_have_are_refused(cell):
    geometry = parse_geometry(default_geometry(128, "hdf5"), "h5.geom")
    frame = Simulator(geometry, cell, FrameSettings()).numbered(0)
    with pytest.raises(GeometryError, match=r"h5\.geom: /entry/data has dimensions"):
        encode(frame, geometry)
