# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a recording, written and read back, whole and cut off."""

import fcntl
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.errors import InputFileError
from gpuidx.recording.file import FORMAT, Recording, header, pieces

MESSAGES = [(0.25, 0, [b"tag", b"x" * 30]), (0.5, 1, [b"{}"]), (2.0, 0, [b"", b"y"])]


def written(path: Path, messages=MESSAGES) -> Path:
    parts = [header({"addresses": ["tcp://a:1", "tcp://b:1"]})]
    for message in messages:
        parts += pieces(*message)
    path.write_bytes(b"".join(parts))
    return path


def read(path: Path) -> tuple[list, Recording]:
    recording = Recording(str(path))
    return [(m.time, m.link, [bytes(part) for part in m.parts]) for m in recording], recording


def test_messages_are_read_as_they_were_written(tmp_path):
    messages, recording = read(written(tmp_path / "a"))
    assert messages == MESSAGES
    assert recording.header["addresses"] == ["tcp://a:1", "tcp://b:1"]
    assert recording.n_cut_off == 0


def test_any_reader_of_msgpack_reads_the_file(tmp_path):
    with written(tmp_path / "a").open("rb") as file:
        first, *messages = msgpack.Unpacker(file)
    assert first["format"] == FORMAT
    assert [tuple(message) for message in messages] == MESSAGES


def test_a_file_that_was_cut_off_is_read_up_to_its_last_whole_message(tmp_path):
    whole = written(tmp_path / "a").read_bytes()
    ends = [len(written(tmp_path / "b", MESSAGES[:n]).read_bytes()) for n in range(len(MESSAGES) + 1)]
    for length in range(ends[0], len(whole)):
        (tmp_path / "c").write_bytes(whole[:length])
        n_whole = sum(end <= length for end in ends) - 1
        messages, recording = read(tmp_path / "c")
        assert messages == MESSAGES[:n_whole]
        assert recording.n_cut_off == length - ends[n_whole]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no recording can be read"),
        (b"CrystFEL stream format 2.3\n", "this is no recording"),
        (b"\x81", "this is no recording"),
        (msgpack.packb({"format": FORMAT, "version": 2}), "of version 2; known is 1"),
        (header({}) + b"\x93\xcb" + bytes(40), "damaged: no message begins at byte 34"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        read(tmp_path / "a")
    with pytest.raises(InputFileError, match="nowhere: no recording can be read: No such file"):
        Recording(str(tmp_path / "nowhere"))


def test_a_file_that_is_being_written_is_not_read(tmp_path):
    with written(tmp_path / "a").open("r+b") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        with pytest.raises(InputFileError, match="another process is writing"):
            Recording(str(tmp_path / "a"))


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_no_damage_gives_anything_but_a_clear_error(tmp_path_factory, tail, at, value):
    path = tmp_path_factory.mktemp("damaged") / "a"
    data = bytearray(written(path).read_bytes() + tail)
    data[min(at, len(data) - 1)] = value
    path.write_bytes(data)
    try:
        messages, _ = read(path)
    except InputFileError:
        return
    assert sum(len(part) for *_, parts in messages for part in parts) <= len(data)
