# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks for the child that has worked for them before."""

import os
import signal

import pytest
from flow.driver import watch


def _of_one(driver):
    """A child that has answered a task, and its process number."""
    (answer,) = driver.run((0, "tell"))
    return answer.child, answer.values[0]


def test_a_task_goes_to_the_child_it_is_for(drive):
    d = drive(count=3)
    d.until_ready()
    child, pid = _of_one(d)
    for i in range(1, 9):
        d.pool.give((i, "tell"), child)
    assert d.pool.n_waiting == d.pool.n_task == 8
    d.run()
    assert {d.answers[i][0] for i in range(1, 9)} == {pid}


def test_a_task_for_a_child_goes_before_those_for_anybody(drive):
    d = drive(depth=1)
    child, _ = _of_one(d)
    for i in (1, 2):
        d.pool.give((i, "echo"))
    d.pool.give((3, "echo"), child)
    d.pool.give((4, "echo"), child)
    d.run()
    assert list(d.answers) == [0, 3, 4, 1, 2]


def test_a_task_for_a_busy_child_waits_while_others_are_idle(drive):
    d = drive(count=2, depth=1)
    d.until_ready()
    child, pid = _of_one(d)
    d.pool.give((1, "hold"), child)
    d.pool.give((2, "tell"), child)
    d.run_only((3, "tell"))
    assert d.answers[3][0] != pid
    assert (d.pool.n_waiting, d.pool.n_task) == (1, 2)


def test_a_task_goes_to_anybody_if_its_child_dies_before_it(drive):
    d = drive(count=2, depth=1)
    d.until_ready()
    child, pid = _of_one(d)
    d.pool.give((1, "hold"), child)
    d.pool.give((2, "tell"), child)
    d.until(lambda: child.tasks)
    d.until(lambda: any(row[0] == 1 for row in d.pool._rows))
    os.kill(pid, signal.SIGKILL)
    d.run()
    assert list(d.crashes) == [1]
    assert d.answers[2][0] != pid


@pytest.mark.parametrize("noticed", [True, False])
def test_a_task_for_a_dead_child_goes_to_anybody(drive, noticed):
    d = drive(count=2)
    d.until_ready()
    child, pid = _of_one(d)
    with watch([pid]) as wait:
        os.kill(pid, signal.SIGKILL)
        wait()
    if noticed:
        d.until(lambda: d.pool.restarts)
    d.pool.give((1, "tell"), child)
    d.run()
    assert d.answers[1][0] != pid
    assert not d.crashes


def test_a_death_within_a_packet_loses_the_task_it_was_at_and_no_answer_before_it(drive):
    d = drive(count=2, depth=8, batch=8)
    d.until_ready()
    child, pid = _of_one(d)
    for task in [(1, "tell"), (2, "die"), (3, "tell"), (4, "tell")]:
        d.pool.give(task, child)
    d.run()
    assert d.crashes == {2: ("SIGKILL", "")}
    assert d.answers[1][0] == pid
    assert pid not in (d.answers[3][0], d.answers[4][0])


def test_a_task_given_first_goes_before_others(drive):
    d = drive(depth=1)
    d.pool.give((1, "echo"))
    d.pool.give((2, "echo"), first=True)
    d.run()
    assert list(d.answers) == [2, 1]


def test_a_close_gives_back_tasks_that_waited_for_a_child(drive):
    d = drive(depth=1)
    child, _ = _of_one(d)
    d.pool.give((1, "hold"), child)
    d.pool.give((2, "hold"), child)
    d.until(lambda: child.tasks)
    assert sorted(task[0] for task in d.pool.close(now=True)) == [1, 2]
