# SPDX-License-Identifier: GPL-3.0-or-later
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuidx.errors import StreamError
from gpuidx.flow import output
from gpuidx.flow.output import Output


@contextmanager
def file_size_limit(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_head_and_chunks_stand_in_the_file_at_once(tmp_path):
    path = tmp_path / "out.stream"
    path.write_text("head\nand something longer from an earlier run")
    out = Output(str(path), b"head\n")
    assert path.read_bytes() == b"head\n"
    out.write(b"one\n")
    out.write(memoryview(bytearray(b"two\n")))
    assert path.read_bytes() == b"head\none\ntwo\n"
    assert (out.size, out.n_chunk) == (13, 2)
    out.close()
    out.close()


@pytest.mark.parametrize("found", [b"photon_energy = 9000 eV\n", b"\x89HDF", b"he", b"head form 1\n"])
def test_a_file_that_is_no_output_is_not_overwritten(tmp_path, found):
    path = tmp_path / "detector.geom"
    path.write_bytes(found)
    with pytest.raises(StreamError, match="is not an output of an earlier run"):
        Output(str(path), b"head format 2.3\n")
    assert path.read_bytes() == found


def test_an_output_of_another_version_is_overwritten(tmp_path):
    path = tmp_path / "out.stream"
    path.write_bytes(b"head format 2.2\nchunk\n")
    Output(str(path), b"head format 2.3\n").close()
    assert path.read_bytes() == b"head format 2.3\n"


def test_an_output_without_head_is_recognised_by_a_function(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"ours and more")
    Output(str(path), is_ours=lambda begin: begin.startswith(b"ours")).close()
    assert path.read_bytes() == b""
    path.write_bytes(b"theirs")
    with pytest.raises(StreamError, match="is not an output of an earlier run"):
        Output(str(path), is_ours=lambda begin: begin.startswith(b"ours"))
    assert path.read_bytes() == b"theirs"


def test_an_empty_file_is_overwritten(tmp_path):
    path = tmp_path / "out.stream"
    path.touch()
    Output(str(path), b"head format 2.3\n").close()
    assert path.read_bytes() == b"head format 2.3\n"


def test_a_chunk_that_does_not_fit_is_taken_back_as_a_whole(tmp_path):
    path = tmp_path / "out.stream"
    out = Output(str(path), b"head\n")
    out.write(b"x" * 95)
    with file_size_limit(150), pytest.raises(StreamError, match=r"out\.stream: cannot be written: ") as error:
        out.write(b"y" * 100)
    assert error.value.exit_code == 5
    assert path.read_bytes() == b"head\n" + b"x" * 95
    out.write(b"z")  # room again
    assert path.read_bytes() == b"head\n" + b"x" * 95 + b"z"
    assert (out.size, out.n_chunk) == (101, 2)
    out.close()


def test_a_write_that_stops_short_is_gone_on_with(tmp_path, monkeypatch):
    path = tmp_path / "out.stream"
    out = Output(str(path))
    write = os.write
    monkeypatch.setattr(output.os, "write", lambda fd, data: write(fd, data[:3]))
    out.write(b"12345678")
    monkeypatch.undo()
    out.close()
    assert path.read_bytes() == b"12345678"


def test_a_head_that_does_not_fit_is_an_error(tmp_path):
    with file_size_limit(10), pytest.raises(StreamError, match="cannot be written"):
        Output(str(tmp_path / "out.stream"), b"x" * 11)
    assert (tmp_path / "out.stream").read_bytes() == b""


@pytest.mark.parametrize("name", ["nowhere/out.stream", ".", "a\0b"])
def test_a_file_that_cannot_be_created_is_an_error(tmp_path, name):
    with pytest.raises(StreamError, match="cannot be created") as error:
        Output(str(tmp_path / name))
    assert error.value.exit_code == 5


def test_a_file_that_is_being_written_is_not_touched(tmp_path):
    path = tmp_path / "out.stream"
    first = Output(str(path), b"first")
    with pytest.raises(StreamError, match="another process is writing this file"):
        Output(str(path), b"first 2")
    first.close()
    assert path.read_bytes() == b"first"
    Output(str(path), b"first 2").close()
    assert path.read_bytes() == b"first 2"


def test_devices_may_be_shared_and_take_nothing_back():
    outputs = [Output("/dev/null", b"head") for _ in range(2)]
    for out in outputs:
        out.write(b"chunk")
        out.close()
    with pytest.raises(StreamError, match="No space left"):
        Output("/dev/full", b"head")


def test_a_pipe_without_a_reader_is_an_error(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    out = Output(str(path), b"head")
    assert os.read(reader, 10) == b"head"
    os.close(reader)
    with pytest.raises(StreamError, match="Broken pipe"):
        out.write(b"chunk")
    out.close()


def test_no_error_leaves_a_file_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StreamError):
        Output("/dev/full", b"head")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
