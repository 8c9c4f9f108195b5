# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels in a slot: the message, the image, what was found; none overwrites another."""

import numpy as np
import pytest
from formats.making import GEOMETRY, IMAGE, decoder, fields, pack
from formats.making_files import files_decoder, write

from gpuidx import handover
from gpuidx.backends.unknown_cell_constants import MOST_VECTORS
from gpuidx.geometry import parse_geometry
from gpuidx.model import BYTE_TYPES, PIXEL_TYPES, Candidate, Found, Message, PeakList

PLAIN = parse_geometry(GEOMETRY.replace("{extra}", ""), "test.geom")
RNG = np.random.default_rng(3)


def peaks(n):
    return PeakList(
        fs=RNG.random(n),
        ss=RNG.random(n),
        panel=RNG.integers(0, 9, n).astype(np.int32),
        intensity=RNG.random(n),
    )


def candidate():
    return Candidate(axes=RNG.random((3, 3)), shift=RNG.random(2), score=RNG.random())


def slot_with(data, room=None):
    """A slot with a message at its beginning."""
    size = len(data) + (handover.extra_bytes(PLAIN) if room is None else room)
    place = memoryview(bytearray(size))
    place[: len(data)] = data
    return place


def message_in(place, size):
    return Message(serial=5, filename="f", event="//5", data=place[:size])


@pytest.mark.parametrize("n_peak", [0, 1, 50, handover.MAX_PEAKS])
@pytest.mark.parametrize("n_candidate", [None, 0, 1, handover.MOST_LATTICES])
def test_what_was_found_is_read_as_it_was_written(n_peak, n_candidate):
    candidates = None if n_candidate is None else tuple(candidate() for _ in range(n_candidate))
    axes = None if candidates is not None else RNG.random((1 + n_peak % 2, 2, MOST_VECTORS, 4), np.float32)
    found = Found(peaks=peaks(n_peak), candidates=candidates, n_tries=4, axes=axes)
    place = memoryview(bytearray(b"x" * (handover.FOUND_BYTES + 100)))
    assert handover.write_found(place, found)
    read = handover.read_found(place)
    place[:] = bytes(len(place))  # what was read is a copy
    assert read.peaks.panel.dtype == np.int32
    for name in ("fs", "ss", "intensity", "panel"):
        np.testing.assert_array_equal(getattr(read.peaks, name), getattr(found.peaks, name))
    assert read.n_tries == 4
    assert (read.axes is None) == (axes is None)
    if axes is not None:
        np.testing.assert_array_equal(read.axes, axes)
    assert (read.candidates is None) == (candidates is None)
    assert len(read.candidates or ()) == len(candidates or ())
    for ours, theirs in zip(read.candidates or (), candidates or (), strict=True):
        np.testing.assert_array_equal(ours.axes, theirs.axes)
        np.testing.assert_array_equal(ours.shift, theirs.shift)
        assert ours.score == theirs.score


def test_what_was_found_touches_nothing_but_the_end_of_the_slot():
    place = memoryview(bytearray(b"x" * (handover.FOUND_BYTES + 300)))
    many = tuple(candidate() for _ in range(handover.MOST_LATTICES))
    handover.write_found(place, Found(peaks=peaks(handover.MAX_PEAKS), candidates=many, n_tries=1))
    assert bytes(place[:300]) == b"x" * 300


@pytest.mark.parametrize(
    ("n_peak", "n_candidate"), [(handover.MAX_PEAKS + 1, 0), (3, handover.MOST_LATTICES + 1)]
)
def test_more_than_there_is_room_for_is_not_written(n_peak, n_candidate):
    place = memoryview(bytearray(b"x" * handover.FOUND_BYTES))
    found = Found(peaks=peaks(n_peak), candidates=tuple(candidate() for _ in range(n_candidate)), n_tries=1)
    assert not handover.write_found(place, found)
    assert bytes(place) == b"x" * len(place)


