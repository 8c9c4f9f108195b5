# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: one message after the other through the pipeline, the chunk's text into the message's slot.

Runs in a child process; `gpuidx.run` names it, and never imports it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gpuidx import handover
from gpuidx.cell import UnitCell
from gpuidx.errors import Rejected
from gpuidx.flow.accounts import BLANK, HIT, INDEXED, REJECTED
from gpuidx.flow.child import Port
from gpuidx.flow.slots import Slots
from gpuidx.geometry import Geometry
from gpuidx.model import Frame, Result
from gpuidx.options import Options
from gpuidx.pipeline import Done, Pipeline
from gpuidx.proposal import cell_of_task
from gpuidx.sources.asapo.hits import COUNTERS
from gpuidx.tasks import ONLY, SEVERAL, Messages, Task

Notes = list[tuple[str, int]]
"""What was ignored without harm, and how often."""


class Stopwatch:
    """Adds up nanoseconds by stage in a row of the shared table.

    Parameters
    ----------
    counters
        The worker's row.
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
    columns: Mapping[str, int],
    options: Options,
    geometry: Geometry,
    cell: UnitCell | None,
) -> None:
    """Answer every task with the state in which its frame ended; see `gpuidx.record.Answered`."""
    pipeline, messages = _begin(port, slots, columns, options, geometry, cell)
    for values in port.tasks():
        task = Task(*values)
        pipeline.use_cell(cell_of_task(task.cell))
        message = messages.get(task)
        try:
            if task.number == ONLY and (count := pipeline.decoder.frame_count(message)) != 1:
                port.answer(task.serial, SEVERAL, count)
                continue
            done = pipeline.process(message, slots[task.slot])
        except Rejected as rejected:
            _reject(port, task.serial, rejected, pipeline.take_notes())
        else:
            _answer(port, task.serial, done, pipeline.take_notes(), pipeline.cells(done.result))


def work_with_device(
    port: Port,
    slots: Slots,
    columns: Mapping[str, int],
    options: Options,
    geometry: Geometry,
    cell: UnitCell | None,
) -> None:
    """The same where a device searches the peaks: each task names a step, see `gpuidx.handover`.

    A frame that was decoded is kept until its next step comes; one that another worker had decoded, which
    died, is decoded again.
    """
    pipeline, messages = _begin(port, slots, columns, options, geometry, cell)
    kept: dict[int, tuple[Frame, Notes]] = {}
    for *values, step in port.tasks():
        task = Task(*values)
        pipeline.use_cell(cell_of_task(task.cell))
        serial, place, message = task.serial, slots[task.slot], messages.get(task)
        frame, notes = kept.pop(serial, (None, []))
        try:
            if frame is None:
                if task.number == ONLY and (count := pipeline.decoder.frame_count(message)) != 1:
                    port.answer(serial, SEVERAL, count)
                    continue
                frame, descriptor = pipeline.lay_down(message, place, messages.bytes_in_slot(task))
                descriptor = _with_mask(descriptor, frame, task, messages)
                if step == handover.DECODE and descriptor is not None:
                    kept[serial] = frame, pipeline.take_notes()
                    port.answer(serial, handover.DECODED, *descriptor)
                    continue
            found = handover.read_found(place) if step == handover.FINISH else None
            done = pipeline.complete(frame, message, place, found)
        except Rejected as rejected:
            _reject(port, serial, rejected, notes + pipeline.take_notes())
        else:
            _answer(port, serial, done, notes + pipeline.take_notes(), pipeline.cells(done.result))


def _with_mask(
    descriptor: handover.Descriptor | None, frame: Frame, task: Task, messages: Messages
) -> handover.Descriptor | None:
    """A descriptor that tells of the pixel mask of the frame's series; None if there is no room for that."""
    if descriptor is None or frame.packed is None or frame.packed.masked is None:
        return descriptor
    if not messages.keep_mask(task, frame.packed.masked):
        return None
    return descriptor._replace(series=task.series, series_slot=task.series_slot)


def _begin(
    port: Port,
    slots: Slots,
    columns: Mapping[str, int],
    options: Options,
    geometry: Geometry,
    cell: UnitCell | None,
) -> tuple[Pipeline, Messages]:
    clock = Stopwatch(port.counters, columns)
    if not options.asapo_output_stream:
        return Pipeline(options, geometry, cell, clock), Messages(slots)
    from gpuidx.sources.asapo.producer import Hits, connect  # whose library is optional

    hits = Hits(connect(options), port.counters[columns[COUNTERS[0]] :])
    return Pipeline(options, geometry, cell, clock, hits.send), Messages(slots, read_only=True)


def _answer(port: Port, serial: int, done: Done, notes: Notes, cells: list[tuple[float, ...]]) -> None:
    result = done.result
    counts = (done.n_byte, len(result.peaks), done.n_candidate, len(result.crystals))
    port.answer(serial, _state(result), "", "", *counts, notes, cells, done.n_record)


def _reject(port: Port, serial: int, rejected: Rejected, notes: Notes) -> None:
    port.answer(serial, REJECTED, rejected.reason, rejected.detail, 0, 0, 0, 0, notes)


def _state(result: Result) -> str:
    if result.crystals:
        return INDEXED
    return HIT if result.hit else BLANK
