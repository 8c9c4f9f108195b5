# SPDX-License-Identifier: GPL-3.0-or-later
import logging
import os
import random
import signal
import time
from contextlib import suppress

import pytest
from flow.bodies import Untouchable
from flow.driver import PATIENCE, watch

from gpuidx.errors import WorkerError
from gpuidx.flow import member, platform
from gpuidx.flow.forkserver import forkserver_pid, start_forkserver
from gpuidx.flow.slots import Slots


def test_answers_carry_the_task_and_the_values(drive):
    d = drive(count=2, depth=3, batch=2)
    d.run(*[(i, "echo", "name\udcff", 2.5, b"x", [1, 2], None) for i in range(20)])
    assert d.answers == dict.fromkeys(range(20), ("name\udcff", 2.5, b"x", (1, 2), None))


def test_tasks_go_to_the_child_with_the_fewest(drive):
    d = drive(count=2, depth=4, batch=4)
    d.until_ready()
    for i in range(6):
        d.pool.give((i, "hold"))
    d.pool.hand_out()
    assert sorted(child.load() for child in d.pool._ready) == [3, 3]
    assert d.pool.room() == 2


def test_a_child_has_no_more_than_its_depth(drive):
    d = drive(depth=3, batch=2)
    d.until_ready()
    for i in range(5):
        d.pool.give((i, "hold"))
    d.pool.hand_out()
    assert d.pool.n_waiting == 2
    assert d.pool.n_task == 5
    assert d.pool.room() == 0


def test_a_worker_killed_while_idle_costs_nothing(drive):
    d = drive()
    d.until_ready()
    os.kill(d.pool.pids()[0], signal.SIGKILL)
    d.until(lambda: d.pool.restarts == 1)
    d.run((1, "echo", 5))
    assert d.answers == {1: (5,)}
    assert not d.crashes


def test_a_worker_killed_at_a_task_costs_this_task(drive):
    d = drive(depth=4, batch=4)
    d.until_ready()
    d.pool.give((7, "hold"))
    d.until(lambda: d.pool._rows[0][0] == 7)
    os.kill(d.pool.pids()[0], signal.SIGKILL)
    d.until(lambda: d.done)
    assert d.crashes == {7: ("SIGKILL", "")}


def test_queued_tasks_of_a_dead_worker_go_to_another_in_order(drive):
    d = drive(depth=8, batch=8)
    d.run((0, "echo"), (1, "die", int(signal.SIGSEGV)), *[(i, "echo") for i in range(2, 12)])
    assert d.crashes == {1: ("SIGSEGV", "")}
    assert list(d.answers) == [0, *range(2, 12)]
    assert d.pool.restarts == 1


def test_a_task_with_serial_zero_can_crash(drive):
    d = drive(depth=2, batch=2)
    d.run((0, "die"), (1, "echo"))
    assert list(d.crashes) == [0]
    assert list(d.answers) == [1]


def test_all_answers_before_a_death_are_read(drive):
    d = drive(depth=64, batch=1)
    d.until_ready()
    for i in range(40):
        d.pool.give((i, "echo", i) if i != 30 else (i, "die"))
    with watch(d.pool.pids()) as wait:
        d.pool.hand_out()  # forty packets, nine of them unread at the death: a reset comes before the answers
        wait()
    d.done += d.pool.collect(dict(d.poller.poll(1000)))
    assert sorted(d.answers) == list(range(30))
    assert list(d.crashes) == [30]
    d.run()
    assert sorted(d.answers) == [i for i in range(40) if i != 30]


def test_a_death_between_the_chunk_and_the_answer_loses_this_task_alone(drive):
    slots = Slots(2, 4096)
    slots[0][:7] = slots[1][:7] = b"message"
    d = drive(args=(slots,), depth=4, batch=4)
    d.run((1, "write_and_die", 0, b"chunk"), (2, "write", 1, b"CHUNK"))
    assert d.crashes == {1: ("SIGKILL", "")}
    assert d.answers == {2: (5,)}
    assert bytes(slots[1][:7]) == b"CHUNKge"
    slots.close()


def test_an_exception_is_the_reason_of_the_crash(drive):
    d = drive()
    d.run((1, "blame", "bad luck"), (2, "echo"))
    assert d.crashes == {1: ("ValueError", "bad luck")}
    assert list(d.answers) == [2]


def test_the_exit_code_is_the_reason_of_the_crash(drive):
    d = drive()
    d.run((1, "leave", 3), (2, "echo"))
    assert d.crashes == {1: ("exit 3", "")}


def test_a_task_without_an_answer_is_an_error_of_the_body(drive):
    d = drive()
    d.run((1, "forget"))
    assert d.crashes == {1: ("RuntimeError", "task 1 was not answered")}


