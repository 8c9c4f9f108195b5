# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/check_indexing.py`: what it compares and counts, and a short run of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends.peak_lists import simulated, trials

from gpuidx.model import Candidate

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
AXES = np.diag([38.0, 79.0, 79.0])


@pytest.fixture
def parts(monkeypatch):
    """The folder of the script's parts on the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


def outcome(*turns: float, n_tries: int = 1):
    """Of a list with one lattice for each turn about z, degrees."""
    from indexing_check.comparison import Outcome

    candidates = []
    for angle in np.radians(turns):
        c, s = np.cos(angle), np.sin(angle)
        axes = AXES @ [[c, s, 0], [-s, c, 0], [0, 0, 1]]
        candidates.append(Candidate(axes=axes, shift=np.zeros(2), score=100.0 + angle))
    return Outcome(candidates, n_tries, 0.0)


def test_near_lattices_in_any_order_are_no_exception(parts):
    from indexing_check.comparison import Comparison

    own = Comparison()
    own.add("a", outcome(0.0, 20.004), outcome(20.0, 0.0))
    assert (own.n_list, own.n_alike, own.n_lattice, own.n_near, own.exceptions) == (1, 1, 2, 2, [])
    assert own.largest == pytest.approx(0.004, abs=1e-5)
    assert own.holds


@pytest.mark.parametrize(
    ("device", "cpu", "n_near"),
    [((), (0.0,), 0), ((0.0, 20.0), (0.0,), 1), ((0.02,), (0.0,), 0), ((3.0,), (0.0,), 0)],
)
def test_every_other_lattice_is_an_exception_with_its_score(parts, device, cpu, n_near):
    from indexing_check.comparison import Comparison

    own = Comparison()
    own.add("clean 7 (lyso)", outcome(*device), outcome(*cpu))
    assert own.n_near == n_near
    assert not own.holds
    assert "clean 7 (lyso)" in own.exceptions[0]
    assert "100.0" in own.exceptions[0]


def test_another_number_of_trials_is_not_alike(parts):
    from indexing_check.comparison import Comparison

    own = Comparison()
    own.add("a", outcome(0.0, n_tries=2), outcome(0.0))
    assert (own.n_near, own.n_alike) == (1, 0)
    assert not own.holds


def test_the_verdict_is_on_all_lists_together(parts, capsys):
    from indexing_check import report
    from indexing_check.comparison import Comparison, show

    groups = {"many": Comparison(n_list=99, n_alike=99, n_lattice=99, n_near=99), "one": Comparison()}
    groups["one"].add("geom 62 (pseu)", outcome(0.3), outcome(0.0))
    show(groups, "made up")
    assert report.MISSED == []
    groups["one"].add("geom 63 (pseu)", outcome(0.3), outcome(0.0))
    show(groups, "made up")
    assert report.MISSED == ["comparison with the CPU"]
    report.MISSED.clear()
    assert "| all | 101 | 101 | 101 | 99 | 98.02 |" in capsys.readouterr().out


def test_turned_peaks_keep_their_resolution_and_make_no_lattice(parts):
    from indexing_check.false import turned

    true = simulated("lyso", 0)
    q = turned(true.q, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), np.linalg.norm(true.q, axis=1))
    np.testing.assert_array_equal(q[:, 2], true.q[:, 2])
    assert len(trials("lyso").index(true.q, true.shift_sigma)[0]) == 1
    assert trials("lyso").index(q, true.shift_sigma)[0] == []


def test_a_short_run_of_the_script_reaches_its_bars():
    command = [sys.executable, SCRIPTS / "check_indexing.py", "--only", "random", "--random", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 4 | 0 | - |" in done.stdout
    assert "All bars are reached." in done.stdout
