# SPDX-License-Identifier: GPL-3.0-or-later
import dataclasses
import io

import h5py
import hdf5plugin
import numpy as np
import pytest
from formats.making import IMAGE, image_of
from formats.making_files import FILE, MANY
from formats.making_hdf5 import DATA, FRAMES, HEADERS, decode, made, message, messages, reason, sent
from numpy.testing import assert_array_equal

from gpuidx.formats.hdf5_messages import MOST_FRAMES, begins
from gpuidx.geometry.masks import Masks
from gpuidx.simulation.encode_hdf5 import COMPRESSIONS

BITS_ONLY = {"chunks": (64, 64), **hdf5plugin.Bitshuffle(cname="none")}

THREE_MODULES = FILE.replace("{extra}", "dim0 = 1\ndim1 = ss\ndim2 = fs")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("letters", ["<u2", ">i4", "<f4", "u1"])
def test_every_compression_gives_the_pixels_that_were_sent(compression, letters):
    frame = decode(sent(IMAGE.astype(letters), compression))
    assert_array_equal(image_of(frame), IMAGE)
    assert frame.headers == HEADERS
    assert frame.photon_energy == pytest.approx(9500)
    assert frame.detector.clen == pytest.approx(0.05)
    assert (frame.serial, frame.filename, frame.event) == (7, "ZMQdata", "//7")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("chunks", [(1, 64, 64), (2, 64, 64), (5, 64, 64), (1, 13, 30), (3, 64, 20)])
def test_each_of_several_frames_is_found_however_they_are_chunked(compression, chunks):
    data, using = sent(FRAMES, compression, chunks=chunks), messages()
    assert using.frame_count(message(data)) == 5
    kept = [decode(data, using, number) for number in (4, 0, 2, 1, 3)]
    for frame, number in zip(kept, (4, 0, 2, 1, 3), strict=True):
        assert_array_equal(image_of(frame), FRAMES[number])
        assert image_of(frame).flags.writeable


@pytest.mark.parametrize("text", [FILE, MANY])
def test_one_or_several_frames_are_taken_with_or_without_a_dimension_for_them(text):
    for images, count in ((FRAMES, 5), (FRAMES[:1], 1)):
        data, using = sent(images), messages(text)
        assert using.frame_count(message(data)) == count
        assert_array_equal(image_of(decode(data, using, count - 1)), images[count - 1])
        found = reason(data, using, count)
        assert found == ("bad event", f"frame {count} of a message with {count}")


def test_a_frame_without_a_dimension_for_frames_is_one():
    assert messages().frame_count(message(sent())) == 1
    assert reason(sent(), messages(MANY))[0] == "wrong shape"


def test_a_fixed_index_is_no_batch():
    data, using = sent(FRAMES, "bslz4"), messages(THREE_MODULES)
    assert using.frame_count(message(data)) == 1
    assert_array_equal(image_of(decode(data, using)), FRAMES[1])


def test_modules_may_come_in_batches():
    data = sent(np.stack([FRAMES, FRAMES + 7]), "bslz4", chunks=(1, 5, 64, 64))
    using = messages(THREE_MODULES)
    assert using.frame_count(message(data)) == 2
    assert_array_equal(image_of(decode(data, using, 1)), FRAMES[1] + 7)


def test_two_dimensions_for_frames_are_counted_through():
    using = messages(FILE.replace("{extra}", "dim0 = %\ndim1 = %\ndim2 = ss\ndim3 = fs"))
    data = sent(np.stack([FRAMES, FRAMES + 7]))
    assert using.frame_count(message(data)) == 10
    assert_array_equal(image_of(decode(data, using, 8)), FRAMES[3] + 7)


def test_header_values_are_those_of_the_frame():
    energies = np.array([9000.0, 9100.0, 9200.0, 9300.0, 9400.0])
    headers = {"/beam/energy": energies, "/det/clen": [[50.0]], "/run/name": [b"a", b"b", b"c", b"d", b"e"]}
    data, using = sent(FRAMES, headers=headers), messages(copy_header=("/run/name",))
    for number in (3, 0):
        frame = decode(data, using, number)
        assert frame.photon_energy == pytest.approx(9000 + 100 * number)
        assert frame.headers["/run/name"] == "abcde"[number]
        assert frame.detector.clen == pytest.approx(0.05)
    short = {"/beam/energy": energies[:3], "/det/clen": 50.0}
    assert decode(sent(FRAMES, headers=short), number=2).photon_energy == pytest.approx(9200)
    assert reason(sent(FRAMES, headers=short), number=3)[0] == "bad header value"
    assert reason(sent(headers=short))[0] == "bad header value"


