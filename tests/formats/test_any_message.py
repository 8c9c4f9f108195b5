# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of the decoder: what is sent is what is decoded, and damage is never worse than a rejection."""

from typing import Any

import numpy as np
from formats.making import IMAGE, PEAKS, Slot, array_map, decoder, fields, image_of, pack, reason
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.frame import DTYPE_OF, PIXEL_OF
from gpuidx.model import PIXEL_TYPES, Frame

USING = decoder(peaks="msgpack", copy_header=("run",))
WHOLE = pack(fields(peaks=PEAKS, run=5))


def with_keys(thing: dict[str, Any], binary: bool) -> dict[Any, Any]:
    """The same map with binary instead of text keys, if so wanted."""
    return {(key.encode() if binary else key): value for key, value in thing.items()}


@given(
    letters=st.sampled_from(sorted(DTYPE_OF)),
    seed=st.integers(0, 2**32 - 1),
    more=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    binary=st.tuples(st.booleans(), st.booleans()),
    order=st.permutations(range(5)),
    in_array=st.booleans(),
    start=st.integers(0, 15),
)
@settings(deadline=None)
def test_what_is_sent_is_decoded(letters, seed, more, binary, order, in_array, start):
    """Any pixel type, size, kind of keys, order of entries, and place in memory."""
    raw = np.random.default_rng(seed).bytes((64 + more[0]) * (64 + more[1]) * DTYPE_OF[letters].itemsize)
    sent = np.frombuffer(raw, DTYPE_OF[letters]).reshape(64 + more[0], 64 + more[1])
    entries = list(fields(with_keys(array_map(sent, letters), binary[0]), peaks=PEAKS, run="a").items())
    whole = with_keys(dict(entries[i] for i in order), binary[1])
    frame = USING.decode(Slot(pack([whole, 1] if in_array else whole), start).message)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = sent[:64, :64].astype(PIXEL_OF[letters[1:]])
    assert_array_equal(image_of(frame), expected)
    assert frame.headers == {"photon_energy": 9500.0, "clen_mm": 50.0, "run": "a"}
    assert frame.peaks is not None
    assert list(frame.peaks.fs) == [40.5, 21.0]


def attempt(slot: Slot) -> Frame | Rejected:
    """The frame, or why there is none; anything else fails the test."""
    try:
        return USING.decode(slot.message)
    except Rejected as rejected:
        return rejected


def check_any(data: bytes) -> None:
    """Decode, or reject; a frame's pixels are in order and come from the message alone."""
    slot = Slot(data)
    frame = attempt(slot)
    if isinstance(frame, Rejected):
        assert frame.reason
        assert "\n" not in frame.detail
        return
    image = image_of(frame)
    assert image.shape == (64, 64)
    assert image.dtype.str[1:] in PIXEL_TYPES
    assert image.flags.c_contiguous
    assert image.flags.aligned
    assert image.flags.writeable
    low, high = np.lib.array_utils.byte_bounds(image)
    memory, _ = np.lib.array_utils.byte_bounds(slot.memory)
    if np.shares_memory(image, slot.memory):
        assert memory + slot.begin <= low <= high <= memory + slot.end
    assert np.isfinite(frame.wavelength)
    assert frame.wavelength > 0
    assert frame.peaks is not None
    assert np.all(np.isfinite(frame.peaks.fs))


HEAD = WHOLE.index(IMAGE.tobytes())
"""Bytes before the pixels: most of what can go wrong is there, the rest is behind them."""

PLACES = st.one_of(st.integers(0, HEAD), st.integers(HEAD + IMAGE.nbytes, len(WHOLE) - 1))


@given(st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=600, deadline=None)
def test_changed_bytes_are_decoded_or_rejected(changes):
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    check_any(bytes(data))


@given(PLACES, PLACES, st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_inserted_and_deleted_bytes_are_decoded_or_rejected(begin, end, insertion):
    check_any(WHOLE[:begin] + insertion + WHOLE[end:])


@given(st.binary(max_size=300))
@example(b"\x81\xa5image")
@example(b"\xc4")
@example(b"\x81")
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_rejected(data):
    assume(data)
    check_any(data)
    check_any(b"\x85" + data)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=5),
        st.binary(max_size=9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "shape", "data", "nd", "fs", "ss"]), inner),
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(
        [
            *[(key,) for key in ("image", "photon_energy", "clen_mm", "run", "peaks")],
            *[("image", key) for key in ("shape", "type", "data")],
            *[("peaks", key) for key in ("fs", "ss", "intensity", "panel")],
        ]
    ),
    VALUES,
)
@settings(max_examples=600, deadline=None)
def test_any_value_in_place_of_another_is_decoded_or_rejected(path, value):
    whole: dict[str, Any] = fields(peaks=dict(PEAKS), run=5)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    check_any(pack(whole))


def test_every_truncation_is_rejected():
    """At each length up to the pixels, and at some within them and behind."""
    for length in [*range(1, HEAD + 3), HEAD + 5000, *range(HEAD + IMAGE.nbytes - 1, len(WHOLE))]:
        assert reason(WHOLE[:length], USING)[0] == "truncated message"
