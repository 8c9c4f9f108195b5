# SPDX-License-Identifier: GPL-3.0-or-later
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from formats.making import IMAGE, RNG, image_of
from formats.making_files import FILE, FRAMES, MANY, files_decoder, read, write
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats import events
from gpuidx.formats.hdf5_opened import fill_path, parse_event
from gpuidx.geometry import parse_geometry
from gpuidx.model import Message


def reason(filename: str, event: str = "//", text: str = FILE, **options: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        read(filename, event, files_decoder(text, **options))
    assert "\n" not in caught.value.detail
    return caught.value.reason, caught.value.detail


def test_reads_a_file_of_one_frame(tmp_path):
    frame = read(write(tmp_path / "a.h5"))
    assert_array_equal(image_of(frame), IMAGE)
    assert (frame.serial, frame.filename, frame.event) == (3, str(tmp_path / "a.h5"), "//")
    assert frame.photon_energy == pytest.approx(9500)
    assert frame.detector.clen == pytest.approx(0.05)
    assert frame.headers == {"/beam/energy": 9500.0, "/det/clen": 50.0}


@pytest.mark.parametrize("event", ["//0", "//2", "//1"])
def test_reads_the_frame_that_the_event_names(tmp_path, event):
    filename = write(tmp_path / "a.h5", FRAMES, energy=np.array([9000.0, 9100.0, 9200.0]))
    frame = read(filename, event, files_decoder(MANY))
    assert_array_equal(image_of(frame), FRAMES[int(event[2:])])
    assert frame.photon_energy == pytest.approx(9000 + 100 * int(event[2:]))


def test_each_frame_has_its_own_pixels_while_they_are_held(tmp_path):
    filename, using = write(tmp_path / "a.h5", FRAMES), files_decoder(MANY)
    frames = [read(filename, f"//{i}", using) for i in range(3)]
    for frame, expected in zip(frames, FRAMES, strict=True):
        assert_array_equal(image_of(frame), expected)


@pytest.mark.parametrize(
    "letters", ["u1", "i1", "<u2", ">i2", "<u4", ">u4", "<i8", ">u8", "<f2", "<f4", ">f8"]
)
def test_reads_every_type(tmp_path, letters):
    frame = read(write(tmp_path / "a.h5", IMAGE.astype(letters)))
    assert_array_equal(image_of(frame), IMAGE)


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "gzip", "shuffle": True},
        hdf5plugin.Bitshuffle(cname="lz4"),
        hdf5plugin.LZ4(),
        hdf5plugin.Zstd(),
        {"chunks": (16, 16), "fletcher32": True},
    ],
    ids=["gzip", "bslz4", "lz4", "zstd", "chunks"],
)
def test_reads_compressed_data(tmp_path, how):
    assert_array_equal(image_of(read(write(tmp_path / "a.h5", **how))), IMAGE)


@pytest.mark.parametrize(
    "value", ["9500", b"9500", np.bytes_("9500.0"), [9500.0], [[9500]], np.float32(9500), np.uint16(9500)]
)
def test_a_header_may_be_a_number_or_text_or_an_array_of_one(tmp_path, value):
    assert read(write(tmp_path / "a.h5", energy=value)).photon_energy == pytest.approx(9500)


def test_text_headers_are_copied(tmp_path):
    filename = write(tmp_path / "a.h5")
    with h5py.File(filename, "a") as file:
        file["run/name"], file["run/number"] = "lysozyme", np.int16(12)
    frame = read(filename, using=files_decoder(copy_header=("run/name", "run/number", "run/none")))
    assert frame.headers == {
        "/beam/energy": 9500.0,
        "/det/clen": 50.0,
        "run/name": "lysozyme",
        "run/number": 12,
    }


