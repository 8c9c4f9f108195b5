# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: one message after the other through the pipeline, the chunk's text into the message's slot.

Runs in a child process; `gpuidx.run` names it, and never imports it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gpuidx.cell import UnitCell
from gpuidx.errors import Rejected
from gpuidx.flow.accounts import BLANK, HIT, INDEXED, REJECTED
from gpuidx.flow.child import Port
from gpuidx.flow.slots import Slots
from gpuidx.geometry import Geometry
from gpuidx.model import Message, Result
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline


class Stopwatch:
    """Adds up nanoseconds by stage in a row of the shared table.

    Parameters
    ----------
    counters
        The worker's row, as many as there are *stages*.
    stages
        Column of each stage, by name.
    """

    def __init__(self, counters: memoryview, stages: Mapping[str, int]) -> None:
        self._counters, self._stages = counters, stages

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time until the end of the context for *stage*."""
        begun = time.perf_counter_ns()
        try:
            yield
        finally:
            self._counters[self._stages[stage]] += time.perf_counter_ns() - begun


def work(
    port: Port,
    slots: Slots,
    stages: Mapping[str, int],
    options: Options,
    geometry: Geometry,
    cell: UnitCell | None,
) -> None:
    """Answer every task with the state in which its frame ended; see `gpuidx.run.Answered`."""
    pipeline = Pipeline(options, geometry, cell, Stopwatch(port.counters, stages))
    for serial, slot, size, filename, event in port.tasks():
        place = slots[slot]
        message = Message(serial=serial, filename=filename, event=event, data=place[:size])
        try:
            result, n_byte, n_candidate = pipeline.process(message, place)
        except Rejected as rejected:
            port.answer(serial, REJECTED, rejected.reason, rejected.detail, 0, 0, 0, 0, pipeline.take_notes())
        else:
            counts = (n_byte, len(result.peaks), n_candidate, len(result.crystals))
            port.answer(serial, _state(result), "", "", *counts, pipeline.take_notes())


def _state(result: Result) -> str:
    if result.crystals:
        return INDEXED
    return HIT if result.hit else BLANK
