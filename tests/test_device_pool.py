# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of frames that devices have, when their processes end."""

import logging
import os
import signal
import time
from pathlib import Path

import pytest
import zmq

from gpuidx import device_pool
from gpuidx.device_pool import GONE, LOST, DevicePool
from gpuidx.flow import member
from gpuidx.flow.forkserver import start_forkserver, stop_forkserver
from gpuidx.handover import FOUND, ON_CPU
from gpuidx.options import Options

PATIENCE = 60


@pytest.fixture(scope="module", autouse=True)
def _server():
    stop_forkserver()
    start_forkserver(["device_script"])
    yield
    stop_forkserver()


class Driver:
    def __init__(self, count=1, broken=()):
        options = Options(
            geometry="x.geom", output="x.stream", input="x.lst", peaks="peakfinder8", indexing="none"
        )
        self.pool, self.poller, self.done = DevicePool(options, count, (broken,)), zmq.Poller(), {}
        self.pool.open(self.poller)

    def until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.done
            self.pool.hand_out()
            for serial, where in self.pool.collect(dict(self.poller.poll(20))):
                assert serial not in self.done, "it came back twice"
                self.done[serial] = where

    def run(self, *tasks):
        for task in tasks:
            self.pool.give(task)
        self.until(lambda: {task[0] for task in tasks} <= self.done.keys())
        return self.done


@pytest.fixture
def drive(monkeypatch, tmp_path):
    monkeypatch.setattr(device_pool, "BODY", "device_script:obey")
    monkeypatch.setattr(member, "BACK_OFF", (0.0,))
    drivers = []

    def make(*args, **named):
        drivers.append(Driver(*args, **named))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.pool.close(now=True)


def test_frames_come_back_with_where_they_go_and_why(drive):
    d = drive()
    d.run((1, "find"), (2, "refuse"), (3, "refuse"))
    assert d.done == {1: FOUND, 2: ON_CPU, 3: ON_CPU}
    assert d.pool.notes == {"frames done on the CPU: made up": 2}
    assert d.pool.load() == 0.0


def test_frames_of_a_killed_process_go_once_more_to_a_device(drive):
    d = drive()
    d.run((0, "find"))
    for serial in (1, 2, 3):
        d.pool.give((serial, "keep" if serial < 3 else "find"))
    d.until(lambda: 3 in d.done)
    os.kill(d.pool.pids()[0], signal.SIGKILL)  # it has 1 and 2
    d.until(lambda: d.pool.is_ready and d.pool._pool.restarts == 1)
    assert sorted(d.done) == [0, 3]
    os.kill(d.pool.pids()[0], signal.SIGKILL)
    d.until(lambda: {1, 2} <= d.done.keys())
    assert d.done == {0: FOUND, 3: FOUND, 1: ON_CPU, 2: ON_CPU}
    assert d.pool.notes[f"frames done on the CPU: {LOST}"] == 2
    assert not d.pool.is_lost


def test_frames_that_two_processes_died_of_go_to_the_cpu(drive):
    d = drive()
    d.run((0, "find"))
    d.run((1, "die"), (2, "find"))
    assert d.done[1] == ON_CPU
    assert d.pool.notes["device processes replaced"] == 2


def test_a_device_whose_processes_all_die_is_given_up_with_one_warning(drive, caplog):
    caplog.set_level(logging.WARNING, "gpuidx.device_pool")
    d = drive()
    d.run(*[(serial, "die") for serial in range(6)])
    d.run((6, "die"))
    assert d.pool.is_lost
    assert set(d.done.values()) == {ON_CPU}
    assert [r.getMessage().split("; ")[-1] for r in caplog.records] == ["going on on the CPU"]


def test_frames_that_wait_for_a_device_that_cannot_start_go_to_the_cpu(drive, caplog):
    d = drive(broken=(0,))
    d.run((1, "find"), (2, "find"))
    assert d.pool.is_lost
    assert d.done == {1: ON_CPU, 2: ON_CPU}
    assert d.pool.notes == {
        f"frames done on the CPU: {GONE}": 2, "device processes replaced": 2
    }  # fmt: skip
    assert "BackendError: no CUDA device" in caplog.text
    assert (d.pool.use(), d.pool.load()) == (None, 0.0)


def test_frames_of_a_device_that_is_given_up_go_to_the_others(drive, caplog):
    d = drive(count=2, broken=(1,))
    d.until(lambda: d.pool._pool.given_up)
    assert "going on with 1 other(s)" in caplog.text
    d.run(*[(serial, "find") for serial in range(20)])
    assert set(d.done.values()) == {FOUND}
    assert not d.pool.is_lost


def test_close_ends_the_processes(drive):
    d = drive(count=2)
    d.until(lambda: d.pool.is_ready)
    pids = d.pool.pids()
    d.pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