def test_panels_may_lie_in_different_datasets_and_slices(tmp_path):
    text = MANY.replace(
        "p1/min_ss = 32",
        "p1/data = /entry/low\np1/dim0 = %\np1/dim1 = 1\np1/dim2 = ss\np1/dim3 = fs\np1/min_ss = 0",
    )
    text = text.replace("p1/max_ss = 63", "p1/max_ss = 31")
    filename = write(tmp_path / "a.h5", FRAMES[:, :32])
    with h5py.File(filename, "a") as file:
        file["entry/low"] = np.stack([np.zeros_like(FRAMES[:, 32:]), FRAMES[:, 32:]], axis=1).astype("u2")
    frame = read(filename, "//2", files_decoder(text))
    assert image_of(frame).dtype == np.float32
    assert_array_equal(image_of(frame), FRAMES[2])


def test_paths_may_have_placeholders(tmp_path):
    text = FILE.replace("/entry/data", "/%/data").replace("/det/clen", "/%/clen")
    filename = write(tmp_path / "a.h5")
    with h5py.File(filename, "a") as file:
        file["entry/clen"] = 60.0
    frame = read(filename, "entry//", files_decoder(text))
    assert_array_equal(image_of(frame), IMAGE)
    assert frame.detector.clen == pytest.approx(0.06)
    assert reason(filename, "//", text)[0] == "bad event"


def test_links_to_other_files_are_followed(tmp_path):
    target = write(tmp_path / "frames.h5")
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data"] = h5py.ExternalLink(target, "/entry/data")
        file["beam"] = h5py.ExternalLink(target, "/beam")
        file["det"] = h5py.ExternalLink(target, "/det")
    assert_array_equal(image_of(read(str(tmp_path / "master.h5"))), IMAGE)


def test_no_image_is_read_without_image_data(tmp_path):
    frame = read(write(tmp_path / "a.h5", None), using=files_decoder(image_data=False, peaks="none"))
    assert frame.image is None


REJECTED: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    "no dataset": ({"data": None}, FILE, "//", "missing key", "'/entry/data' is not there"),
    "data elsewhere": ({"data": None}, FILE, "//", "missing key", "; '/' has 'beam', 'det'"),
    "no energy": ({"energy": None}, FILE, "//", "missing key", "'/beam/energy' is not there"),
    "three dimensions": ({"data": FRAMES}, FILE, "//", "wrong shape", "(3, 64, 64); the geometry has 2"),
    "too small": ({"data": IMAGE[:40]}, FILE, "//", "wrong shape", "(40, 64), the geometry needs (64, 64)"),
    "two dimensions": ({}, MANY, "//0", "wrong shape", "(64, 64); the geometry has 3 dimensions (%, ss, fs)"),
    "frame too far": ({"data": FRAMES}, MANY, "//3", "wrong shape", "there is no index 3"),
    "no index": ({"data": FRAMES}, MANY, "//", "bad event", "has 0 indices"),
    "too many indices": ({"data": FRAMES}, MANY, "//0/1", "bad event", "has 2 indices"),
    "too many parts": ({"data": FRAMES}, MANY, "a//0", "bad event", "has too many parts for the %"),
    "negative index": ({"data": FRAMES}, MANY, "//-1", "bad event", "'//-1' is not understood"),
    "event is a word": ({}, FILE, "one", "bad event", "'one' is not understood"),
    "index is a word": ({}, FILE, "//one", "bad event", "'//one' is not understood"),
    "text data": ({"data": np.full((64, 64), b"abcd")}, FILE, "//", "unknown pixel type", "|S4"),
    "complex data": ({"data": IMAGE.astype("c8")}, FILE, "//", "unknown pixel type", "complex64"),
    "bool data": ({"data": IMAGE > 3}, FILE, "//", "unknown pixel type", "bool"),
    "several energies": ({"energy": [1.0, 2.0]}, FILE, "//", "bad header value", "has shape (2,)"),
    "no energies": ({"energy": np.zeros(0)}, FILE, "//", "bad header value", "has shape (0,)"),
    "too few energies": ({"data": FRAMES, "energy": [1.0, 2.0]}, MANY, "//2", "bad header value", "(2,)"),
    "energy NaN": ({"energy": np.nan}, FILE, "//", "bad header value", "'/beam/energy' is nan"),
    "energy a bool": ({"energy": True}, FILE, "//", "bad header value", "'/beam/energy' has type bool"),
    "energy zero": ({"energy": 0}, FILE, "//", "absurd wavelength", "'/beam/energy' is 0 eV"),
    "energy a group": ({}, FILE.replace("/beam/energy", "/det"), "//", "missing key", "'/det' is a group"),
}  # fmt: skip


