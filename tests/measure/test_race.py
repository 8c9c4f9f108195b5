# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/bench race`: what is made of runs in turns."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuidx.measure.bench import STAGES, Alone
from gpuidx.measure.live import LiveRun

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
RUN = LiveRun(
    n_frame=100, seconds=1.0, hits=0.0, indexed=0.0, main=1e-3, network=1e-3, workers=6e-3, source=2e-3
)


def test_ratios_are_taken_turn_by_turn(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from bench_race import summary

    ours = [RUN, replace(RUN, seconds=2.0), replace(RUN, seconds=4.0)]
    theirs = [replace(run, seconds=10 * run.seconds, workers=78e-3) for run in ours]
    stages = dict.fromkeys(STAGES, 1e-3)
    race = SimpleNamespace(alone=Alone(blank=stages, hit=stages, copy=0.0))
    row = summary("4M, blank", {"gpuidx": ours, "asdf": theirs}, race)
    assert (row["gpuidx"], row["asdf"]) == (50.0, 5.0)
    assert row["over asdf"] == pytest.approx(10.0)
    assert row["CPU over asdf"] == pytest.approx(10.0)
    # 3 ms of decoding, search and text, and 2 ms of the main process, where 8 were spent; 2 of the sender
    assert row["predicted over measured"] == pytest.approx(10 / 7)
