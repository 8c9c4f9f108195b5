# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels of MsgPack messages: their types, where they lie in memory, and those that are flagged."""

import numpy as np
import pytest
import zmq
from formats.making import (
    GEOMETRY,
    IMAGE,
    WIDE,
    Slot,
    array_map,
    decode,
    decoder,
    fields,
    image_of,
    image_with,
    pack,
    reason,
)
from numpy.testing import assert_array_equal

from gpuidx.formats.frame import PIXEL_OF, widened
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import BYTE_TYPES, PADDING, Message
from gpuidx.sources.parts import put

GOOD = pack(fields())


UNKNOWN = [
    "i4",
    "int32",
    "",
    "<i3",
    "=i4",
    "<c8",
    "|b1",
    "|O",
    "|S4",
    "<M8[ns]",
    "|i4",
    "<f16",
    "O",
    "<i4 ",
]


@pytest.mark.parametrize("letters", UNKNOWN)
def test_rejects_types_that_are_not_in_the_table(letters):
    found, detail = reason(image_with(type=letters))
    assert found == "unknown pixel type"
    assert f"'image/type' is {letters!r}" in detail


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", PIXEL_OF)
def test_decodes_every_type(kind, order):
    sent = IMAGE.astype(order + kind)
    frame = decode(pack(fields(array_map(sent))))
    assert image_of(frame).dtype.str[1:] == PIXEL_OF[kind]
    assert image_of(frame).dtype.isnative
    assert_array_equal(image_of(frame), IMAGE)


def test_keeps_nan_and_infinite_pixels():
    sent = IMAGE.astype("<f4")
    sent[40, 40], sent[5, 5] = np.nan, np.inf
    assert_array_equal(image_of(decode(pack(fields(sent)))), sent)


def test_pixels_too_large_for_single_precision_become_infinite():
    sent = IMAGE.astype("<f8")
    sent[3, 4] = 1e300
    assert image_of(decode(pack(fields(sent))))[3, 4] == np.inf


def test_pixels_stay_where_they_are_if_they_fit():
    data = image_with()
    at = data.index(IMAGE.tobytes())
    aligned, skew = Slot(data, -at % 16), Slot(data, (-at + 1) % 16)
    image = image_of(decoder().decode(aligned.message))
    assert np.shares_memory(image, aligned.memory)
    assert image.flags.writeable
    assert image.flags.aligned
    other = image_of(decoder().decode(skew.message))
    assert not np.shares_memory(other, skew.memory)
    assert other.flags.aligned
    assert_array_equal(other, image)


@pytest.mark.parametrize("padding", range(16))
def test_padding_in_front_of_a_message_is_passed_over(padding):
    assert_array_equal(image_of(decode(PADDING * padding + GOOD)), IMAGE)


@pytest.mark.parametrize("before", range(0, 40, 7))
def test_a_message_from_a_source_is_decoded_without_a_copy(before):
    """The source places it by a guess where the pixels are; here is seen that the guess is right."""
    wide = WIDE.repeat(6, axis=0)[:, :64]
    data = pack({"x" * before: 1, **fields(wide.copy())})
    memory = np.zeros(len(data) + 32, np.uint8)
    slot = memory[-memory.ctypes.data % 16 :]
    taken = put([zmq.Frame(data)], memoryview(slot))
    message = Message(serial=1, filename="", event="", data=memoryview(slot)[: sum(taken.sizes)])
    image = image_of(decoder().decode(message))
    assert np.shares_memory(image, memory)
    assert_array_equal(image, wide[:64])


def test_more_padding_than_any_source_makes_is_rejected():
    assert reason(PADDING * 16 + GOOD)[0] == "not a map"


def test_a_message_that_cannot_be_written_to_is_copied():
    image = image_of(decoder().decode(Message(serial=1, filename="", event="", data=memoryview(GOOD))))
    assert image.flags.writeable
    assert_array_equal(image, IMAGE)


def test_frames_that_are_held_keep_their_pixels():
    """Copies go to slabs that are used again, but not while somebody has them."""
    using = decoder()
    frames = [decode(pack(fields((IMAGE + i).astype(">i4"))), using) for i in range(5)]
    part = image_of(frames[2])[3:5]
    for i, frame in enumerate(frames):
        assert_array_equal(image_of(frame), IMAGE + i)
    addresses = {image_of(frame).ctypes.data for frame in frames}
    assert len(addresses) == 5
    del frames, frame
    again = [decode(pack(fields((IMAGE - i).astype(">i4"))), using) for i in range(4)]
    assert {image_of(frame).ctypes.data for frame in again} <= addresses
    assert_array_equal(part, IMAGE[3:5] + 2)


FLAGGED = GEOMETRY.replace("{extra}", "") + "p0/flag_equal = 10\n"


def test_pixels_flagged_on_one_panel_become_nan_and_the_message_stays_as_it_was():
    """What one rule for all panels says is left to the kernels; what it cannot say is NaN."""
    slot = Slot(GOOD, -GOOD.index(IMAGE.tobytes()) % 16)
    using = decoder(FLAGGED, masks=Masks(parse_geometry(FLAGGED, "test.geom")))
    image = image_of(using.decode(slot.message))
    assert image.dtype == np.float32
    assert_array_equal(np.isnan(image[:32]), IMAGE[:32] == 10)
    assert_array_equal(image[32:], IMAGE[32:])
    assert bytes(slot.message.data) == GOOD


def test_without_such_flags_the_pixels_stay_as_they_are():
    masks = Masks(parse_geometry(GEOMETRY.replace("{extra}", "flag_equal = 10"), "test.geom"))
    assert image_of(decode(GOOD, decoder(masks=masks))).dtype == np.int32


@pytest.mark.parametrize("kind", BYTE_TYPES)
def test_single_bytes_stay_for_a_device_and_are_widened_for_the_cpu(kind):
    image = IMAGE.astype(kind)
    data = pack(fields(image))
    assert decode(data).image.dtype == np.dtype(kind[0] + "2")
    message = Message(serial=1, filename="a", event="//1", data=memoryview(bytearray(data)))
    kept = decoder().decode(message, memoryview(bytearray(4096)))
    assert kept.image.dtype == np.dtype(kind)
    wide = widened(kept)
    assert wide.image.dtype == np.dtype(kind[0] + "2")
    assert_array_equal(wide.image, image)
    assert widened(wide) is wide
