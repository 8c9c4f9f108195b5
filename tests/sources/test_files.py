# SPDX-License-Identifier: GPL-3.0-or-later
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import zmq
from sources.driving import DEADLINE, Loop

from gpuidx.errors import SourceError
from gpuidx.options import SourceOptions
from gpuidx.sources import expand
from gpuidx.sources.files import AHEAD, Files, events_of
from gpuidx.sources.listing import Naming, check_list, naming, parse_line
from gpuidx.sources.opening import open_source

GEOMETRY = """\
photon_energy = 9500
clen = 0.1
res = 10000
adu_per_photon = 1
data = /data
dim0 = %
dim1 = ss
dim2 = fs
p/min_fs = 0
p/max_fs = 3
p/min_ss = 0
p/max_ss = 2
p/fs = x
p/ss = y
p/corner_x = 0
p/corner_y = 0
"""

DYING = """\
import json, os, sys
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    if "kill" in line:
        os.kill(os.getpid(), 9)
    print(json.dumps({"frames": [["", [2]]]}), flush=True)
"""


@pytest.fixture
def geometry(tmp_path: Path) -> str:
    path = tmp_path / "test.geom"
    path.write_text(GEOMETRY)
    return str(path)


def hdf5(path: Path, n_frame: int) -> str:
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((n_frame, 3, 4), "u2")
    return str(path)


def list_file(tmp_path: Path, *lines: str, end: str = "\n") -> str:
    path = tmp_path / "files.lst"
    path.write_text("\n".join(lines) + end)
    return str(path)


def frames(loop: Loop) -> list[tuple[str, str]]:
    return [(Path(taken.filename).name, taken.event) for taken in loop.taken]


def run(listing: str, geometry: str) -> Loop:
    with Loop(Files(listing, geometry)) as loop:
        loop.until(loop.source.ended)
    return loop


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.h5", ("a.h5", None)),
        ("a.h5 //3", ("a.h5", "//3")),
        ("a.h5 entry/1//3/4", ("a.h5", "entry/1//3/4")),
        ("my file.h5", ("my file.h5", None)),
        ("my file.h5 //", ("my file.h5", "//")),
        ("a.h5  event1//", ("a.h5", "event1//")),
        ("/a//b/c.h5", ("/a//b/c.h5", None)),
    ],
)
def test_a_line_is_a_file_and_perhaps_an_event(line, expected):
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    ("frames", "events"),
    [
        ([("", [])], ["//"]),
        ([("", [3])], ["//0", "//1", "//2"]),
        ([("", [2, 2])], ["//0/0", "//0/1", "//1/0", "//1/1"]),
        ([("a/b", []), ("c", [2])], ["a/b//", "c//0", "c//1"]),
        ([("", [0])], []),
    ],
)
def test_events_name_paths_and_count_each_dimension(frames, events):
    assert list(events_of(frames)) == events


def test_files_and_events_come_in_the_order_of_the_list(tmp_path, geometry):
    names = [hdf5(tmp_path / f"{i}.h5", i + 1) for i in range(3)]
    loop = run(
        list_file(tmp_path, names[2], f"{names[0]} //0", "", names[1], f"{names[2]} //1  ", names[0]),
        geometry,
    )
    assert frames(loop) == [
        ("2.h5", "//0"), ("2.h5", "//1"), ("2.h5", "//2"), ("0.h5", "//0"), ("1.h5", "//0"), ("1.h5", "//1"),
        ("2.h5", "//1"), ("0.h5", "//0"),
    ]  # fmt: skip
    assert not any(loop.reasons)
    assert all(taken.sizes == () for taken in loop.taken)


def test_a_geometry_of_single_frames_needs_no_look_into_the_files(tmp_path):
    path = tmp_path / "single.geom"
    path.write_text(GEOMETRY.replace("dim0 = %\ndim1 = ss\ndim2 = fs\n", ""))
    loop = run(list_file(tmp_path, "one.h5", "two.h5", end=""), str(path))
    assert frames(loop) == [("one.h5", "//"), ("two.h5", "//")]


