# SPDX-License-Identifier: GPL-3.0-or-later
import signal

import pytest
import zmq

from gpuidx.flow import stop as module
from gpuidx.flow.stop import SIGNALS, Stop, interruptible


@pytest.fixture
def stop():
    stop = Stop()
    yield stop
    stop.remove()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_drains_and_the_second_ends(stop, number, monkeypatch):
    monkeypatch.setattr(module, "SAME", 0.0)
    stop.install()
    assert stop.level == 0
    signal.raise_signal(number)
    assert stop.level == 1
    assert stop.since > 0
    since = stop.since
    signal.raise_signal(number)
    assert stop.level == 2
    assert stop.since == since


def test_signals_at_the_same_time_are_one(stop, monkeypatch):
    monkeypatch.setattr(module, "SAME", 100.0)
    stop.install()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert stop.level == 1


def test_a_signal_during_a_drain_that_nobody_asked_for_is_the_first_one(stop, monkeypatch):
    monkeypatch.setattr(module, "SAME", 0.0)
    stop.install()
    stop.request()
    assert stop.level == 1
    signal.raise_signal(signal.SIGINT)
    assert stop.level == 1
    signal.raise_signal(signal.SIGINT)
    assert stop.level == 2
    stop.request()
    assert stop.level == 2


def test_a_signal_wakes_the_poller_once(stop):
    poller = zmq.Poller()
    stop.install(poller)
    signal.raise_signal(signal.SIGTERM)
    events = dict(poller.poll(10_000))
    assert len(events) == 1
    stop.notice(events)
    assert poller.poll(0) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_before_the_children_run_each_signal_interrupts(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_removing_gives_the_signals_back(stop):
    before = [signal.getsignal(number) for number in SIGNALS]
    poller = zmq.Poller()
    stop.install(poller)
    assert [signal.getsignal(number) for number in SIGNALS] != before
    stop.remove()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert poller.sockets == []