@pytest.mark.parametrize(("written", "text", "event", "why", "detail"), REJECTED.values(), ids=REJECTED)
def test_rejects(tmp_path, written, text, event, why, detail):
    found = reason(write(tmp_path / "a.h5", **written), event, text)
    assert found[0] == why
    assert detail in found[1]


def test_a_file_that_is_missing_or_no_hdf5_is_named(tmp_path):
    missing, other = str(tmp_path / "none.h5"), tmp_path / "a.txt"
    other.write_bytes(b"some text")
    assert reason(missing) == ("file cannot be read", f"{missing}: No such file or directory")
    assert reason(str(other)) == ("file cannot be read", f"{other}: not an HDF5 file")
    assert reason(str(tmp_path))[0] == "file cannot be read"


def test_damaged_files_are_rejected_and_others_read_on(tmp_path):
    good, bad = write(tmp_path / "good.h5", compression="gzip"), tmp_path / "bad.h5"
    data, using = Path(good).read_bytes(), files_decoder()
    for length in (0, 8, 64, 800, len(data) // 2, len(data) - 8):
        bad.write_bytes(data[:length])
        with pytest.raises(Rejected):
            using.decode(Message(serial=1, filename=str(bad), event="//", data=memoryview(b"")))
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(4):
            damaged[RNG.integers(len(damaged))] = RNG.integers(256)
        bad.write_bytes(damaged)
        try:
            assert image_of(read(str(bad), using=using)).shape == IMAGE.shape
        except Rejected:
            continue
    assert_array_equal(image_of(read(good, using=using)), IMAGE)


def test_only_the_last_files_stay_open(tmp_path):
    using, names = files_decoder(), [write(tmp_path / f"{i}.h5", IMAGE + i) for i in range(5)]
    for _ in range(2):
        for i, name in enumerate(names):
            frame = using.decode(Message(serial=1, filename=name, event="//", data=memoryview(b"")))
            assert_array_equal(image_of(frame), IMAGE + i)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 2
    using.close()
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("//", ((), ())),
        ("", ((), ())),
        ("//3", ((), (3,))),
        ("//3/0", ((), (3, 0))),
        ("a/b//7", (("a", "b"), (7,))),
    ],
)
def test_events(event, expected):
    assert parse_event(event) == expected


def test_a_path_takes_as_many_parts_as_it_has_places():
    assert fill_path("/a/%/b%/c", ("x", "1", "more")) == "/a/x/b1/c"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_rejected(name):
    assert reason(name)[0] == "file cannot be read"
    assert json.loads(
        events.answer(json.dumps([name, None, False]), parse_geometry(MANY, "g.geom"))
    ).keys() == {"error"}


def test_the_count_goes_on_after_whatever_happens(monkeypatch):
    def broken(*_):
        raise MemoryError("much too large")

    monkeypatch.setattr(events, "frames_in", broken)
    answer = json.loads(events.answer('["a.h5", null, false]', parse_geometry(MANY, "g.geom")))
    assert answer == {"error": "a.h5: MemoryError: much too large"}


def test_a_file_may_be_moved_while_it_is_open(tmp_path):
    """The handle of a name is kept: what it was opened as is what is read."""
    using, name = files_decoder(MANY), write(tmp_path / "a.h5", FRAMES)
    message = [Message(serial=1, filename=name, event=f"//{i}", data=memoryview(b"")) for i in range(2)]
    using.decode(message[0])
    shutil.move(name, tmp_path / "b.h5")
    assert_array_equal(image_of(using.decode(message[1])), FRAMES[1])
    using.close()
