# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ids a group gets again, and when."""

from gpuidx.simulation.asapo.groups import Group, Resend


def test_id_comes_again_after_each_delay_until_its_attempts_are_used_up():
    group, resend = Group(), Resend(10.0, 2)
    group.given(1, resend, now=0.0)
    due = [(now, group.due(resend, now)) for now in (5.0, 10.0, 15.0, 20.0, 30.0)]
    assert due == [(5.0, None), (10.0, 1), (15.0, None), (20.0, 1), (30.0, None)]
    assert group.in_process == [1]


def test_no_attempts_mean_no_limit():
    group, resend = Group(), Resend(1.0, 0)
    group.given(1, resend, now=0.0)
    assert [group.due(resend, float(now)) for now in range(1, 50)] == [1] * 49


def test_without_resends_nothing_is_in_process():
    group = Group()
    group.given(1, None, now=0.0)
    assert group.in_process == []
    assert group.due(None, 1e9) is None


def test_acknowledged_id_is_not_given_again():
    group, resend = Group(), Resend(1.0, 3)
    for message_id in (1, 2):
        group.given(message_id, resend, now=0.0)
    assert group.acknowledge(1)
    assert not group.acknowledge(1)
    assert group.due(resend, 1.0) == 2
    assert group.due(resend, 1.0) is None


def test_refused_id_comes_once_more_and_starts_anew():
    group, resend = Group(), Resend(1.0, 1)
    group.given(1, resend, now=0.0)
    assert group.due(resend, 1.0) == 1
    group.refuse(1, 5.0, now=1.0)
    assert [group.due(None, now) for now in (2.0, 6.0, 100.0)] == [None, 1, None]


def test_reset_forgets_ids_in_process_from_there_on_but_no_acknowledgement():
    group, resend = Group(), Resend(1.0, 1)
    for message_id in (1, 2, 3):
        group.given(message_id, resend, now=0.0)
    group.acknowledge(3)
    group.reset(2, 2)
    assert (group.last_id, group.arrived, group.in_process, group.acknowledged) == (2, 2, [1], {3})
