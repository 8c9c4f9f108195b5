# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames that a file holds: the events of CrystFEL 0.12 (list_events) where it names any."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from formats.making_files import FILE, FRAMES, IMAGE, MANY, write

from gpuidx.errors import Rejected
from gpuidx.formats import events
from gpuidx.formats.hdf5_listing import frames_in
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.simulation.encode_cbf import encode_cbf
from gpuidx.sources.files import events_of

ONE, SOME, NONE = (np.zeros(shape, "u1") for shape in ((3, 4), (2, 3, 4), (0, 3, 4)))
DIMS = {
    "frame": "",
    "frames": "dim0 = %\ndim1 = ss\ndim2 = fs",
    "grid": "dim0 = %\ndim1 = %\ndim2 = ss\ndim3 = fs",
    "apart": "dim0 = %\ndim1 = ss\ndim2 = %\ndim3 = fs",
}


def geometry(path: str, dims: str) -> Geometry:
    return parse_geometry(FILE.replace("{extra}", DIMS[dims]).replace("/entry/data", path), "g.geom")


def made(folder: Path, contents: Mapping[str, Any], track_order: bool = False) -> str:
    with h5py.File(folder / "a.h5", "w", track_order=track_order) as file:
        for path, content in contents.items():
            if content is None:
                file.create_group(path)
            else:
                file[path] = content
    return str(folder / "a.h5")


CRYSTFEL = {
    "names are in the order of their bytes": (
        {"e10/d": ONE, "e2/d": ONE, "E3/d": ONE, "z/other": ONE, "é/d": ONE}, "/%/d", "frame",
        ["E3//", "e10//", "e2//", "é//"],
    ),
    "two in a path": (
        {"x/r1/i/2/d": ONE, "x/r1/i/1/d": ONE, "x/r0/i/9/d": ONE}, "/x/%/i/%/d", "frame",
        ["r0/9//", "r1/1//", "r1/2//"],
    ),
    "the data set itself": ({"g/i2": ONE, "g/i10": ONE}, "/g/%", "frame", ["i10//", "i2//"]),
    "paths and dimensions": (
        {"b/d": SOME, "a/d": np.zeros((3, 3, 4), "u1")}, "/%/d", "frames",
        ["a//0", "a//1", "a//2", "b//0", "b//1"],
    ),
    "two dimensions": (
        {"d": np.zeros((2, 2, 3, 4), "u1")}, "/d", "grid", ["//0/0", "//0/1", "//1/0", "//1/1"]
    ),
    "dimensions apart": (
        {"d": np.zeros((2, 3, 2, 4), "u1")}, "/d", "apart", ["//0/0", "//0/1", "//1/0", "//1/1"]
    ),
    "links": (
        {"real/d": ONE, "soft": h5py.SoftLink("/real")}, "/%/d", "frame", ["real//", "soft//"]
    ),
    "one data set has no frame": ({"a/d": NONE, "b/d": SOME}, "/%/d", "frames", ["b//0", "b//1"]),
    "one frame": ({"e/d": ONE}, "/e/d", "frame", ["//"]),
}  # fmt: skip


@pytest.mark.parametrize(("contents", "path", "dims", "expected"), CRYSTFEL.values(), ids=CRYSTFEL)
def test_frames_are_those_of_crystfel_in_its_order(tmp_path, contents, path, dims, expected):
    for track_order in (False, True):
        filename = made(tmp_path, contents, track_order)
        assert list(events_of(frames_in(filename, geometry(path, dims)))) == expected


@pytest.mark.parametrize(
    "odd", [{"b/d": None}, {"b": ONE}, {"b": h5py.SoftLink("/nowhere")}, {"b/d/too": ONE}, {"b/other": ONE}]
)
def test_what_does_not_fit_the_path_is_left_out_and_the_search_goes_on(tmp_path, odd):
    filename = made(tmp_path, {"a/d": ONE, "c/d": ONE, **odd})
    assert frames_in(filename, geometry("/%/d", "frame")) == [("a", []), ("c", [])]


def test_a_part_of_a_name_may_vary(tmp_path):
    filename = made(tmp_path, {"run2/d": ONE, "run1/d": ONE, "dark/d": ONE})
    assert frames_in(filename, geometry("/run%/d", "frame")) == [("1", []), ("2", [])]


@pytest.mark.parametrize(
    ("contents", "path", "dims", "text"),
    [
        ({"d": ONE}, "/d", "frames", "'/d' has shape (3, 4); the geometry has 3 dimensions"),
        ({"a/d": ONE, "b/d": SOME}, "/%/d", "frame", "'/b/d' has shape (2, 3, 4)"),
        ({"d": h5py.Empty("u1")}, "/d", "frames", "'/d' has shape ();"),
        ({"d": NONE}, "/d", "frames", "the shape of '/d' leaves no frame"),
        ({"e": ONE}, "/d", "frames", "no data set at '/d'"),
        ({"e/x": ONE}, "/%/d", "frame", "no data set at '/%/d'"),
    ],
)
def test_a_file_without_frames_is_rejected_with_the_reason(tmp_path, contents, path, dims, text):
    with pytest.raises(Rejected, match="file cannot be read") as caught:
        frames_in(made(tmp_path, contents), geometry(path, dims))
    assert caught.value.detail.startswith(f"{tmp_path / 'a.h5'}: ")
    assert text in caught.value.detail


def test_a_cbf_image_is_one_frame_and_a_file_with_one_frame_is_not_opened(tmp_path):
    (tmp_path / "a.cbf").write_bytes(b"###CBF: VERSION 1.5\r\n")
    assert frames_in(str(tmp_path / "a.cbf"), parse_geometry(MANY, "g.geom")) == [("", [])]
    assert frames_in(str(tmp_path / "none.h5"), geometry("/d", "frame")) == [("", [])]


def asked(filename: str, event: str | None, waited: bool, text: str = MANY) -> dict[str, Any]:
    found = events.answer(json.dumps([filename, event, waited]), parse_geometry(text, "g.geom"))
    answer: dict[str, Any] = json.loads(found)
    return answer


def test_only_a_file_that_may_be_awaited_is_absent(tmp_path):
    missing = str(tmp_path / "none.h5")
    assert asked(missing, None, waited=True) == asked(missing, "//0", waited=True) == {"absent": True}
    assert asked(missing, None, waited=False) == {"error": f"{missing}: No such file or directory"}


@pytest.mark.parametrize("event", [None, "//0"])
def test_a_file_that_is_still_being_written_is_not_complete(tmp_path, event):
    whole = write(tmp_path / "whole.h5", FRAMES)
    part = tmp_path / "part.h5"
    part.write_bytes(Path(whole).read_bytes()[:-100])
    expected = [["", [3]]] if event is None else []
    assert asked(whole, event, waited=True) == {"frames": expected}
    assert asked(str(part), event, waited=True).keys() == {"error"}
    assert asked(write(tmp_path / "empty.h5", None), event, waited=True).keys() == {"error"}


def test_a_cbf_image_that_is_still_being_written_is_not_complete(tmp_path):
    data = b"".join(encode_cbf(IMAGE.astype("i4"), {}))
    for length, complete in ((len(data), True), (len(data) // 2, False), (40, False)):
        (tmp_path / "a.cbf").write_bytes(data[:length])
        answer = asked(str(tmp_path / "a.cbf"), None, waited=True, text=FILE.replace("{extra}", ""))
        assert (answer == {"frames": [["", []]]}) is complete