@pytest.mark.parametrize("action", ["hold", "loop", "freeze"])
def test_a_worker_beyond_the_time_limit_is_replaced(drive, action):
    d = drive(depth=4, batch=4, task_limit=0.2)
    d.until_ready()
    for task in [(1, action), (2, "echo"), (3, "echo")]:
        d.pool.give(task)
    d.until(lambda: d.crashes)
    d.pool.task_limit = 30.0
    d.run()
    assert d.crashes == {1: ("time limit", "")}
    assert list(d.answers) == [2, 3]


def test_a_worker_stopped_while_idle_loses_no_task(drive):
    d = drive(task_limit=0.2)
    d.until_ready()
    os.kill(d.pool.pids()[0], signal.SIGSTOP)
    d.pool.give((1, "echo"))
    d.until(lambda: d.pool.restarts)
    d.pool.task_limit = 30.0
    d.run()
    assert list(d.answers) == [1]
    assert d.pool.restarts == 1


def test_a_pause_of_main_is_not_held_against_children(drive):
    d = drive(task_limit=5.0)
    d.until_ready()
    d.pool.give((1, "hold"))
    d.until(lambda: d.pool._rows[0][0] == 1)
    d.pool._checked -= 100.0  # as if main had been stopped for as long
    for child in d.pool._ready:
        child.since -= 100.0
    d.turn()
    assert not d.pool.restarts
    assert d.pool.n_ready == 1


def test_a_worker_that_hangs_at_its_start_is_given_up(drive):
    d = drive("flow.bodies:hang", start_limit=0.05)
    with pytest.raises(WorkerError, match="ended 3 times before it was ready: not ready in time"):
        d.until(lambda: False)


def test_a_worker_never_ready_ends_the_run_with_its_own_error_after_three_starts(drive, tmp_path):
    starts = tmp_path / "starts"
    d = drive("flow.bodies:never_ready", args=(str(starts),))
    with pytest.raises(WorkerError, match=r"worker 0 ended 3 times .* ImportError: no module named"):
        d.until(lambda: False)
    assert len(starts.read_text().splitlines()) == 3


def test_a_worker_that_others_kill_at_its_start_is_tried_for_longer(drive, monkeypatch):
    monkeypatch.setattr(member, "BACK_OFF", (0.0,))
    monkeypatch.setattr(member, "MOST_KILLED_STARTS", 7)
    d = drive("flow.bodies:hang")
    for n in range(member.MOST_KILLED_STARTS - 1):
        os.kill(d.pool.pids()[0], signal.SIGKILL)
        d.until(lambda n=n: d.pool.restarts == n + 1 and d.pool.pids())
    os.kill(d.pool.pids()[0], signal.SIGKILL)
    with pytest.raises(WorkerError, match="worker 0 ended 7 times before it was ready: SIGKILL"):
        d.until(lambda: False)


@pytest.mark.parametrize(
    ("body", "args", "text"),
    [
        ("flow.nowhere:obey", (), "ModuleNotFoundError: No module named 'flow.nowhere'"),
        ("flow.bodies:obey", (Untouchable(),), "RuntimeError: this cannot be unpickled"),
    ],
)
def test_a_start_that_cannot_succeed_says_why(drive, body, args, text):
    d = drive(body, args=args)
    with pytest.raises(WorkerError, match=text):
        d.until(lambda: False)


def test_a_worker_that_leaves_when_ready_is_started_ever_more_slowly(drive, tmp_path):
    starts = tmp_path / "starts"
    d = drive("flow.bodies:ready_and_gone", args=(str(starts),))
    d.until(lambda: d.pool.restarts == 3)
    place = d.pool._places[0]
    assert len(starts.read_text().splitlines()) == 3
    assert place.child is None


@pytest.mark.parametrize("data", [b"\xc1", b"", b"\x05", b"\x91\x05", b"\x91\x91\x63", b"\x91\x91\xa5ready"])
def test_a_worker_that_sends_nonsense_is_replaced_and_its_tasks_counted(drive, data):
    d = drive(depth=3, batch=3)
    d.run((1, "babble", data), (2, "echo"))
    assert [reason for reason, _ in d.crashes.values()] == ["bad answer"] * 2
    d.run((3, "echo"))
    assert list(d.answers) == [3]


def test_a_packet_that_never_became_whole_is_dropped(drive):
    d = drive(depth=3, batch=3)
    d.run((1, "half"), (2, "echo"))
    assert sorted(d.answers) == [1, 2]
    assert not d.crashes


def test_packets_larger_than_the_sockets_buffer_arrive(drive):
    d = drive(count=2, depth=4, batch=4)
    data = b"t" * 3_000_000
    d.run(*[(i, "echo", data) for i in range(8)], (8, "big", 5_000_000))
    assert all(d.answers[i] == (data,) for i in range(8))
    assert len(d.answers[8][0]) == 5_000_000


def test_a_worker_that_dies_with_a_large_packet_half_sent_loses_one_task(drive):
    d = drive(depth=4, batch=4)
    d.until_ready()
    d.pool.give((1, "die"))
    d.pool.give((2, "echo", b"t" * 3_000_000))
    d.run()
    assert list(d.crashes) == [1]
    assert list(d.answers) == [2]


