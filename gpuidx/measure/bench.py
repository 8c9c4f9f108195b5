# SPDX-License-Identifier: GPL-3.0-or-later
"""One kind of frames measured on this machine: every stage alone, then a run; costs for the model."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpuidx.measure.live import LiveRun, Sender, watch
from gpuidx.measure.model import Costs, DeviceCosts, limits, slowest
from gpuidx.measure.stages import (
    DECODE,
    INTEGRATE,
    REFINE,
    SEARCH,
    TEXT,
    TRIALS,
    StageTimes,
    copy_seconds,
    measured,
)
from gpuidx.measure.subject import Subject
from gpuidx.pipeline import Pipeline
from gpuidx.start import slot_bytes

STAGES = (DECODE, SEARCH, TRIALS, REFINE, INTEGRATE, TEXT)


@dataclass(frozen=True, kw_only=True)
class Alone:
    """CPU seconds of the stages of a worker, and of the copy into a slot, each alone on one core."""

    blank: dict[str, float]
    hit: dict[str, float]
    copy: float


def stages_alone(subject: Subject, rounds: int, for_device: bool = False) -> Alone:
    """Every stage of a worker, for blanks and for hits; see `measured`.

    Raises
    ------
    Rejected
        If a frame cannot be used.
    """
    options = replace(subject.options(), backend="cpu")
    pipeline = Pipeline(options, subject.geometry, subject.cell)
    place = np.empty(slot_bytes(options, subject.geometry, 0), np.uint8).data
    blank, hit = (
        _medians(measured(pipeline, subject.received(sent), place, rounds, for_device))
        for sent in (subject.blanks, subject.hits)
    )
    return Alone(blank=blank, hit=hit, copy=copy_seconds(subject.n_byte))


def _medians(times: StageTimes) -> dict[str, float]:
    return {stage: times.median(stage) for stage in STAGES}


def live(subject: Subject, hits: float, jobs: int, seconds: float, log: Path) -> LiveRun:
    """A run with *jobs* workers that is sent frames as fast as it takes them.

    Raises
    ------
    SourceError
        If the run ends by itself.
    """
    command = [sys.executable, "-m", "gpuidx", *subject.command(jobs)]
    with Sender(subject.series(hits), "push", subject.address):
        return watch(command, subject.stream, seconds, log)


def costs_of(alone: Alone, run: LiveRun, device: DeviceCosts | None = None) -> Costs:
    """What a frame costs, from its stages alone and from what a run's main process took."""
    blank, hit = alone.blank, alone.hit
    return Costs(
        receive=max(0.0, run.main - alone.copy), copy=alone.copy, network=run.network,
        decode=blank[DECODE], search=blank[SEARCH], text=blank[TEXT],
        decode_hit=hit[DECODE] - blank[DECODE], trials=hit[TRIALS] + hit[SEARCH] - blank[SEARCH],
        refine=hit[REFINE], integrate=hit[INTEGRATE], text_hit=hit[TEXT] - blank[TEXT], device=device,
    )  # fmt: skip


def predicted(costs: Costs, run: LiveRun) -> tuple[str, float]:
    """What limits a run like this one by the model, and its rate.

    The cores are those that the run and its source had, on average, which is less than all beside other work.
    """
    return slowest(limits(replace(costs, device=None), run.hits, run.cores, elsewhere=run.source))
