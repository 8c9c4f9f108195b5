# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are not there yet: they are waited for, and the others go on."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from sources.driving import Loop
from sources.test_files import GEOMETRY, hdf5, list_file

from gpuidx.sources import files, waiting
from gpuidx.sources.expand import Answer
from gpuidx.sources.files import Files
from gpuidx.sources.waiting import LOOK_AGAIN, READ_AGAIN, Late, Waiting

ABSENT, BROKEN, FOUND = Answer(absent=True), Answer(error="no"), Answer([("", [1])])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def geometry(tmp_path: Path) -> str:
    (tmp_path / "test.geom").write_text(GEOMETRY)
    return str(tmp_path / "test.geom")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(waiting, "READ_AGAIN", 0.02)


def test_nothing_is_waited_for_unless_asked(clock):
    assert not Waiting(0, clock).keeps(Late("a"), BROKEN)


def test_a_file_is_looked_for_every_second_until_the_limit(clock):
    queue, file = Waiting(3, clock), Late("a")
    looks = 1
    while queue.keeps(file, ABSENT):
        assert queue.take_due() is None
        clock.now += LOOK_AGAIN
        assert queue.take_due() is file
        looks += 1
    assert (looks, clock.now) == (4, 103.0)


def test_minus_one_waits_for_ever(clock):
    queue, file = Waiting(-1, clock), Late("a")
    for _ in range(5):
        assert queue.keeps(file, ABSENT)
        clock.now += 1e6
        assert queue.take_due() is file


def test_the_limit_begins_anew_when_an_awaited_file_comes(clock):
    queue, early, late = Waiting(3, clock), Late("a"), Late("b")
    assert queue.keeps(early, ABSENT)
    assert queue.keeps(late, ABSENT)
    clock.now += 2
    assert not queue.keeps(queue.take_due(), FOUND)
    for wait, kept in ((2, True), (0.5, True), (0.5, False)):
        clock.now += wait
        assert queue.keeps(late, ABSENT) is kept


def test_a_file_that_was_there_at_once_is_no_reason_to_wait_longer(clock):
    queue, file = Waiting(3, clock), Late("a")
    assert queue.keeps(file, ABSENT)
    clock.now += 2
    assert not queue.keeps(Late("b"), FOUND)
    clock.now += 1
    assert not queue.keeps(file, ABSENT)


def test_a_file_that_cannot_be_read_is_tried_once_more(clock):
    queue, file = Waiting(3, clock), Late("a")
    assert queue.keeps(file, BROKEN)
    clock.now += READ_AGAIN - 0.1
    assert queue.take_due() is None
    clock.now += 0.1
    assert queue.take_due() is file
    assert not queue.keeps(file, BROKEN)


def names(loop: Loop) -> list[str]:
    return [f"{Path(taken.filename).name} {taken.event}" for taken in loop.taken]


def test_the_others_go_on_while_a_file_is_waited_for(tmp_path, geometry, quick):
    there = [hdf5(tmp_path / f"{i}.h5", 1) for i in range(20)]
    lines = [there[0], str(tmp_path / "late.h5"), f"{tmp_path}/later.h5 //0", *there[1:]]
    with Loop(Files(list_file(tmp_path, *lines), geometry, wait=-1)) as loop:
        loop.receive(20)
        assert names(loop) == [f"{i}.h5 //0" for i in range(20)]
        assert not loop.source.ended()
        hdf5(tmp_path / "later.h5", 1)
        loop.receive(21)
        hdf5(tmp_path / "late.h5", 2)
        loop.until(loop.source.ended)
    assert names(loop)[20:] == ["later.h5 //0", "late.h5 //0", "late.h5 //1"]
    assert not any(loop.reasons)


def test_a_file_that_never_comes_is_rejected_and_the_run_goes_on(tmp_path, geometry, quick):
    good = hdf5(tmp_path / "good.h5", 1)
    with Loop(Files(list_file(tmp_path, "none.h5", "none.h5 //3", good), geometry, wait=1)) as loop:
        loop.until(loop.source.ended)
    assert sorted(names(loop)) == ["good.h5 //0", "none.h5 //", "none.h5 //3"]
    assert loop.taken[1].rejected == (
        "file cannot be read", "none.h5: not there after waiting for it (--wait-for-file)"
    )  # fmt: skip


def test_a_file_is_read_when_its_writer_has_finished(tmp_path, geometry, quick, monkeypatch):
    monkeypatch.setattr(waiting, "READ_AGAIN", 0.5)
    whole = Path(hdf5(tmp_path / "whole.h5", 2)).read_bytes()
    (tmp_path / "part.h5").write_bytes(whole[:-50])
    with Loop(Files(list_file(tmp_path, str(tmp_path / "part.h5")), geometry, wait=5)) as loop:
        loop.until(lambda: len(loop.source._waiting) > 0)
        (tmp_path / "part.h5").write_bytes(whole)
        loop.until(loop.source.ended)
    assert names(loop) == ["part.h5 //0", "part.h5 //1"]


def test_only_so_many_files_are_waited_for_at_once(tmp_path, geometry, quick, monkeypatch):
    monkeypatch.setattr(files, "MOST_LATE", 10)
    lines = [f"{tmp_path}/{i}.h5" for i in range(30)]
    with Loop(Files(list_file(tmp_path, *lines), geometry, wait=-1)) as loop:
        loop.until(lambda: len(loop.source._waiting) >= 10)
        for _ in range(5):
            loop.turn()
        assert len(loop.source._waiting) < 20
        for line in lines:
            with h5py.File(line, "w") as file:
                file["data"] = np.zeros((1, 3, 4), "u2")
        loop.until(loop.source.ended)
    assert sorted(names(loop)) == sorted(f"{i}.h5 //0" for i in range(30))


def test_a_stop_ends_the_wait(tmp_path, geometry, quick):
    with Loop(Files(list_file(tmp_path, "none.h5"), geometry, wait=-1)) as loop:
        loop.until(lambda: len(loop.source._waiting) > 0)
        loop.source.stop()
        assert loop.source.ended()
