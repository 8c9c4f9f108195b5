# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.errors import AccountsError
from gpuidx.flow.accounts import MOST_REASONS, OTHER_REASONS, STATES, Accounts

ends = st.tuples(st.sampled_from(sorted(STATES)), st.sampled_from(["", "missing key", "SIGSEGV"]))


@given(st.lists(st.one_of(st.none(), ends), max_size=60), st.integers(0, 10**9))
def test_the_sum_holds_whatever_ends_in_whatever_order(steps, first):
    accounts, flying, ended = Accounts(first), [], []
    for step in steps:
        if step is None or not flying:
            flying.append(accounts.receive())
        else:
            accounts.finish(flying.pop(len(flying) // 2), *step)
            ended.append(step)
        accounts.check()
        assert accounts.in_flight == len(flying)
    assert accounts.received == len(flying) + len(ended)
    for state in STATES:
        of_state = [reason for name, reason in ended if name == state]
        assert accounts.count(state) == len(of_state)
        assert accounts.reasons(state) == {reason: of_state.count(reason) for reason in set(of_state)}
    assert accounts.finish_all("dropped", "stopped") == len(flying)
    assert sum(map(accounts.count, STATES)) == accounts.received
    accounts.check()


def test_serials_count_from_the_first_one():
    accounts = Accounts(17)
    assert [accounts.receive(), accounts.receive()] == [17, 18]


def test_a_message_that_ends_twice_is_an_error():
    accounts = Accounts()
    serial = accounts.receive()
    accounts.finish(serial, "blank")
    with pytest.raises(AccountsError, match="message 1 ended as 'indexed', but it is not in flight"):
        accounts.finish(serial, "indexed")


def test_a_message_never_received_is_an_error():
    with pytest.raises(AccountsError, match="message 5"):
        Accounts().finish(5, "blank")


def test_an_unknown_state_is_an_error_and_counts_nothing():
    accounts = Accounts()
    serial = accounts.receive()
    with pytest.raises(AccountsError, match="not a state"):
        accounts.finish(serial, "lost")
    assert accounts.in_flight == 1


def test_a_wrong_sum_is_an_error_that_names_its_parts():
    accounts = Accounts()
    accounts.receive()
    accounts.received += 1
    with pytest.raises(AccountsError, match=r"2 received, but 0 blank .* \+ 1 in flight") as error:
        accounts.check()
    assert error.value.exit_code == 4


def test_endless_reasons_do_not_take_endless_memory():
    accounts = Accounts()
    for number in range(MOST_REASONS + 50):
        accounts.finish(accounts.receive(), "rejected", f"reason {number}")
    assert len(accounts.reasons("rejected")) == MOST_REASONS + 1
    assert accounts.reasons("rejected")[OTHER_REASONS] == 50
    accounts.check()


def test_the_table_has_a_line_for_each_state_and_reason():
    accounts = Accounts()
    for state, reason in [("indexed", ""), ("rejected", "wrong shape"), ("rejected", "wrong shape")]:
        accounts.finish(accounts.receive(), state, reason)
    accounts.receive()
    assert accounts.lines() == [
        "      4  received",
        "      1    indexed",
        "      2    rejected",
        "      2      wrong shape",
        "      1    in flight",
    ]
    assert accounts.hits == accounts.processed == 1