def test_children_and_their_successors_use_their_cpus_or_those_of_main(drive):
    usable = platform.usable_cpus() or []
    d = drive(depth=1, cpus=[usable[-1:]])
    d.run((1, "cpus"), (2, "die"), (3, "cpus"))
    assert d.answers == {1: tuple(usable[-1:]), 3: tuple(usable[-1:])}
    with platform.using_cpus(usable[:1]):
        d = drive()
    d.run((1, "cpus"))
    assert d.answers == {1: tuple(usable[:1])}


def test_counters_outlive_a_worker(drive):
    d = drive(depth=1, counters=2)
    d.run((1, "count", 1, 5), (2, "die"), (3, "count", 1, 6), (4, "count", 0, 1))
    assert d.pool.counter(1) == 11
    assert d.pool.counter(0) == 1


def test_a_child_has_what_the_forkserver_loaded_and_nothing_of_mains_program(drive, way):
    d = drive()
    d.run((1, "tell"))
    pid, loaded, threads, n_thread, ignored, n_blocked, has_pytest, core, oom = d.answers[1]
    assert pid != os.getpid()
    assert loaded == ("flow.bodies",)
    assert threads == "1"
    assert n_thread == 1
    assert ignored == (True, True, True)
    assert n_blocked == 0
    assert not has_pytest
    assert core == 0
    assert oom == (500 if way == "native" else 0)


def test_the_first_child_reports_what_could_not_be_loaded_ahead(drive, caplog):
    try:
        start_forkserver(["flow.bodies", "flow.nowhere", "flow.broken"])
        os.kill(forkserver_pid(), signal.SIGKILL)  # so that a new one loads the new list
        with caplog.at_level(logging.WARNING):
            d = drive(count=2)
            d.until_ready()
        texts = [record.getMessage() for record in caplog.records]
        assert len(texts) == 2
        assert "flow.nowhere: ModuleNotFoundError" in texts[0]
        assert "flow.broken: ZeroDivisionError" in texts[1]
    finally:
        start_forkserver(["flow.bodies"])
        d.pool.close(now=True)
        os.kill(forkserver_pid(), signal.SIGKILL)


def test_a_killed_forkserver_is_replaced_and_no_task_counted_twice(drive, way):
    d = drive(count=2, depth=4, batch=2)
    d.run(*[(i, "echo") for i in range(50)])
    before = forkserver_pid()
    children = d.pool.pids()
    for i in range(50, 60):
        d.pool.give((i, "echo"))
    os.kill(before, signal.SIGKILL)
    if way == "portable":  # nothing but the channel's end would end them
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    with watch(children) as wait:
        wait()
    d.run(*[(i, "echo") for i in range(60, 100)])
    d.until(lambda: d.pool.restarts >= 2)
    d.until_ready()
    assert forkserver_pid() != before
    assert len(d.answers) + len(d.crashes) == len(d.done) == 100
    assert {reason for reason, _ in d.crashes.values()} <= {"forkserver died"}


def test_the_run_goes_on_without_the_forkserver_that_started_the_children(drive, way):
    d = drive(count=2)
    d.until_ready()
    os.kill(forkserver_pid(), signal.SIGKILL)
    for round_ in range(3):  # the dead one cannot always be waited for at once
        d.run((round_, "die"))
    assert len(d.crashes) == 3
    assert d.run((9, "echo"))[-1].task == (9, "echo")


def test_every_task_ends_once_through_random_kills(drive):
    rng = random.Random(5)
    d = drive(count=2, depth=6, batch=3)
    n, kills, next_kill = 5000, 0, 50
    for i in range(n):
        d.pool.give((i, "echo", i))
    end = time.monotonic() + PATIENCE
    while d.pool.n_task:
        assert time.monotonic() < end
        d.turn()
        if len(d.done) >= next_kill and (pids := d.pool.pids()):
            with suppress(ProcessLookupError):  # still dying from the last time
                os.kill(rng.choice(pids), signal.SIGKILL)
                kills += 1
            next_kill = len(d.done) + rng.randrange(1, 200)
    assert sorted(done.task[0] for done in d.done) == list(range(n))
    assert all(values == (i,) for i, values in d.answers.items())
    assert kills >= 25
    assert len(d.crashes) <= kills


def test_an_orderly_close_lets_children_end_by_themselves(drive):
    d = drive(count=2)
    d.run((1, "echo"))
    with watch(d.pool.pids()) as wait:
        assert d.pool.close() == []
        wait()


def test_a_close_at_once_gives_the_tasks_that_were_not_answered(drive):
    d = drive(depth=2)
    d.until_ready()
    for i in range(4):
        d.pool.give((i, "hold"))
    d.pool.hand_out()
    with watch(d.pool.pids()) as wait:
        assert sorted(task[0] for task in d.pool.close(now=True)) == [0, 1, 2, 3]
        wait()