@pytest.mark.parametrize("kind", [*PIXEL_TYPES, *BYTE_TYPES])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", ["fitting", "wider"])
def test_every_image_reaches_the_device_bit_for_bit(kind, order, size):
    image = IMAGE.astype(order + kind)
    sent = image if size == "fitting" else np.pad(image, ((0, 0), (0, 3)), constant_values=9)
    data = pack(fields(sent))
    place = slot_with(data)
    using = decoder()
    frame = using.decode(message_in(place, len(data)), handover.room_behind(place, len(data)))
    frame, descriptor = handover.laid_down(frame, place, len(data))
    assert bytes(place[: len(data)]) == data
    seen = handover.frame_in(place, 5, descriptor, PLAIN)
    np.testing.assert_array_equal(seen.image, image)
    assert seen.image.dtype == np.dtype(kind)
    assert np.shares_memory(seen.image, np.frombuffer(place, np.uint8))
    assert (seen.serial, seen.wavelength) == (5, frame.wavelength)
    assert seen.photon_energy == pytest.approx(frame.photon_energy, rel=1e-14)
    assert seen.detector.given == frame.detector.given
    np.testing.assert_array_equal(seen.detector.corner, frame.detector.corner)
    handover.write_found(place, Found(peaks=peaks(handover.MAX_PEAKS), candidates=None, n_tries=0))
    np.testing.assert_array_equal(seen.image, image)


def test_a_copied_image_lies_behind_the_message_at_once():
    data = pack(fields(IMAGE.astype(">i4")))
    place = slot_with(data)
    frame = decoder().decode(message_in(place, len(data)), handover.room_behind(place, len(data)))
    offset = frame.image.__array_interface__["data"][0]
    offset -= np.frombuffer(place, np.uint8).__array_interface__["data"][0]
    assert offset == -(-len(data) // handover.ALIGNMENT) * handover.ALIGNMENT
    laid, descriptor = handover.laid_down(frame, place, len(data))
    assert laid is frame
    assert descriptor.offset == offset


def test_an_image_of_a_file_lies_in_the_slot(tmp_path):
    place = memoryview(bytearray(handover.extra_bytes(PLAIN)))
    using = files_decoder()
    message = Message(serial=1, filename=write(tmp_path / "a.h5"), event="//", data=place[:0])
    frame = using.decode(message, handover.room_behind(place, 0))
    using.close()
    _, descriptor = handover.laid_down(frame, place, 0)
    assert descriptor.offset == 0
    np.testing.assert_array_equal(handover.frame_in(place, 1, descriptor, PLAIN).image, IMAGE)


def test_an_image_elsewhere_is_moved_into_the_slot():
    data = pack(fields(IMAGE.astype(">i4")))
    place = slot_with(data)
    frame = decoder().decode(message_in(place, len(data)))
    laid, descriptor = handover.laid_down(frame, place, len(data))
    assert laid.image is not frame.image
    np.testing.assert_array_equal(handover.frame_in(place, 5, descriptor, PLAIN).image, IMAGE)


def test_a_slot_without_room_gives_no_descriptor_and_keeps_the_message():
    data = pack(fields(IMAGE.astype(">i4")))
    place = slot_with(data, room=handover.FOUND_BYTES + IMAGE.nbytes // 2)
    frame = decoder().decode(message_in(place, len(data)), handover.room_behind(place, len(data)))
    laid, descriptor = handover.laid_down(frame, place, len(data))
    assert laid is frame
    assert descriptor is None
    assert bytes(place[: len(data)]) == data


def test_pixels_that_no_array_fills_are_zero_in_a_slot_too():
    text = GEOMETRY.replace("{extra}", "").replace("p1/min_ss = 32", "p1/data = other\np1/min_ss = 0")
    text = text.replace("p1/max_ss = 63", "p1/max_ss = 31").replace("p1/max_fs = 63", "p1/max_fs = 31")
    geometry = parse_geometry(text, "test.geom")
    other = {"type": "<i4", "shape": [32, 32], "data": IMAGE[:32, :32].tobytes()}
    data = pack(fields(IMAGE[:32], other=other))
    place = slot_with(data)
    place[len(data) :] = b"\x7f" * (len(place) - len(data))
    frame = decoder(text).decode(message_in(place, len(data)), handover.room_behind(place, len(data)))
    assert frame.image.shape == geometry.slab_shape == (64, 64)
    assert np.shares_memory(frame.image, np.frombuffer(place, np.uint8))
    np.testing.assert_array_equal(frame.image[32:, 32:], 0)
    np.testing.assert_array_equal(frame.image[32:, :32], IMAGE[:32, :32])