def test_a_file_that_cannot_be_read_is_rejected_and_the_others_follow(tmp_path, geometry):
    good, junk = hdf5(tmp_path / "good.h5", 1), tmp_path / "junk.h5"
    junk.write_text("no HDF5")
    loop = run(list_file(tmp_path, good, "none.h5", str(junk), good), geometry)
    assert [name for name, _ in frames(loop)] == ["good.h5", "none.h5", "junk.h5", "good.h5"]
    assert loop.reasons == ["", "file cannot be read", "file cannot be read", ""]
    assert loop.taken[1].rejected[1] == "none.h5: No such file or directory"
    assert "not an HDF5 file" in loop.taken[2].rejected[1]


def test_long_lists_and_lines_are_read_to_their_end(tmp_path, geometry):
    lines = [f"{'x' * (i % 700)}{i}.h5 //{i}" for i in range(1000)]
    loop = run(list_file(tmp_path, *lines), geometry)
    assert [f"{taken.filename} {taken.event}" for taken in loop.taken] == lines


def test_names_need_not_be_utf8(tmp_path, geometry):
    path = tmp_path / "list"
    path.write_bytes(b"caf\xe9.h5 //0\r\nb.h5 //0\r\n")
    loop = run(str(path), geometry)
    assert [os.fsencode(taken.filename) for taken in loop.taken] == [b"caf\xe9.h5", b"b.h5"]


def test_an_empty_list_ends_at_once(tmp_path, geometry):
    with Loop(Files(list_file(tmp_path, end=""), geometry)) as loop:
        loop.turn()
        assert loop.source.ended()


def test_a_list_that_is_missing_is_an_error(geometry):
    with (
        pytest.raises(SourceError, match=r"none.lst: cannot read the list of files: No such file"),
        Loop(Files("none.lst", geometry)),
    ):
        pass


def test_a_list_that_cannot_be_read_is_known_before_the_run(tmp_path):
    check_list("-")
    check_list(list_file(tmp_path, "a.h5"))
    for listing, why in (("none.lst", "No such file"), (str(tmp_path), "Is a directory")):
        with pytest.raises(SourceError, match=f"{listing}: cannot read the list of files: {why}"):
            check_list(listing)


def test_an_hdf5_file_given_as_list_is_an_error(tmp_path, geometry):
    source = Files(hdf5(tmp_path / "a.h5", 1), geometry)
    with pytest.raises(SourceError, match=r"a.h5 is an HDF5 file; --input takes a list"), Loop(source):
        pass


def test_what_is_no_list_is_known_before_the_run(tmp_path):
    (tmp_path / "a.cbf").write_bytes(b"###CBF\x0c\x1a\0\0")
    (tmp_path / "empty").touch()
    for name, what in (
        (hdf5(tmp_path / "a.h5", 1), "an HDF5 file"),
        (str(tmp_path / "a.cbf"), "not text"),
        (str(tmp_path / "empty"), "empty"),
    ):
        with pytest.raises(SourceError, match=f"{name} is {what}"):
            check_list(name)


def test_a_list_that_is_a_pipe_loses_nothing_to_the_check(tmp_path, geometry):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as other:
        other.submit((tmp_path / "pipe").write_text, "a.h5 //0\n")
        check_list(str(tmp_path / "pipe"))
        loop = run(str(tmp_path / "pipe"), geometry)
    assert frames(loop) == [("a.h5", "//0")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "/data/run1/a.h5"),
        ({"basename": True}, "a.h5"),
        ({"prefix": "/mnt"}, "/mnt/data/run1/a.h5"),
        ({"prefix": "/mnt/x_", "basename": True}, "/mnt/x_a.h5"),
    ],
)
def test_a_name_loses_its_folders_and_gets_a_prefix(given, expected):
    assert Naming(**given)("/data/run1/a.h5") == expected


def test_a_prefix_that_is_a_folder_gets_its_slash_unless_it_is_not_to_be_checked(tmp_path):
    folder = str(tmp_path)
    assert naming(folder, False, True) == naming(f"{folder}/", False, True) == Naming(f"{folder}/")
    assert naming(folder, True, False) == Naming(folder, basename=True)
    assert naming(f"{folder}/none", False, True) == Naming(f"{folder}/none")


