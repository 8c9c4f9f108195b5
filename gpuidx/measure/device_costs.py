# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame of a kind that is measured costs a CUDA device."""

from dataclasses import replace

from gpuidx.backends.cuda.ring import begin_on, page_locked
from gpuidx.formats.frame import widened
from gpuidx.measure.device import search_times, tables_of, whole_path
from gpuidx.measure.model import DeviceCosts
from gpuidx.measure.subject import Subject
from gpuidx.pipeline import Pipeline

BATCH, LEAST_BATCHES, REPEATS = 32, 8, 10
"""Frames of a batch, batches of the whole path, and repetitions of what is timed alone."""


def device_costs(subject: Subject, device: int) -> DeviceCosts:
    """What a frame costs one device, in batches of `BATCH` unless the run says ``--gpu-batch``.

    Trials are what the whole path takes longer for hits than for blanks, so they are 0 as far as they hide
    behind the bus.
    """
    options = subject.options()
    batch = options.gpu_batch or BATCH
    options = replace(options, gpu_batch=batch)
    pipeline = Pipeline(replace(options, backend="cpu"), subject.geometry, subject.cell)
    geometry, masks = subject.geometry, pipeline.masks
    shown = [
        [widened(pipeline.decode(message)) for message in subject.received(sent)]
        for sent in (subject.blanks, subject.hits)
    ]
    first = shown[0][0]
    images = [[frame.image for frame in frames if frame.image is not None] for frames in shown]
    seconds = []
    with page_locked(batch * images[0][0].nbytes) as ring:
        for one, those in zip((frames[0] for frames in shown), images, strict=True):
            frames = ring.frames(one, [those[slot % len(those)] for slot in range(batch)])
            if one is first:
                begin_on(device)
                tables = tables_of(one, geometry, options, masks)
                times = search_times(frames, geometry, tables, options, masks, REPEATS)
            begin_on(device)
            flow, _ = whole_path(
                geometry, options, masks, subject.cell, frames, LEAST_BATCHES * batch, device
            )
            seconds.append(flow.seconds / flow.n_frame)
    return DeviceCosts(
        upload=times.upload / batch / 1e3,
        search=times.search / batch / 1e3,
        trials=max(0.0, seconds[1] - seconds[0]),
    )
