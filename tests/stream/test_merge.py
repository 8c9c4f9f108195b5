# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a stream are joined: each frame once, whole chunks only, serial numbers that tell frames apart."""

import os
import signal

import pytest

from gpuidx.cell import parse_cell
from gpuidx.commands.merge import main
from gpuidx.errors import InputFileError, StreamError
from gpuidx.flow.output import Output
from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.stream.head import head_bytes
from gpuidx.stream.lost import lost_chunk
from gpuidx.stream.merge import Merger
from gpuidx.stream.reader import read_stream


def head_of(size=64, cell=None):
    geometry = parse_geometry(default_geometry(size), "test.geom")
    return head_bytes("0.1.0", ["gpuidx", "-o", "out.%r.stream"], geometry, cell, None)


HEAD = head_of()


def chunk(filename, event, serial, *lines):
    """A whole chunk with these lines among its names."""
    return "\n".join(
        [
            "----- Begin chunk -----", f"Image filename: {filename}", f"Event: {event}",
            f"Image serial number: {serial}", "hit = 1", *lines, "photon_energy_eV = 9500.0",
            "num_peaks = 0", "----- End chunk -----", "",
        ]
    ).encode()  # fmt: skip


def asapo(number, stream="run1", event="//"):
    return chunk(f"f{number}.h5", event, number, f"gpuidx/asapo_stream = {stream}")


def streamed(serial, *lines):
    return chunk("ZMQdata", f"//{serial}", serial, *lines)


@pytest.fixture
def merged(tmp_path):
    """Joins parts, given as bytes, with further words of the command line."""

    def merge(*parts, words=()):
        paths = []
        for number, part in enumerate(parts):
            paths.append(str(tmp_path / f"part.{number}"))
            (tmp_path / f"part.{number}").write_bytes(part)
        assert main([str(tmp_path / "out"), *paths, *words]) == 0
        with read_stream(tmp_path / "out") as stream:
            assert "gpuidx -o out.%r.stream" in stream.audit
            found = list(stream.chunks)
        assert (tmp_path / "out").read_bytes().startswith(HEAD)
        return found

    return merge


def test_messages_of_asapo_are_known_by_stream_id_and_frame(merged, caplog):
    caplog.set_level("INFO")
    first = [asapo(7), asapo(8, event="//0"), asapo(8, event="//1"), asapo(9)]
    second = [asapo(9), asapo(7, stream="run2"), asapo(8, event="//1"), asapo(10)]
    found = merged(HEAD + b"".join(first), HEAD + b"".join(second))
    assert [(c.notes["gpuidx/asapo_stream"], c.serial, c.event) for c in found] == [
        ("run1", 7, "//"), ("run1", 8, "//0"), ("run1", 8, "//1"), ("run1", 9, "//"),
        ("run2", 7, "//"), ("run1", 10, "//"),
    ]  # fmt: skip
    assert "6 frames from 2 parts; 2 left out" in caplog.text


def test_frames_are_known_by_the_detectors_number_the_file_or_a_copied_header_and_else_never(merged, caplog):
    ids = [streamed(1, "gpuidx/source_id = S1/5"), streamed(2, "gpuidx/source_id = S1/5")]
    files = [chunk("a.h5", "entry//3", 1), chunk("a.h5", "entry//3", 9), chunk("a.h5", "entry//4", 9)]
    found = merged(HEAD + ids[0] + files[0], HEAD + ids[1] + files[1] + files[2] + streamed(3) + streamed(3))
    assert [(c.filename, c.event, c.serial) for c in found] == [
        ("ZMQdata", "//1", 1), ("a.h5", "entry//3", 2), ("a.h5", "entry//4", 3),
        ("ZMQdata", "//4", 4), ("ZMQdata", "//5", 5),
    ]  # fmt: skip
    assert "2 frames without a name of the source" in caplog.text


def test_a_copied_header_can_tell_frames_apart(merged):
    parts = [HEAD + streamed(serial, f"header/int/frame = {n}") for serial, n in enumerate((4, 5, 4))]
    assert [c.headers["frame"] for c in merged(*parts, words=["--by=frame"])] == [4, 5]


