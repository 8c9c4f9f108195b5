# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.live`: counting in a stream that grows, programs that do not run."""

import sys
import time
from types import SimpleNamespace

import pytest

from gpuidx.errors import SourceError
from gpuidx.measure.live import PATIENCE, Sender, StreamCount, watch
from gpuidx.measure.subject import CYCLE, DISTINCT, BuiltIn, Subject
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings

CHUNKS = (
    b"head\n----- Begin chunk -----\nhit = 1\n--- Begin crystal\n----- End chunk -----\n"
    b"----- Begin chunk -----\nhit = 0\n----- End chunk -----\n"
)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_chunks_are_counted_once_however_they_come(tmp_path, step):
    stream = tmp_path / "a.stream"
    count = StreamCount(stream)
    assert count.look() == 0
    for begin in range(0, len(CHUNKS), step):
        with stream.open("ab") as file:
            file.write(CHUNKS[begin : begin + step])
        count.look()
    assert (count.chunks, count.hits, count.crystals) == (2, 1, 1)


def test_a_program_that_ends_by_itself_is_an_error_with_what_it_said(tmp_path):
    command = [sys.executable, "-c", "print('no such thing')"]
    with pytest.raises(SourceError, match="no such thing"):
        watch(command, tmp_path / "a.stream", 1.0, tmp_path / "log")


def test_a_program_may_be_watched_for_longer_than_its_first_frame_is_waited_for(tmp_path, monkeypatch):
    stream, now = tmp_path / "a.stream", [0.0]

    def sleep(_seconds):
        now[0] += PATIENCE / 20
        with stream.open("ab") as file:
            file.write(CHUNKS)

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep, process_time=time.process_time)
    monkeypatch.setattr("gpuidx.measure.live.time", clock)
    run = watch([sys.executable, "-c", "input()"], stream, 3 * PATIENCE, tmp_path / "log")
    assert run.seconds > 3 * PATIENCE


def test_a_sender_that_cannot_bind_is_an_error(tmp_path):
    with (
        pytest.raises(SourceError, match="cannot serve at ipc:///no/such/a"),
        Sender([], "push", "ipc:///no/such/a"),
    ):
        pass


@pytest.mark.parametrize(("share", "n_hit"), [(0.0, 0), (0.01, 10), (0.2, 200), (0.55, 550), (1.0, 1000)])
def test_hits_are_as_many_as_asked_for_and_evenly_spread(tmp_path, share, n_hit):
    subject = Subject(tmp_path, BuiltIn(64), FrameSettings(), EncodeSettings())
    series = subject.series(share)
    pixels = 64 * 64 * 4  # at the end of each message
    hits = {bytes(one.data[-pixels:]) for one in subject.hits}
    shown = [bytes(next(series).parts[0])[-pixels:] in hits for _ in range(CYCLE)]
    assert sum(shown) == n_hit
    if share == 0.2:
        assert shown == [False, False, False, False, True] * 200
    assert len(subject.blanks) == len(subject.hits) == DISTINCT
