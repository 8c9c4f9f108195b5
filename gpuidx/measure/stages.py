# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time of each stage of a worker, frame by frame, in this process and on one core."""

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import zmq

from gpuidx.formats.frame import widened
from gpuidx.model import Frame, Message
from gpuidx.pipeline import Pipeline
from gpuidx.sources.parts import put
from gpuidx.tasks import offsets, parts_in

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


class InSlot(NamedTuple):
    """A message as it lies in its slot.

    Attributes
    ----------
    message
        As a worker gets it.
    slot, used
        All of the slot, and how many of its first bytes the message takes.
    """

    message: Message
    slot: memoryview
    used: int


class StageTimes:
    """CPU times of this thread by stage, added up for each message, s; a clock for a pipeline."""

    def __init__(self) -> None:
        self._messages: list[Counter[str]] = []

    def begin(self) -> None:
        """Count for another message from now on."""
        self._messages.append(Counter())

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time until the end of the context; a message may come to a stage several times."""
        begun = time.thread_time_ns()
        yield
        self._messages[-1][stage] += time.thread_time_ns() - begun

    def median(self, stage: str) -> float:
        """Of one stage over all messages, s; at least one."""
        return statistics.median(times[stage] for times in self._messages) / 1e9


def measured(
    pipeline: Pipeline,
    messages: Sequence[InSlot],
    place: memoryview,
    rounds: int,
    for_device: bool = False,
) -> StageTimes:
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
    for_device
        Lay frames down as for a device, which may leave them compressed, and decode those with crystals only.

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
                times.begin()
                with times(DECODE):
                    pipeline.decoder.frame_count(message.message)
                steps = _laid_down if for_device else _decoded
                _after_decoding(pipeline, *steps(pipeline, message), place, times, file.write)
    return times


def _decoded(pipeline: Pipeline, laid: InSlot) -> tuple[Frame, Frame]:
    """A frame, and the same with pixels."""
    with pipeline.clock(DECODE):
        frame = pipeline.decode(laid.message)
    frame = pipeline.with_pixels(frame)
    return frame, frame


def _laid_down(pipeline: Pipeline, laid: InSlot) -> tuple[Frame, Frame]:
    """The same for a device; nothing is counted for pixels that only it decodes."""
    frame, _ = pipeline.lay_down(*laid)
    return frame, widened(pipeline.decoder.with_pixels(frame))


def _after_decoding(
    pipeline: Pipeline,
    frame: Frame,
    shown: Frame,
    place: memoryview,
    clock: StageTimes,
    to_file: Callable[[memoryview], Any],
) -> None:
    backend = pipeline.backend
    with clock(SEARCH):
        batch = backend.upload([shown])
        backend.find_peaks(batch)
    with clock(TRIALS):
        backend.index(batch)
        (found,) = backend.results(batch)
    result = pipeline.finish(frame, found)
    with clock(TEXT):
        to_file(place[: pipeline.write(result, place)])


def in_slot(
    parts: Sequence[Any], slot: memoryview, serial: int, series: tuple[memoryview, ...] = ()
) -> InSlot:
    """Put a message into a slot as a source does, so that pixels are aligned as in a run.

    Parameters
    ----------
    parts
        Of the message: bytes or ZeroMQ's frames.
    slot
        With `SPARE` bytes more than these.
    serial
        Of the frame.
    series
        The message that began its series, as it lies in its slot.
    """
    laid, used = put_down(parts, slot)
    message = Message(
        serial=serial, filename="measured", event=f"//{serial}", data=laid[-1],
        parts=laid if len(laid) > 1 else (), series=series,
    )  # fmt: skip
    return InSlot(message, slot, used)


def put_down(parts: Sequence[Any], slot: memoryview) -> tuple[tuple[memoryview, ...], int]:
    """Parts of a message in a slot, put there, and bytes that they take."""
    frames = [part if isinstance(part, zmq.Frame) else zmq.Frame(part) for part in parts]
    sizes = put(frames, slot).sizes
    return parts_in(slot, sizes), offsets(sizes)[-1]


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