def test_what_was_cut_off_in_mid_chunk_is_left_out(merged, caplog):
    half = asapo(3).partition(b"num_peaks")[0]
    found = merged(HEAD + asapo(1) + half, HEAD + asapo(2) + half + asapo(4), b"", HEAD[:40])
    assert [c.serial for c in found] == [1, 2, 4]
    assert f"part.0: {len(half)} bytes are no whole chunk" in caplog.text
    assert f"part.1: {len(half)} bytes are no whole chunk" in caplog.text
    assert "part.2: nothing in it yet" in caplog.text
    assert "part.3: nothing in it yet" in caplog.text


def test_a_frame_that_was_lost_in_one_part_and_done_in_another_is_not_lost(merged):
    lost = [lost_chunk("f.h5", "//", number, "run1", "made up") for number in (1, 2)]
    found = merged(HEAD + lost[0] + lost[1], HEAD + asapo(2) + asapo(3))
    assert [(c.serial, "gpuidx/lost" in c.notes) for c in found] == [(2, False), (3, False), (1, True)]


@pytest.mark.parametrize("other", [head_of(128), head_of(cell=parse_cell(LYSOZYME, "test.cell"))])
def test_parts_with_another_geometry_or_cell_are_joined_by_force_only(tmp_path, merged, other):
    with pytest.raises(
        InputFileError, match=r"part\.1: the (geometry|target cell) is another one than in .*0"
    ):
        merged(HEAD + asapo(1), other + asapo(2))
    assert not (tmp_path / "out").exists()
    assert len(merged(HEAD + asapo(1), other + asapo(2), words=["--force"])) == 2


def test_what_is_no_stream_or_nothing_at_all_is_refused(merged):
    with pytest.raises(InputFileError, match=r"part\.1: this is no CrystFEL stream"):
        merged(HEAD + asapo(1), b"clen = 0.1\n")
    with pytest.raises(InputFileError, match="nothing to join"):
        merged(b"", HEAD[:40])


def test_an_existing_stream_is_never_overwritten(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(HEAD + asapo(1))
    with pytest.raises(StreamError, match="exists already"):
        main([str(tmp_path / "a"), str(tmp_path / "b")])
    assert (tmp_path / "a").read_bytes() == HEAD + asapo(1)


def test_a_part_that_a_run_is_writing_is_taken_as_it_is(tmp_path, caplog):
    part = Output(str(tmp_path / "part"), HEAD)
    try:
        part.write(asapo(1))
        assert main([str(tmp_path / "out"), str(tmp_path / "part")]) == 0
    finally:
        part.close()
    assert "a run is still writing it" in caplog.text
    assert (tmp_path / "out").read_bytes() == HEAD + asapo(1)


def test_a_frame_without_the_header_value_is_known_by_what_it_has_else(merged):
    lost = lost_chunk("f.h5", "//", 7, "run1", "made up")
    done = asapo(7).replace(b"num_peaks", b"header/int/frame = 4\nnum_peaks", 1)
    assert [(c.serial, c.headers) for c in merged(HEAD + lost, HEAD + done, words=["--by=frame"])] == [
        (7, {"frame": 4})
    ]


def test_a_part_that_is_named_twice_is_taken_once(tmp_path, caplog):
    (tmp_path / "part").write_bytes(HEAD + streamed(1))
    (tmp_path / "same").symlink_to("part")
    assert main([str(tmp_path / name) for name in ("out", "part", "part", "same")]) == 0
    assert (tmp_path / "out").read_bytes() == HEAD + streamed(1)
    assert caplog.text.count("named before") == 2


def test_what_is_stopped_in_the_middle_leaves_no_stream(tmp_path, monkeypatch):
    (tmp_path / "part").write_bytes(HEAD + asapo(1))

    def add(merger, path):
        assert (tmp_path / "out.unfinished").exists()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Merger, "add", add)
    with pytest.raises(KeyboardInterrupt):
        main([str(tmp_path / "out"), str(tmp_path / "part")])
    assert [path.name for path in tmp_path.iterdir()] == ["part"]
