# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages with the structure of earlier ones: HDF5 does not open them, and all is as if it had."""

import io

import h5py
import numpy as np
import pytest
from formats.making import IMAGE, image_of
from formats.making_files import FILE
from formats.making_hdf5 import DATA, HEADERS, decode, made, message, messages, sent
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected

RNG = np.random.default_rng(4)
MASK = FILE.replace("{extra}", "mask0_data = /mask\nmask0_badbits = 1")


def images(n, letters="<i4"):
    """Frames that no compression makes equally long."""
    return [RNG.poisson(2.0 ** (i + 1), (64, 64)).astype(letters) for i in range(n)]


@pytest.fixture
def closed(monkeypatch):
    """Call it, and HDF5 opens nothing from then on."""

    def refuse(*_, **__):
        raise AssertionError("HDF5 was asked")

    return lambda: monkeypatch.setattr(h5py.h5f, "open", refuse)


def taught(using, *data):
    for one in data:
        decode(one, using)
    return using


@pytest.mark.parametrize("compression", ["none", "bslz4", "bszstd", "lz4", "gzip", "gzip+shuffle"])
def test_messages_are_read_without_hdf5_from_the_third_on(compression, closed):
    frames = images(5)
    using = taught(messages(), *(sent(image, compression) for image in frames[:2]))
    data = [
        sent(image, compression, HEADERS | {"/beam/energy": 9000.0 + i}) for i, image in enumerate(frames)
    ]
    closed()
    for i, image in enumerate(frames):
        assert using.frame_count(message(data[i])) == 1
        frame = decode(data[i], using)
        assert_array_equal(image_of(frame), image)
        assert frame.photon_energy == pytest.approx(9000 + i)


def test_masks_behind_compressed_pixels_are_found(closed):
    masks = [np.eye(64, dtype="u1"), np.fliplr(np.eye(64, dtype="u1"))]

    def data(image, mask):
        return made(
            lambda file: (
                file.create_dataset(DATA, data=image, chunks=(64, 64), compression="gzip"),
                file.create_dataset("/mask", data=mask, chunks=(64, 64), compression="gzip"),
            )
        )

    frames = images(4)
    using = messages(MASK, with_masks=True)
    taught(using, data(frames[0], masks[0]), data(frames[1], masks[1]))
    closed()
    for i, image in enumerate(frames):
        found = image_of(decode(data(image, masks[i % 2]), using))
        assert_array_equal(np.isnan(found), masks[i % 2] == 1)
        assert_array_equal(found[masks[i % 2] == 0], image[masks[i % 2] == 0])


def test_another_structure_is_not_taken_for_the_known_one():
    first, second = images(2)
    using = taught(messages(), sent(first, "bslz4"), sent(second, "bslz4"))
    for other in (first.astype("<u2"), first[None], first.astype(">i4"), np.pad(first, (0, 8)), first):
        for compression in ("bslz4", "lz4", "none"):
            assert_array_equal(image_of(decode(sent(other, compression), using)), other.squeeze()[:64, :64])
        assert_array_equal(image_of(decode(sent(second, "bslz4"), using)), second)


def outcome(data, using):
    """What becomes of a message: pixels and values, or the reason."""
    try:
        frame = decode(data, using)
    except Rejected as rejected:
        return rejected.reason
    return image_of(frame).tobytes(), frame.photon_energy, frame.detector.clen


@pytest.mark.parametrize("compression", ["bslz4", "none"])
def test_damaged_messages_end_as_if_nothing_was_known(compression):
    first, second = (sent(image, compression) for image in images(2))
    using = taught(messages(), first, second)
    places = [*range(0, 2600, 23), *range(len(second) - 900, len(second), 23)]
    for at in places:
        damaged = bytearray(second)
        damaged[at] ^= 1 << at % 8
        assert outcome(bytes(damaged), using) == outcome(bytes(damaged), messages()), at
        decode(first, using)  # two damaged ones in a row might agree
    for end in (100, 700, len(second) // 2, len(second) - 1):
        assert outcome(second[:end], using) == outcome(second[:end], messages())


def test_one_damaged_message_teaches_nothing():
    first, second = (sent(image, "none") for image in images(2))
    with h5py.File(io.BytesIO(first)) as file:
        offset = file["/beam/energy"].id.get_offset()
    at = first.index(offset.to_bytes(8, "little"))
    damaged = first[:at] + (offset - 8).to_bytes(8, "little") + first[at + 8 :]
    using = messages()
    outcome(damaged, using)
    for data in (second, first, second):
        assert outcome(data, using) == outcome(data, messages())


def test_texts_of_variable_length_are_looked_up_anew():
    using = messages(FILE, copy_header=("/run",))
    names = ["run 1", "another name", "r", "run 4"]
    data = [
        made(lambda file, n=name: (file.create_dataset(DATA, data=IMAGE), file.__setitem__("/run", n)))
        for name in names
    ]
    assert [decode(one, using).headers["/run"] for one in data] == names
