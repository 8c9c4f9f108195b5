# SPDX-License-Identifier: GPL-3.0-or-later
"""When a turn begins."""

import pytest

from gpuidx.flow.pace import LONGEST_PAUSE, PAUSE_EACH, Pace


class Clock:
    def __init__(self):
        self.now, self.slept = 100.0, 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(clock, clock.sleep)


def test_the_first_turn_begins_at_once(pace, clock):
    pace.rest(1000)
    assert clock.slept == 0.0


@pytest.mark.parametrize(("in_flight", "pause"), [(0, 0.0), (4, 4 * PAUSE_EACH), (10**6, LONGEST_PAUSE)])
def test_turns_are_apart_by_a_pause_that_grows_with_what_is_in_flight(pace, clock, in_flight, pause):
    for _ in range(4):
        pace.rest(in_flight)
    assert clock.slept == pytest.approx(3 * pause)


def test_what_the_loop_takes_itself_is_part_of_the_pause(pace, clock):
    pace.rest(4)
    clock.now += 3 * PAUSE_EACH
    pace.rest(4)
    assert clock.slept == pytest.approx(PAUSE_EACH)


def test_a_turn_after_a_long_one_begins_at_once(pace, clock):
    pace.rest(10**6)
    clock.now += LONGEST_PAUSE
    pace.rest(10**6)
    assert clock.slept == 0.0
