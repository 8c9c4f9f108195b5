# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/soak`: what it calls growing or unaccounted for.  `scripts/test` has a run of two minutes, too."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuidx.measure.processes import Footprint

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "soak.py"
FLAT = [Footprint(memory=50_000 + 4096 * (n % 3), files=36, threads=4) for n in range(30)]


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import soak

    return soak


def test_what_stays_between_the_same_bounds_is_flat(soak):
    assert soak.growing({7: FLAT, 8: FLAT[:1]}) == []


@pytest.mark.parametrize(("name", "step"), [("memory", 500), ("files", 0.1), ("threads", 0.05)])
def test_what_grows_is_named_with_its_process(soak, name, step):
    leaking = [one._replace(**{name: getattr(one, name) + int(step * n)}) for n, one in enumerate(FLAT)]
    (text,) = soak.growing({7: leaking, 8: FLAT})
    assert text.startswith(f"{name} of process 7 grew from ")


@pytest.fixture
def account(soak):
    table = {"received": 10, "blank": 7, "indexed": 3}
    return soak.Account(sent=10, table=table, numbers=dict.fromkeys(range(10), 1), code=0)


def test_good_accounts_add_up(soak, account):
    assert soak.unaccounted(account) == []
    assert soak.unaccounted(replace(account, sent=10 + soak.REQUESTS)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": 1}, "exit code 1"),
        ({"sent": 20}, "20 sent, 10 received"),
        ({"sent": 9}, "9 sent, 10 received"),
        ({"table": {"received": 10, "blank": 6, "indexed": 3}}, "10 received, but"),
        ({"table": {"received": 10, "blank": 6, "indexed": 3, "rejected": 1}}, "1 frames of a good source"),
        ({"table": {"received": 10, "blank": 10}}, "no hits"),
        ({"table": {}}, "nothing received"),
        ({"numbers": dict.fromkeys(range(9), 1)}, "10 processed, 9 in the stream"),
        ({"numbers": {n: 1 + (n == 3) for n in range(10)}}, "a frame twice"),
    ],
)
def test_what_does_not_add_up_is_named(soak, account, changes, said):
    assert any(text.startswith(said) for text in soak.unaccounted(replace(account, **changes)))
