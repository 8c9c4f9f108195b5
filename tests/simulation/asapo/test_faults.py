# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests a fault strikes."""

import pytest

from gpuidx.errors import OptionError
from gpuidx.simulation.asapo.faults import Fault, Faults, Kind, parse_fault

NEXT = frozenset({"next"})


def struck(fault, n, message_id=None, operation="next"):
    faults = Faults([fault])
    return [number for number in range(n) if faults.behind(operation, message_id) is not None]


def test_skip_and_count():
    assert struck(Fault(kind=Kind.LOSE, on=NEXT, skip=3, count=2), 10) == [3, 4]


def test_probability_is_kept_and_repeats_with_its_seed():
    first, again, other = (
        struck(Fault(kind=Kind.LOSE, probability=0.2, seed=seed), 2000) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert 330 < len(first) < 470


def test_only_the_operations_and_ids_that_are_named():
    fault = Fault(kind=Kind.CUT, on=frozenset({"next", "data"}), ids=frozenset({7}))
    assert struck(fault, 1, 7) == [0]
    assert struck(fault, 1, 7, "data") == [0]
    assert struck(fault, 1, 8) == []
    assert struck(fault, 1, 7, "acknowledge") == []


def test_a_fault_is_before_or_behind():
    for kind in Kind:
        on = frozenset({"data"})
        faults = Faults([Fault(kind=kind, on=on)])
        is_before = kind in (Kind.DROP, Kind.STATUS)
        assert (faults.before("data", 1) is not None) == is_before
        assert (faults.behind("data", 1) is not None) != is_before
        assert faults.struck == {(kind, "data"): 1}


def test_faults_are_added_and_cleared():
    faults = Faults()
    faults.add(Fault(kind=Kind.LOSE, on=NEXT), Fault(kind=Kind.SLOW))
    assert faults.behind("next", 1).kind == Kind.LOSE
    assert faults.behind("size", None).kind == Kind.SLOW
    faults.clear()
    assert faults.behind("next", 1) is None


def test_fault_from_the_command_line():
    assert parse_fault("hang") == Fault(kind=Kind.HANG)
    expected = Fault(
        kind=Kind.STATUS, on=frozenset({"acknowledge", "data"}), ids=frozenset({3, 4}), probability=0.5,
        count=2, status=500, seed=7,
    )  # fmt: skip
    text = "status,on=acknowledge+data,ids=3+4,probability=0.5,count=2,status=500,seed=7"
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explode", "'explode' is not understood; it is KIND"),
        ("lose,when=now", "names of on, ids"),
        ("lose,count=many", "not understood"),
        ("lose,on=dinner", "no operation dinner"),
        ("drop,on=next,ids=3", "is not known before"),
        ("drop,ids=3", "is not known before"),
        ("evict,on=next", "only on=data"),
        ("lose,probability=1.5", "from 0 to 1"),
        ("lose,count=-1", "not negative"),
        ("lose,kind=cut", "not understood"),
        ("status,status=200000", "status"),
    ],
)
def test_faults_that_are_not_understood(text, message):
    with pytest.raises(OptionError, match=message):
        parse_fault(text)