def test_compressed_header_values_are_read():
    def fill(file):
        file[DATA] = FRAMES
        for path in HEADERS:
            del file[path]
            file.create_dataset(
                path, data=np.arange(1.0, 6.0) * 1000, chunks=(2,), **hdf5plugin.Bitshuffle(cname="zstd")
            )

    assert decode(made(fill), number=4).headers == dict.fromkeys(HEADERS, 5000.0)


def test_pixels_that_fit_stay_in_the_message():
    whole = message(sent())
    frame = messages().decode(whole)
    assert np.shares_memory(image_of(frame), np.frombuffer(whole.data, np.uint8))
    assert image_of(frame).flags.writeable


def test_masks_may_lie_in_the_message():
    text = FILE.replace("{extra}", "mask0_data = /mask\nmask0_badbits = 0x1")
    mask, using = np.zeros((64, 64), np.uint8), messages(text, with_masks=True)
    mask[3, 5] = mask[40, 7] = 1
    for images, masks, number in (
        (IMAGE, mask, 0),
        (FRAMES, mask, 3),
        (FRAMES, np.stack([mask * (i == 2) for i in range(5)]), 2),
    ):
        image = image_of(decode(sent(images, masks={"/mask": masks}), using, number))
        assert_array_equal(np.isnan(image), mask.astype(bool))
    assert not np.isnan(image_of(decode(sent(FRAMES, masks={"/mask": masks}), using, 1))).any()
    assert reason(sent(), using)[0] == "missing key"
    assert reason(sent(masks={"/mask": mask[:50]}), using)[0] == "bad mask"
    assert reason(sent(masks={"/mask": np.full((64, 64), b"x")}), using)[0] == "bad mask"


@pytest.mark.parametrize("how", [{}, {"chunks": (64, 64), "compression": "gzip"}])
@pytest.mark.parametrize("images", [IMAGE, FRAMES[:1]])
def test_a_mask_that_stays_the_same_is_made_once(how, images, monkeypatch):
    made_masks, make = [], Masks.in_frame
    monkeypatch.setattr(Masks, "in_frame", lambda *args: made_masks.append(make(*args)) or made_masks[-1])
    text = FILE.replace("{extra}", "mask0_data = /mask\nmask0_badbits = 0x1")
    using = messages(text, with_masks=True)
    masks = [np.eye(64, dtype="u1"), np.fliplr(np.eye(64, dtype="u1"))]
    for count, which in ((1, 0), (1, 0), (2, 1), (2, 1), (3, 0)):

        def fill(file, mask=masks[which]):
            file[DATA] = images
            file.create_dataset("mask", data=mask, **how)

        assert_array_equal(np.isnan(image_of(decode(made(fill), using))), masks[which] == 1)
        assert len(made_masks) == count


def test_of_a_mask_no_more_is_read_than_the_panels_need():
    """Filling all of this one would take a terabyte."""
    text = FILE.replace("{extra}", "mask0_data = /mask\nmask0_badbits = 0x1")

    def fill(file):
        file[DATA] = IMAGE
        file.create_dataset("mask", (2**20, 2**20), "u1", chunks=(2**10, 2**10), fillvalue=1)

    assert np.isnan(image_of(decode(made(fill), messages(text, with_masks=True)))).all()


def test_chunks_that_were_never_written_hold_the_fill_value():
    def fill(file):
        data = file.create_dataset(
            DATA, (2, 64, 64), "i4", chunks=(1, 64, 64), fillvalue=7, **hdf5plugin.Bitshuffle(cname="lz4")
        )
        data[0] = IMAGE

    data = made(fill)
    assert_array_equal(image_of(decode(data, number=0)), IMAGE)
    frame = decode(data, number=1)
    assert (image_of(frame) == 7).all()
    assert image_of(frame).flags.writeable


def test_chunks_of_which_filters_were_skipped_are_read():
    def fill(file):
        data = file.create_dataset(DATA, (64, 64), "i4", chunks=(64, 64), compression="gzip", shuffle=True)
        data.id.write_direct_chunk((0, 0), IMAGE.tobytes(), filter_mask=3)

    assert_array_equal(image_of(decode(made(fill))), IMAGE)


def test_integers_of_odd_precision_are_left_to_hdf5():
    """Only 12 of 16 bits count; NumPy does not know such a type."""

    def fill(file):
        kind = h5py.h5t.STD_U16LE.copy()
        kind.set_precision(12)
        space = h5py.h5s.create_simple((64, 64))
        data = h5py.h5d.create(file.id, b"/pixels", kind, space)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, IMAGE.astype("u2"))

    using = messages(FILE.replace(DATA, "/pixels"))
    assert_array_equal(image_of(decode(made(fill), using)), IMAGE)


