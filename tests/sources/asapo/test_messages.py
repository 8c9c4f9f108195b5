# SPDX-License-Identifier: GPL-3.0-or-later
"""Each message is begun once and acknowledged when it is done, whatever order things happen in."""

from hypothesis import given
from hypothesis import strategies as st

from gpuidx.flow.seen import Seen
from gpuidx.sources.asapo.messages import REFUSED_FOR_GOOD, Messages


def test_a_message_in_work_is_left_alone_when_it_comes_again():
    messages = Messages(acks=True)
    assert messages.begin(("s", 1), slot=0)
    assert not messages.begin(("s", 1), slot=1)
    assert (messages.n_in_work, messages.n_to_tell) == (1, 0)


def test_a_message_that_is_done_is_acknowledged_each_time_it_comes():
    messages = Messages(acks=True)
    messages.begin(("s", 1), 0)
    messages.done(0)
    assert messages.to_tell(9) == (("s", 1),)
    assert not messages.begin(("s", 1), 0)
    assert messages.to_tell(9) == (("s", 1),)


def test_what_an_earlier_run_did_is_acknowledged_and_not_done_again():
    earlier = Seen()
    earlier.add("s", 7)
    messages = Messages(acks=True)
    messages.skip(earlier)
    assert not messages.begin(("s", 7), 0)
    assert messages.begin(("t", 7), 0)
    assert messages.to_tell(9) == (("s", 7),)


def test_what_an_earlier_run_did_not_tell_is_told_at_once():
    earlier = Seen()
    for number in (5, 6):
        earlier.add("s", number)
    messages = Messages(acks=True)
    messages.skip(earlier)
    messages.recall("s", [1, 6, 7])
    assert messages.to_tell(9) == (("s", 6),)


def test_without_acknowledgements_nothing_is_told():
    messages = Messages(acks=False)
    messages.begin(("s", 1), 0)
    messages.done(0)
    assert messages.n_to_tell == 0


def test_what_was_not_told_is_told_first_and_in_order():
    messages = Messages(acks=True)
    for number in (1, 2, 3, 4):
        messages.begin(("s", number), number)
        messages.done(number)
    taken = messages.to_tell(3)
    messages.not_told(taken[1:])
    assert [number for _, number in messages.to_tell(9)] == [2, 3, 4]


def test_an_acknowledgement_that_is_refused_for_long_is_given_up(clock):
    messages = Messages(acks=True)
    assert messages.refused([("s", 1)]) == 0
    assert messages.to_tell(9) == (("s", 1),)
    clock.now += REFUSED_FOR_GOOD + 1
    assert messages.refused([("s", 1), ("s", 2)]) == 1
    assert messages.to_tell(9) == (("s", 2),)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200_000)), max_size=50))
def test_seen_is_a_set(pairs):
    seen = Seen()
    for pair in pairs:
        seen.add(*pair)
    assert len(seen) == len(set(pairs))
    for stream, number in pairs:
        assert (stream, number) in seen
        assert ((stream, number + 1) in seen) == ((stream, number + 1) in pairs)
