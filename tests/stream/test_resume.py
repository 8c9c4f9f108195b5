# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream of an earlier run, cut anywhere, is gone on with behind its last whole chunk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.errors import StreamError
from gpuidx.flow.output import Output
from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import default_geometry
from gpuidx.stream.head import head_bytes
from gpuidx.stream.lost import lost_chunk
from gpuidx.stream.reader import read_stream
from gpuidx.stream.resume import message_key, read_earlier


def head_of(size):
    return head_bytes("0.1.0", ["gpuidx"], parse_geometry(default_geometry(size), "test.geom"), None, None)


HEAD = head_of(64)
CHUNKS = [
    lost_chunk("a.data", "//", 1, "run1", "made up"),
    lost_chunk("b.data", "//3", 2, "run1", "made up"),
    lost_chunk("c.data", "//", 7, "run2", "made up"),
    lost_chunk("d.h5", "entry//4", 9, "", "made up"),
]
KEYS = [("run1", 1), ("run1//3", 2), ("run2", 7)]
WHOLE = HEAD + b"".join(CHUNKS)
ENDS = [len(HEAD) + sum(map(len, CHUNKS[:n])) for n in range(len(CHUNKS) + 1)]


@given(st.integers(0, len(WHOLE)))
def test_any_cut_leaves_the_whole_chunks(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "out.stream"
    path.write_bytes(WHOLE[:cut])
    earlier = read_earlier(str(path), HEAD)
    n_whole = sum(cut >= end for end in ENDS[1:])
    assert earlier.n_chunk == n_whole
    if n_whole:
        assert earlier.size == ENDS[n_whole]
    else:
        assert earlier.size in (0, len(HEAD))
    assert [key in earlier.messages for key in KEYS] == [n < n_whole for n in range(3)]
    assert len(earlier.messages) == min(n_whole, 3)
    assert earlier.frames == ({("d.h5", "entry//4")} if n_whole == 4 else set())
    assert earlier.last_serial == (9 if n_whole == 4 else None)


@pytest.mark.parametrize(
    "cut", [len(HEAD) // 2, len(HEAD) - 5, len(HEAD), ENDS[1] - 3, ENDS[2], ENDS[3] + 20]
)
def test_what_is_written_behind_a_cut_can_be_read(tmp_path, cut):
    path = tmp_path / "out.stream"
    path.write_bytes(WHOLE[:cut])
    earlier = read_earlier(str(path), HEAD)
    out = Output(str(path), HEAD, keep=earlier.size)
    for chunk in CHUNKS[earlier.n_chunk :]:
        out.write(chunk)
    out.close()
    assert path.read_bytes() == WHOLE
    with read_stream(path) as stream:
        assert [chunk.serial for chunk in stream.chunks] == [1, 2, 7, 9]


@pytest.mark.parametrize("content", [b"", None])
def test_there_may_be_nothing_to_go_on_with(tmp_path, content):
    path = tmp_path / "out.stream"
    if content is not None:
        path.write_bytes(content)
    earlier = read_earlier(str(path), HEAD)
    assert (earlier.size, earlier.n_chunk) == (0, 0)


@pytest.mark.parametrize("content", [head_of(128) + CHUNKS[0], b"something else\n" * 90])
def test_another_geometry_or_another_file_is_refused(tmp_path, content):
    path = tmp_path / "out.stream"
    path.write_bytes(content)
    with pytest.raises(StreamError, match="another geometry, or is none"):
        read_earlier(str(path), HEAD)


def test_a_second_writer_is_refused(tmp_path):
    path = str(tmp_path / "out.stream")
    first = Output(path, HEAD)
    with pytest.raises(StreamError, match="another process is writing"):
        Output(path, HEAD, keep=len(HEAD))
    first.close()
    Output(path, HEAD, keep=len(HEAD)).close()


def test_frames_of_a_message_with_several_are_known_apart():
    keys = {message_key("run1", 5, event) for event in ("//", "//0", "//1")}
    assert len(keys) == 3
    assert message_key("run1", 5, "//") == ("run1", 5)
