# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames as messages of ASAP::O."""

import json

import msgpack
import numpy as np
import pytest
from formats.making_decoders import made, message

from gpuidx.formats.seedee import SeedeeDecoder
from gpuidx.simulation.asapo.frames import AsapoFrame
from gpuidx.simulation.encoder import Encoder
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.messages import encode
from gpuidx.simulation.settings import FrameSettings


@pytest.fixture
def frame(four, cell):
    return Simulator(four, cell, FrameSettings()).numbered(4)


def test_seedee_is_decoded_to_the_pixels_and_header_values_of_the_frame(four, cell, frame):
    encoder = Encoder(Simulator(four, cell, FrameSettings()), EncodeSettings(format="seedee"))
    sent = AsapoFrame.of(encoder.message(frame))
    assert isinstance(sent.meta["_data_format"], str)
    meta = sent.numbered_meta(9)
    assert (meta["frame_number"], meta["truth_id"]) == (9, 4)
    decoder = made(SeedeeDecoder, four.text, copy_header=("beam_energy",))
    decoded = decoder.decode(message([json.dumps(meta).encode(), bytes(sent.payload(9))]))
    np.testing.assert_array_equal(decoded.image, frame.image)
    assert decoded.headers["beam_energy"] == frame.headers["beam_energy"]


def test_msgpack_with_another_number_leaves_the_first_as_it_is(four, frame):
    first = encode(frame, four)
    sent = AsapoFrame.of(first)
    assert msgpack.unpackb(sent.payload(9))["frame_number"] == 9
    assert msgpack.unpackb(first.data)["frame_number"] == 4
    assert sent.payload(4) == first.data
