# SPDX-License-Identifier: GPL-3.0-or-later
import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.model import PADDING
from gpuidx.sources.parts import begins_message, length_of_tag, padding_for, put
from gpuidx.tasks import ALIGNMENT, parts_in

MAP = msgpack.packb({"photon_energy": 9500.0, "clen": 0.1})


def take(*parts: bytes, tags: tuple[bytes, ...] = (), slot_size: int = 1000):
    slot = memoryview(bytearray(slot_size))
    taken = put([zmq.Frame(part) for part in parts], slot, tags)
    return taken, bytes(slot[: sum(taken.sizes)]).lstrip(PADDING)


def test_one_part_is_the_payload():
    taken, data = take(MAP)
    assert (taken.filename, taken.event, taken.rejected) == ("ZMQdata", "", None)
    assert data == MAP


def test_of_two_parts_the_second_is_the_payload():
    assert take(b"ondaframedata", MAP)[1] == MAP


@pytest.mark.parametrize("parts", [(b"a", MAP, b"c"), (MAP, MAP, MAP, MAP), (bytes(300), MAP)])
def test_parts_that_are_not_tag_and_payload_are_rejected(parts):
    taken, _ = take(*parts)
    assert taken.rejected is not None
    assert taken.rejected[0] == "too many parts"
    assert f"{len(parts)} parts" in taken.rejected[1]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.booleans())
def test_parts_behind_json_all_lie_in_the_slot_aligned(rest, has_tag):
    parts = [b'{"htype": "dimage-1.0"}', *rest]
    slot = memoryview(bytearray(1000))
    taken = put([zmq.Frame(part) for part in ([b"tag"] if has_tag else []) + parts], slot)
    views = parts_in(slot, taken.sizes)
    assert [bytes(view) for view in views] == parts
    begins = [np.frombuffer(view, np.uint8).ctypes.data for view in views if len(view)]
    assert all((begin - begins[0]) % ALIGNMENT == 0 for begin in begins)


def test_parts_that_do_not_fit_together_are_rejected():
    taken, _ = take(b"{" + bytes(500), bytes(500), slot_size=1000)
    assert taken.rejected is not None
    assert taken.rejected[0] == "too large"


@pytest.mark.parametrize("tags", [(b"om",), (b"omdata", b"om"), (b"",), ()])
def test_a_glued_tag_is_cut_off_and_a_whole_message_is_not(tags):
    longest = tags[0] if tags else b""
    assert take(longest + MAP, tags=tags)[1] == MAP
    assert take(MAP, tags=tags)[1] == MAP


def test_the_tag_that_leaves_a_message_is_cut_off():
    assert take(b"om" + MAP, tags=(b"omdata", b"om"))[1] == MAP
    assert take(b"omdata" + MAP, tags=(b"omdata", b"om"))[1] == MAP


def test_a_message_that_begins_with_its_tag_by_chance_is_left_whole():
    tag = MAP[:3]
    assert take(MAP, tags=(tag,))[1] == MAP


def test_what_follows_the_tag_must_be_able_to_begin_a_message():
    data = b"omdata is all that this message says"
    assert take(data, tags=(b"omdata",))[1] == data


@pytest.mark.parametrize(
    "start", [MAP, b"\xde\x00\x01", b"\xdf", b"\x91", b"\xdc", b"\x89HDF\r\n\x1a\n", b"\x80\x04"]
)
def test_formats_can_begin_a_message(start):
    assert begins_message(start)
    assert length_of_tag(memoryview(b"tag" + start), [b"tag"]) == 3


@pytest.mark.parametrize("start", [b"", b"\x80", b"\xc0", b"text", b"\x05", b"\xff", b"\x90"])
def test_other_bytes_cannot_begin_a_message(start):
    assert not begins_message(start)


@pytest.mark.parametrize("size", range(16))
def test_short_messages_are_rejected_with_their_content(size):
    taken, _ = take(b"\x81" * size)
    assert taken.rejected is not None
    assert taken.rejected[0] == "short message"
    assert repr(b"\x81" * size) in taken.rejected[1]


def test_a_tag_without_payload_is_short():
    assert take(b"omdata", tags=(b"omdata",))[0].rejected[0] == "short message"


def test_a_message_longer_than_a_tag_and_shorter_than_a_frame_is_short():
    assert take(b"omdata", MAP[:15])[0].rejected[0] == "short message"


def test_oms_refusal_is_named():
    taken, _ = take(b"What?")
    assert taken.rejected == ("request refused", taken.rejected[1])
    assert "What?" in taken.rejected[1]
    assert "--zmq-request=next" in taken.rejected[1]


def test_a_message_too_large_for_the_slot_is_rejected_and_the_slot_left_alone():
    slot = memoryview(bytearray(b"x" * 100))
    taken = put([zmq.Frame(bytes(101))], slot)
    assert taken.rejected is not None
    assert taken.rejected[0] == "too large"
    assert "101 bytes, a slot holds 100" in taken.rejected[1]
    assert bytes(slot) == b"x" * 100


def test_a_message_as_large_as_the_slot_fits():
    data = msgpack.packb({"image": bytes(50000)})
    taken, copied = take(data, slot_size=len(data))
    assert taken.rejected is None
    assert copied == data


@given(
    before=st.dictionaries(st.text(max_size=8), st.lists(st.floats(), max_size=30), max_size=4),
    after=st.dictionaries(st.text("abc", min_size=9, max_size=12), st.integers(0, 9), max_size=3),
    n_pixel=st.integers(20000, 90000),
)
def test_pixels_are_aligned_wherever_they_lie_in_the_message(before, after, n_pixel):
    pixels = b"\x01" * n_pixel
    data = msgpack.packb({**before, "\0image": {"type": "<i4", "data": pixels}, **after})
    start = padding_for(memoryview(data))
    assert 0 <= start < ALIGNMENT
    at = data.index(b"\xc6" + n_pixel.to_bytes(4, "big") if n_pixel >= 1 << 16 else pixels)
    if n_pixel >= 1 << 16:
        assert (start + at + 5) % ALIGNMENT == 0


@pytest.mark.parametrize("begin", [b"\x89HDF\r\n\x1a\n", b"###CBF: "])
def test_nothing_is_looked_for_in_a_file(begin):
    claim = b"\xc6" + (90_000).to_bytes(4, "big")
    other = bytes(len(begin))
    assert padding_for(memoryview(other + claim + bytes(90_000))) > 0
    assert padding_for(memoryview(begin + claim + bytes(90_000))) == 0


@given(st.binary(max_size=100), st.integers(0, 1 << 20))
def test_any_bytes_have_a_padding(head, size):
    data = memoryview(head + bytes(size))
    assert 0 <= padding_for(data) < ALIGNMENT


@pytest.mark.parametrize("room", [0, 5, 15, 16])
def test_a_message_is_padded_if_there_is_room(room):
    data = msgpack.packb({"abcdefg": 1, "image": np.arange(30000, dtype="<i4").tobytes()})
    slot = np.full(len(data) + room, 0x7F, np.uint8)
    taken = put([zmq.Frame(data)], memoryview(slot))
    padding = padding_for(memoryview(data))
    assert padding > 5
    (size,) = taken.sizes
    assert size == len(data) + (padding if room >= padding else 0)
    assert slot[:size].tobytes() == PADDING * (size - len(data)) + data
    assert np.all(slot[size:] == 0x7F)