def test_soft_links_and_user_blocks_are_followed():
    def fill(file):
        file["real/deep/pixels"] = IMAGE
        file["near"] = h5py.SoftLink("real")
        file["real/other"] = h5py.SoftLink("deep/pixels")
        file[DATA] = h5py.SoftLink("/near/other")

    data = made(fill)
    assert_array_equal(image_of(decode(data)), IMAGE)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=1024, libver="latest") as file:
        file.create_dataset(DATA, data=IMAGE, chunks=(64, 64), **hdf5plugin.LZ4())
        for path, value in HEADERS.items():
            file[path] = value
    assert_array_equal(image_of(decode(buffer.getvalue())), IMAGE)


@pytest.mark.parametrize(
    ("fill", "why"),
    [
        (lambda file: None, "missing key"),
        (lambda file: file.create_group(DATA), "missing key"),
        (lambda file: file.create_dataset(DATA, data=IMAGE[0]), "wrong shape"),
        (lambda file: file.create_dataset(DATA, data=IMAGE[:, :50]), "wrong shape"),
        (lambda file: file.create_dataset(DATA, data=FRAMES[:0]), "wrong shape"),
        (lambda file: file.create_dataset(DATA, data=FRAMES[None]), "wrong shape"),
        (lambda file: file.create_dataset(DATA, data=h5py.Empty("f4")), "wrong shape"),
        (lambda file: file.create_dataset(DATA, (MOST_FRAMES + 1, 64, 64), "u1"), "wrong shape"),
        (lambda file: file.create_dataset(DATA, (2**40, 2**20, 64), "u1", chunks=(1, 64, 64)), "wrong shape"),
        (lambda file: file.create_dataset(DATA, data=np.full((64, 64), b"x")), "unknown pixel type"),
        (lambda file: file.create_dataset(DATA, data=IMAGE.astype("c8")), "unknown pixel type"),
        (lambda file: file.create_dataset(DATA, data=IMAGE > 10), "unknown pixel type"),
        (lambda file: file.__setitem__(DATA, h5py.SoftLink(DATA)), "damaged HDF5 file"),
        (lambda file: file.create_dataset(DATA, data=IMAGE, **BITS_ONLY), "unknown compression"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_rejected(fill, why):
    assert reason(made(fill))[0] == why


def test_a_truncated_message_is_rejected():
    data = sent(compression="bslz4")
    for size in (*range(16, 300, 7), len(data) // 2, len(data) - 1):
        assert reason(data[:size])[0] in ("damaged HDF5 file", "truncated message")
    assert reason(b"nothing at all of that kind")[0] == "not an HDF5 file"


def test_a_path_with_a_placeholder_is_refused():
    assert reason(sent(), messages(FILE.replace("/entry/data", "/%/data")))[0] == "wrong shape"


def test_without_images_none_need_be_there():
    using = messages(image_data=False, peaks="none")
    frame = decode(made(lambda file: None), using)
    assert frame.image is None
    assert frame.photon_energy == pytest.approx(9500)
    assert using.frame_count(message(sent(FRAMES))) == 5


def test_begins_tells_a_file_with_or_without_user_block():
    data = memoryview(sent())
    assert begins([data])
    assert begins([memoryview(b"tag"), data])
    assert begins([memoryview(bytes(512) + bytes(data))])
    assert begins([memoryview(bytes(2048) + bytes(data))])
    assert not begins([])
    assert not begins([memoryview(b"")])
    assert not begins([memoryview(b"\x89HD")])
    assert not begins([memoryview(bytes(100) + bytes(data))])


def test_the_number_not_the_event_says_which_frame():
    data, using = sent(FRAMES), messages()
    for event in ("", "//2", "//123"):
        frame = using.decode(dataclasses.replace(message(data, 1), event=event))
        assert_array_equal(image_of(frame), FRAMES[1])


def test_texts_of_any_kind_are_header_values():
    def fill(file):
        file[DATA] = FRAMES[:2]
        file["fixed"] = np.array([b"ab", b"cdef"])
        file["variable"] = ["ab", "cdef"]
        file.create_dataset("packed", data=np.array([b"ab", b"cdef"]), chunks=(1,), compression="gzip")
        file["one"] = "cdef"
        file.create_dataset("in chunks", data=["ab", "cdef"], chunks=(1,), dtype=h5py.string_dtype())
        file["pair"] = np.zeros(2, [("a", "f4"), ("b", "f4")])

    names = ("fixed", "variable", "packed", "one", "in chunks", "pair")
    using = messages(copy_header=names)
    frame = decode(made(fill), using, 1)
    assert [frame.headers.get(name) for name in names] == ["cdef"] * 4 + [None, None]


def test_texts_behind_a_user_block_are_found():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        file[DATA] = IMAGE
        file["/beam/energy"], file["/det/clen"] = ["9500"], "50"
    assert decode(buffer.getvalue()).headers == {"/beam/energy": "9500", "/det/clen": "50"}
