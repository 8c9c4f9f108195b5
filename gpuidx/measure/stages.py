# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time of each stage of a worker, frame by frame, in this process and on one core."""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import zmq

from gpuidx.formats.frame import widened
from gpuidx.model import Message
from gpuidx.pipeline import Pipeline
from gpuidx.sources.parts import put
from gpuidx.tasks import parts_in

DECODE, SEARCH, TRIALS, TEXT = "decode", "peak search", "trials", "text"
REFINE, INTEGRATE = "refine and check", "integrate"
"""Stages; the last two as the pipeline names them."""

SPARE = 4096
"""Bytes of a slot beyond the message, for what aligns its parts."""


def cpu_ms(work: Callable[[Any], Any], inputs: Iterable[Any]) -> float:
    """Median CPU time of one call, ms; each input once, after one call to warm up."""
    items = list(inputs)
    work(items[0])
    times = []
    for item in items:
        begun = time.process_time_ns()
        work(item)
        times.append((time.process_time_ns() - begun) / 1e6)
    return statistics.median(times)


class StageTimes:
    """CPU times of this thread by stage, s; a clock for a pipeline."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Note the time until the end of the context."""
        begun = time.thread_time_ns()
        yield
        self.seconds[stage].append((time.thread_time_ns() - begun) / 1e9)

    def median(self, stage: str) -> float:
        """Of one stage, s; 0 if it never came."""
        return statistics.median(self.seconds.get(stage) or [0.0])


def measured(pipeline: Pipeline, messages: Sequence[Message], place: memoryview, rounds: int) -> StageTimes:
    """Send each message through all steps as a worker does, again and again; the first round is not timed.

    Parameters
    ----------
    pipeline
        Of the run; its clock is replaced.
    messages
        Alike, all hits or all blanks: medians are taken over all of them.
    place
        For the chunk's text.
    rounds
        How often; at least 1.

    Raises
    ------
    Rejected
        If a frame cannot be used.
    """
    for number in range(rounds + 1):
        if number < 2:  # the times so far are those of the warm-up
            times = StageTimes()
            pipeline.clock = times
        with tempfile.TemporaryFile(buffering=0) as file:
            for message in messages:
                _through(pipeline, message, place, times, file.write)
    return times


def _through(
    pipeline: Pipeline,
    message: Message,
    place: memoryview,
    clock: StageTimes,
    to_file: Callable[[memoryview], Any],
) -> None:
    with clock(DECODE):
        pipeline.decoder.frame_count(message)
        frame = pipeline.decode(message)
    backend = pipeline.backend
    with clock(SEARCH):
        batch = backend.upload([widened(frame)])
        backend.find_peaks(batch)
    with clock(TRIALS):
        backend.index(batch)
        (found,) = backend.results(batch)
    result = pipeline.finish(frame, found)
    with clock(TEXT):
        to_file(place[: pipeline.write(result, place)])


def as_message(parts: Sequence[Any], series: Sequence[Any] = (), serial: int = 1) -> Message:
    """A message as it lies in its slot.

    Parameters
    ----------
    parts, series
        The message, and the one that began its series: bytes or ZeroMQ's frames.
    serial
        Of the frame.
    """
    laid = _laid(parts)
    return Message(
        serial=serial, filename="measured", event=f"//{serial}", data=laid[-1],
        parts=laid if len(laid) > 1 else (), series=_laid(series) if series else (),
    )  # fmt: skip


def _laid(parts: Sequence[Any]) -> tuple[memoryview, ...]:
    """Put into a slot as a source does, so that pixels are aligned as in a run."""
    frames = [part if isinstance(part, zmq.Frame) else zmq.Frame(part) for part in parts]
    slot = np.empty(SPARE + sum(map(len, frames)), np.uint8).data
    return parts_in(slot, put(frames, slot).sizes)


def copy_seconds(n_byte: int, n_slot: int = 16, rounds: int = 4) -> float:
    """CPU time to copy a message from fresh memory into its slot, s, round and round as in a run."""
    slots = np.zeros((n_slot, n_byte), np.uint8)
    sources = np.ones((n_slot, n_byte), np.uint8)
    times = []
    for _ in range(rounds):
        for slot, source in zip(slots, sources, strict=True):
            begun = time.thread_time_ns()
            np.copyto(slot, source)
            times.append((time.thread_time_ns() - begun) / 1e9)
    return statistics.median(times)
