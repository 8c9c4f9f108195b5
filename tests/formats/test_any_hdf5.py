# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of HDF5 messages: what is sent is decoded, and damage is never worse than a rejection."""

import numpy as np
from formats.making import image_of
from formats.making_files import FILE
from formats.making_hdf5 import HEADERS, decode, message, messages, sent
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.frame import PIXEL_OF
from gpuidx.formats.hdf5_known import SIGNATURE
from gpuidx.model import PIXEL_TYPES
from gpuidx.simulation.encode_hdf5 import COMPRESSIONS

TEXT = FILE.replace("= peaks", "= /peaks").replace("{extra}", "mask0_data = /mask\nmask0_badbits = 1")
USING = messages(TEXT, peaks="cxi", with_masks=True, copy_header=("/run/name",))
MASK = np.zeros((64, 64), np.uint8)
PEAKS = [([40.0, 20.5], [40.0, 10.25], [100.0, 50.0])] * 2
SMALL = np.random.default_rng(3).poisson(2, (2, 64, 64)).astype("<i4")

WHOLE = [
    sent(
        SMALL,
        compression,
        chunks=chunks,
        headers=HEADERS | {"/run/name": [b"a", b"b"]},
        masks={"/mask": MASK},
        cxi=("/peaks", PEAKS),
    )
    for compression in COMPRESSIONS
    for chunks in ((1, 64, 64), (2, 40, 64))
]


@given(
    compression=st.sampled_from(sorted(COMPRESSIONS)),
    letters=st.sampled_from(sorted(PIXEL_OF)),
    order=st.sampled_from("<>"),
    seed=st.integers(0, 2**32 - 1),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    n_frame=st.integers(1, 3),
    split=st.tuples(st.integers(1, 3), st.integers(5, 80), st.integers(5, 80)),
)
@settings(deadline=None, max_examples=100)
def test_what_is_sent_is_decoded(compression, letters, order, seed, more, n_frame, split):
    """Any pixel type, size, compression and shape of chunks."""
    dtype = np.dtype(order + letters)
    shape = (n_frame, 64 + more[0], 64 + more[1])
    raw = np.random.default_rng(seed).bytes(np.prod(shape) * dtype.itemsize)
    images = np.frombuffer(raw, dtype).reshape(shape)
    chunks = tuple(min(pair) for pair in zip(split, shape, strict=True))
    data, using = sent(images, compression, chunks=chunks), messages()
    assert using.frame_count(message(data)) == n_frame
    frame = decode(data, using, n_frame - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = images[-1, :64, :64].astype(PIXEL_OF[letters])
    assert_array_equal(image_of(frame), expected)


def outcome(data: bytes) -> str:
    """Decode, or reject, saying why; a frame is as the rest of the program wants it."""
    whole = message(data)
    try:
        count = USING.frame_count(whole)
        assert 1 <= count <= 4096
        frame = decode(data, USING, count - 1)
    except Rejected as rejected:
        return f"{rejected.reason}: {rejected.detail}"
    image = image_of(frame)
    assert image.shape == (64, 64)
    assert image.dtype.str[1:] in PIXEL_TYPES
    assert image.flags.c_contiguous
    assert image.flags.aligned
    assert image.flags.writeable
    assert frame.peaks is not None
    assert np.all(np.isfinite(frame.peaks.fs))
    return ""


STRUCTURE = st.one_of(st.integers(0, 4000), st.integers(-3000, -1))
"""Places in a file where most of its structure is: at the ends."""


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(STRUCTURE, st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=250, deadline=None)
def test_changed_bytes_are_decoded_or_rejected(whole, changes):
    data = bytearray(whole)
    for place, value in changes:
        data[place] = value
    assert (outcome(bytes(data)) or "decoded").isprintable()


@given(
    st.sampled_from(WHOLE), st.integers(0, 4000), st.integers(0, 400), st.binary(max_size=40), st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_inserted_and_deleted_bytes_are_decoded_or_rejected(whole, begin, length, insertion, to_end):
    assert (
        outcome(whole[:begin] + insertion + (b"" if to_end else whole[begin + length :])) or "decoded"
    ).isprintable()


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_rejected(data):
    assume(not data.startswith(SIGNATURE))
    assert outcome(data).startswith("not an HDF5 file")
    assert outcome(SIGNATURE + data).startswith("damaged HDF5 file")