def test_another_file_given_as_list_is_an_error(tmp_path, geometry):
    (tmp_path / "a.cbf").write_bytes(b"###CBF\x0c\x1a\0\0")
    source = Files(str(tmp_path / "a.cbf"), geometry)
    with pytest.raises(SourceError, match=r"a.cbf is not text"), Loop(source):
        pass


def test_standard_input_is_read_as_it_comes(tmp_path, geometry, monkeypatch):
    """A line is used when it is there, not when the list ends."""
    reader, writer = os.pipe()
    name = hdf5(tmp_path / "a.h5", 2)
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w") as sender:
        monkeypatch.setattr(sys, "stdin", stdin)
        with Loop(Files("-", geometry)) as loop:
            loop.turn()
            sender.write(f"{name}\nb.h5 //")
            sender.flush()
            loop.receive(2)
            assert not loop.source.ended()
            sender.write("7\nc.h5 //8")
            sender.flush()
            loop.receive(3)
            sender.close()
            loop.until(loop.source.ended)
            assert frames(loop) == [("a.h5", "//0"), ("a.h5", "//1"), ("b.h5", "//7"), ("c.h5", "//8")]


def test_standard_input_is_not_polled_while_no_line_is_wanted(tmp_path, geometry, monkeypatch):
    """A file there is readable all the time, and would keep the loop busy."""
    listing = list_file(tmp_path, *(f"{i}.h5 //0" for i in range(5 * AHEAD)))
    with Path(listing).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with Loop(Files("-", geometry)) as loop:
            loop.until(loop.source.ready, take=False)
            loop.turn(take=False)
            assert stdin.fileno() not in dict(loop.poller.sockets)
            loop.until(loop.source.ended)
            assert len(loop.taken) == 5 * AHEAD


def test_nothing_is_named_after_a_stop(tmp_path, geometry):
    with Loop(Files(list_file(tmp_path, "a.h5 //0", "b.h5 //0"), geometry)) as loop:
        loop.until(loop.source.ready, take=False)
        loop.source.stop()
        assert loop.source.take(loop.slot) is None
        assert loop.source.pending() == 0
        assert loop.source.ended()


def test_a_file_at_which_the_reader_dies_is_rejected_and_the_others_follow(tmp_path, geometry, monkeypatch):
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    monkeypatch.setattr(expand, "HELPER", (str(script),))
    loop = run(list_file(tmp_path, "a.h5", "kill.h5", "b.h5", "c.h5 //5", "kill2.h5"), geometry)
    assert frames(loop) == [
        ("a.h5", "//0"), ("a.h5", "//1"), ("kill.h5", "//"), ("b.h5", "//0"), ("b.h5", "//1"),
        ("c.h5", "//5"), ("kill2.h5", "//"),
    ]  # fmt: skip
    assert [reason for reason in loop.reasons if reason] == ["file cannot be read"] * 2
    assert "the reader of the file died" in loop.taken[2].rejected[1]


def test_a_helper_that_cannot_start_is_an_error(tmp_path, geometry, monkeypatch):
    script = tmp_path / "failing.py"
    script.write_text("raise SystemExit(1)")
    monkeypatch.setattr(expand, "HELPER", (str(script),))
    source = Files(list_file(tmp_path, "a.h5"), geometry)
    with Loop(source) as loop, pytest.raises(SourceError, match="dies at its start"):
        loop.until(loop.source.ended)


def test_drop_leaves_files_alone(tmp_path, geometry):
    with Loop(Files(list_file(tmp_path, "a.h5 //0"), geometry)) as loop:
        loop.until(loop.source.ready, take=False)
        assert not loop.source.drop()
        assert loop.source.ready()


def test_a_list_is_chosen_by_the_options():
    source = open_source(SourceOptions(input="some.lst", geometry="some.geom"))
    assert isinstance(source, Files)
    source.close()


def test_the_helper_ends_when_the_main_process_is_gone(geometry):
    """What is left of a killed process is the end of its pipes."""
    helper = expand.Expander(geometry)
    helper.open(zmq.Poller())
    process = helper._process
    assert process is not None
    process.stdin.close()
    assert process.wait(DEADLINE) == 0
    helper.close()
