# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that does not answer is waited for, and in the end it ends the run."""

import pytest

from gpuidx.errors import SourceError
from gpuidx.sources.asapo.outage import HICCUP, REFUSAL_LIMIT, Outage

LIMIT = 30.0


@pytest.fixture
def outage(clock):
    return Outage("host:1", LIMIT)


def test_a_hiccup_is_only_counted(clock, outage, caplog):
    outage.note("gone")
    clock.now += HICCUP / 2
    outage.check()
    outage.over()
    assert outage.count == 1
    assert not caplog.text


def test_each_outage_is_said_once_with_its_end(clock, outage, caplog):
    caplog.set_level("INFO")
    for _ in range(2):
        for _ in range(5):
            outage.note("gone")
            clock.now += HICCUP
            outage.check()
        outage.over()
    assert caplog.text.count("gone; trying again") == 2
    assert caplog.text.count("answers again") == 2


def test_a_service_that_is_away_too_long_ends_the_run(clock, outage):
    outage.note("gone")
    clock.now += LIMIT + 1
    outage.note("still gone")
    with pytest.raises(SourceError, match="does not answer for 30 s: still gone"):
        outage.check()


def test_a_lasting_refusal_ends_the_run_sooner(clock, outage):
    outage.note("wrong token", is_refusal=True)
    clock.now += REFUSAL_LIMIT - 1
    outage.check()
    clock.now += 2
    outage.note("wrong token", is_refusal=True)
    with pytest.raises(SourceError, match="refuses us: wrong token"):
        outage.check()


def test_another_trouble_between_makes_it_no_refusal(clock, outage):
    outage.note("wrong token", is_refusal=True)
    clock.now += REFUSAL_LIMIT + 1
    outage.note("gone")
    outage.check()
