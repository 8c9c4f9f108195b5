# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame of a kind that is measured costs a CUDA device."""

from gpuidx.backends.cuda.ring import batch_of, begin_on, page_locked
from gpuidx.handover import frame_in
from gpuidx.measure.device import SearchTimes, search_times, tables_of, whole_path
from gpuidx.measure.model import DeviceCosts
from gpuidx.measure.stages import InSlot
from gpuidx.measure.subject import DISTINCT, Subject
from gpuidx.model import Frame
from gpuidx.options import USUAL_BATCH
from gpuidx.pipeline import Pipeline

LEAST_BATCHES, REPEATS = 8, 10
"""Batches of the whole path, and repetitions of what is timed alone."""


def device_costs(subject: Subject, device: int) -> DeviceCosts:
    """What a frame costs one device: laid down in page-locked slots and taken in batches, both as in a run.

    Raises
    ------
    BackendError
        If the device has not memory for a batch.
    Rejected
        If a frame cannot be used.
    """
    options, geometry = subject.options(), subject.geometry
    pipeline = Pipeline(options, geometry, subject.cell)
    masks, sent = pipeline.masks, [*subject.blanks, *subject.hits]
    least = LEAST_BATCHES * (options.gpu_batch or USUAL_BATCH)
    seconds = []
    begin_on(device)
    with page_locked(len(sent) * subject.slot_bytes) as ring:
        slots = ring.memory.reshape(len(sent), -1)
        frames = [on_device(pipeline, one) for one in subject.received(sent, slots)]
        blanks, hits = frames[:DISTINCT], frames[DISTINCT:]
        for shown in (blanks, hits):
            begin_on(device)
            flow, found = whole_path(geometry, options, masks, subject.cell, shown, least, device)
            seconds.append(flow.seconds / flow.n_frame)
        begin_on(device)
        n_frame = len(found[0])
        tables = tables_of(blanks[0], geometry, options, masks)
        times = search_times(batch_of(blanks, n_frame, 0), geometry, tables, options, masks, REPEATS)
    return costs_from(times, n_frame, *seconds)


def on_device(pipeline: Pipeline, laid: InSlot) -> Frame:
    """A message laid down in its slot, as the process of the device finds it there."""
    frame, descriptor = pipeline.lay_down(*laid)
    if descriptor is None:
        return frame
    masked = frame.packed.masked if frame.packed is not None else None
    return frame_in(laid.slot, frame.serial, descriptor, pipeline.geometry, masked)


def costs_from(times: SearchTimes, n_frame: int, blank: float, hit: float) -> DeviceCosts:
    """Costs of a frame from times of a batch.

    Trials are what the whole path takes longer for hits than for blanks, so they are 0 as far as they hide
    behind the bus.

    Parameters
    ----------
    times, n_frame
        Of a batch, and how many frames it has.
    blank, hit
        Seconds of the whole path for a frame.
    """
    return DeviceCosts(
        upload=times.upload / n_frame / 1e3,
        search=times.search / n_frame / 1e3,
        trials=max(0.0, hit - blank),
    )
