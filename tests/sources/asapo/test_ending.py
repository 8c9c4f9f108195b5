# SPDX-License-Identifier: GPL-3.0-or-later
"""When a stream is over: by its mark, by silence, and not before what others were given has come back."""

import pytest

from gpuidx.sources.asapo import steps
from gpuidx.sources.asapo.ending import ASK_EVERY, RESENDS, SUCCESSOR_AFTER, Ending
from gpuidx.sources.asapo.messages import Messages
from gpuidx.sources.asapo.place import Where

PATIENCE, RESEND = 10.0, 60.0


@pytest.fixture
def watch(clock):
    """An `Ending` of stream run1, a row of messages, and the question whether it is over."""

    def make(acks=False, waits=False, follow=False):
        where = Where("host:1", "beamtime", "detector", "g", acks=acks, resend=round(1e3 * RESEND))
        ending, messages = Ending(where, "run1", PATIENCE, waits, follow), Messages(acks)
        return ending, messages

    return make


def test_a_stream_is_over_when_the_service_has_said_for_long_that_there_is_nothing(clock, watch):
    ending, messages = watch()
    ending.got()
    ending.nothing(5)
    clock.now += PATIENCE - 1
    assert not ending.is_over(messages)
    clock.now += 2
    assert ending.is_over(messages)


def test_that_nothing_was_asked_for_is_no_silence(clock, watch):
    ending, messages = watch()
    ending.nothing(4)
    ending.got()
    clock.now += 5 * PATIENCE  # all slots were in work
    assert not ending.is_over(messages)


def test_a_service_that_is_away_at_the_end_is_asked_once_more(clock, watch):
    ending, messages = watch()
    ending.nothing(5)
    clock.now += 2 * PATIENCE
    ending.unsure()
    assert not ending.is_over(messages)
    ending.nothing(5)
    assert ending.is_over(messages)


def test_a_finished_stream_is_over_at_once_but_not_before_its_messages_are_done(watch):
    ending, messages = watch()
    messages.begin(("run1", 1), 0)
    ending.finished(1, "")
    assert not ending.is_over(messages)
    messages.done(0)
    assert ending.is_over(messages)


def test_messages_that_others_were_given_are_waited_for(clock, watch, caplog):
    ending, messages = watch(acks=True)
    ending.got()
    ending.finished(3, "")
    clock.now += ASK_EVERY
    assert ending.question() == steps.ASK_LEFT
    ending.left([2], size=3)
    assert not ending.is_over(messages)
    clock.now += RESENDS * RESEND + 1
    assert not ending.is_over(messages)  # perhaps a reader hangs that has just been given it
    ending.finished(3, "")
    assert ending.is_over(messages)
    assert "did not come again: 2" in caplog.text


def test_a_message_that_is_lost_three_times_unseen_is_waited_for(clock, watch):
    ending, messages = watch(acks=True)
    ending.finished(3, "")
    ending.left([2], size=3)
    for _ in range(3):
        clock.now += RESEND
        ending.finished(3, "")
        assert not ending.is_over(messages)


def test_a_message_that_was_lost_with_an_answer_is_waited_for(clock, watch):
    ending, messages = watch(acks=True)
    ending.finished(3, "")
    ending.left([2], size=3)
    clock.now += RESENDS * RESEND
    ending.unsure()
    clock.now += 0.9 * RESENDS * RESEND
    ending.finished(3, "")
    assert not ending.is_over(messages)
    clock.now += RESENDS * RESEND
    ending.finished(3, "")
    assert ending.is_over(messages)


def test_a_stream_is_over_when_all_is_acknowledged(watch):
    ending, messages = watch(acks=True)
    ending.got()
    ending.finished(3, "")
    assert not ending.is_over(messages)  # nobody has asked yet
    ending.left([], size=3)
    assert ending.is_over(messages)


def test_ids_that_were_never_sent_are_named_and_not_waited_for(watch, caplog):
    ending, messages = watch(acks=True)
    ending.got()
    ending.finished(6, "")
    ending.left([2, 4], size=4)
    assert ending.is_over(messages)
    assert ending.gaps == (2, 4)
    assert "no message with the id 2, 4" in caplog.text


def test_garbled_answers_end_no_stream(watch):
    ending, messages = watch(acks=True)
    ending.got()
    ending.finished(3, "")
    ending.nothing(0)
    assert not ending.is_over(messages)  # it is not empty
    ending.left([2], size=0)
    assert not ending.is_over(messages)  # two are acknowledged, so there are more than none


def test_our_own_messages_are_no_gaps(watch):
    ending, messages = watch(acks=True)
    messages.begin(("run1", 3), 0)
    messages.done(0)
    messages.to_tell(1)
    ending.finished(3, "")
    ending.left([2, 3], size=2)
    assert ending.is_over(messages)
    assert ending.gaps == (2,)


def test_a_service_that_cannot_say_what_is_left_does_not_keep_a_run(clock, watch):
    ending, messages = watch(acks=True)
    ending.got()
    ending.finished(3, "")
    ending.question()
    clock.now += RESENDS * RESEND + 1
    assert ending.is_over(messages)


def test_what_is_left_is_asked_for_however_long_the_silence_was(clock, watch):
    ending, messages = watch(acks=True)
    ending.got()
    ending.nothing(3)
    clock.now += 10 * RESENDS * RESEND
    assert not ending.is_over(messages)
    assert ending.question() == steps.ASK_LEFT
    assert not ending.is_over(messages)
    ending.left([2], size=3)
    ending.nothing(3)
    assert ending.is_over(messages)


@pytest.mark.parametrize("acks", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_a_stream_without_data_is_named_once_and_waited_for(clock, watch, caplog, acks, waits):
    ending, messages = watch(acks=acks, waits=waits)
    for _ in range(3):
        ending.nothing(0)
        clock.now += PATIENCE
    assert caplog.text.count("'run1' of source 'detector' has no data") == 1
    assert ending.is_over(messages) == (not waits)
    ending.nothing(0)
    assert ending.question() is None


def test_the_next_stream_is_looked_for_after_a_while_of_silence(clock, watch):
    ending, messages = watch(follow=True)
    ending.got()
    ending.nothing(3)
    clock.now += SUCCESSOR_AFTER / 2
    assert ending.question() is None
    clock.now += SUCCESSOR_AFTER
    assert ending.question() == steps.ASK_STREAMS
    streams = [("run0", 1, 5), ("run1", 2, 3), ("run3", 9, 1), ("run2", 4, 1)]
    ending.streams(streams, past={"run1"})
    assert ending.successor == "run2"
    assert ending.is_over(messages)


def test_a_stream_that_was_read_is_no_successor(watch):
    ending, messages = watch(follow=True)
    ending.nothing(3)
    ending.streams([("run1", 2, 3), ("run2", 4, 1)], past={"run1", "run2"})
    assert ending.successor == ""
    assert not ending.is_over(messages)


def test_follow_goes_to_the_stream_that_the_mark_names_and_waits_where_it_names_none(clock, watch):
    ending, messages = watch(follow=True)
    ending.finished(3, "run9")
    assert ending.is_over(messages)
    assert ending.successor == "run9"
    last, messages = watch(follow=True)
    last.finished(3, "")
    clock.now += ASK_EVERY
    assert not last.is_over(messages)
    assert last.question() == steps.ASK_STREAMS
    clock.now += PATIENCE
    assert last.is_over(messages)
