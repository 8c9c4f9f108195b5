# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that have many tasks under way at once, as the process of a device has."""

import logging
import os
import signal

import pytest
from flow.driver import watch

from gpuidx.flow import member


@pytest.fixture
def together(drive):
    def make(count=1, args=(), **options):
        options = {"depth": 100, "batch": 100, "shared_fate": True} | options
        return drive("flow.bodies:together", count, args, **options)

    return make


def test_answers_to_many_tasks_come_together(together):
    d = together()
    d.until_ready()
    d.run(*[(i, "keep") for i in range(40)], (40, "flush"))
    assert sorted(d.answers) == list(range(41))


def test_all_tasks_of_a_dead_child_end_with_it(together):
    d = together()
    d.until_ready()
    d.run_only((0, "flush"))
    d.run(*[(i, "keep") for i in range(1, 30)], (30, "die"))
    assert d.crashes == dict.fromkeys(range(1, 31), ("SIGKILL", ""))


def test_tasks_of_other_children_do_not_end_with_it(together):
    d = together(count=2)
    d.until_ready()
    for task in [(20, "keep"), (21, "keep")]:
        d.pool.give(task)
    d.until(lambda: all(child.tasks for child in d.pool._ready))
    first, second = d.pool._ready
    os.kill(first.process.pid, signal.SIGKILL)
    lost = list(first.tasks)
    d.until(lambda: d.crashes)
    assert list(d.crashes) == lost
    assert second.load() == 1


def test_a_child_that_shows_no_sign_of_life_is_replaced_with_all_its_tasks(together):
    d = together(task_limit=0.2)
    d.run((1, "keep"), (2, "keep"))
    assert d.crashes == {1: ("time limit", ""), 2: ("time limit", "")}


def test_a_child_that_works_is_replaced_as_often_as_it_dies(together):
    d = together()
    for i in range(0, 10, 2):
        d.run_only((i, "flush"))
        d.run_only((i + 1, "die"))
    assert sorted(d.answers) == [0, 2, 4, 6, 8]
    assert sorted(d.crashes) == [1, 3, 5, 7, 9]
    assert not d.pool.given_up


def test_a_place_whose_children_die_without_an_answer_is_given_up(together, monkeypatch):
    monkeypatch.setattr(member, "BACK_OFF", (0.0,))
    d = together()
    for i in range(3):
        d.run_only((i, "die"))
    assert sorted(d.crashes) == [0, 1, 2]
    assert d.pool.given_up == ["worker 0 ended 3 times before it had worked: SIGKILL"]
    assert not d.pool.pids()


def test_other_children_go_on_when_one_is_given_up(together, monkeypatch, caplog):
    monkeypatch.setattr(member, "BACK_OFF", (0.0,))
    caplog.set_level(logging.INFO)
    d = together(count=2, args=((0,),))
    d.until(lambda: d.pool.given_up)
    assert "worker 0 ended 3 times before it was ready: ValueError: device 0 is broken" in d.pool.given_up[0]
    d.run((1, "flush"))
    assert d.answers == {1: (1,)}


def test_nothing_is_raised_when_all_are_given_up_and_tasks_come_back(together, monkeypatch):
    monkeypatch.setattr(member, "BACK_OFF", (0.0,))
    d = together(count=2, args=((0, 1),))
    d.pool.give((1, "keep"))
    d.until(lambda: len(d.pool.given_up) == 2)
    assert d.pool.close() == [(1, "keep")]


def test_a_child_ends_when_main_closes_its_channel(together):
    d = together()
    d.until_ready()
    with watch(d.pool.pids()) as wait:
        d.pool.close()
        wait()
