# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of a device: decoded frames in the slots to batches, what was found back into the slots.

Runs in a child process; `gpuidx.device_pool` names it, and never imports it.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gpuidx.backends.contract import DeviceBackend
from gpuidx.backends.cuda.problems import backend_error
from gpuidx.cell import UnitCell
from gpuidx.errors import GpuidxError, Rejected
from gpuidx.flow.child import Port
from gpuidx.flow.slots import Slots
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.handover import BATCHES, FOUND, FRAMES, ON_CPU, PLACES, Descriptor, frame_in, write_found
from gpuidx.model import Found, Frame
from gpuidx.options import Options

log = logging.getLogger(__name__)

BETWEEN_LOOKS = 2e-4
"""Seconds between two looks whether a batch is done."""

NO_ROOM = "more peaks, lattices or detector positions than a device has room for"
UNUSABLE = "refused by the device"
"""Why a frame goes to the CPU."""


class Task(NamedTuple):
    """A decoded frame in a slot, and when it came."""

    serial: int
    slot: int
    descriptor: Descriptor
    arrival: float


class Running(NamedTuple):
    """A batch that the device works on, and its frames."""

    batch: Any
    tasks: Sequence[Task]


def serve(
    port: Port,
    slots: Slots,
    options: Options,
    geometry: Geometry,
    cell: UnitCell | None,
    devices: tuple[int, ...],
) -> None:
    """Work for the CUDA device that this child's number stands for, until main ends.

    Raises
    ------
    BackendError
        If the device cannot be used, or fails: then nothing in this process can use it any more.
    """
    from gpuidx.backends.cuda.backend import CudaBackend

    sys.unraisablehook = lambda _: None  # CuPy's objects complain when they are freed after their device

    number = devices[port.number]
    masks = Masks(geometry, options.highres, options.mask_data)
    try:
        backend = CudaBackend(geometry, options, masks, cell, device=number, ring=slots.memory)
        for note in backend.notes:
            log.warning("CUDA device %d: %s", number, note)
        serve_with(port, slots, geometry, backend, options.gpu_max_latency / 1e3)
        backend.close()
    except GpuidxError:
        raise
    except Exception as error:
        raise backend_error(f"CUDA device {number}", error) from error


def serve_with(
    port: Port,
    slots: Slots,
    geometry: Geometry,
    backend: DeviceBackend[Any],
    latency: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Answer every task with `FOUND`, or with `ON_CPU` and the reason.

    Parameters
    ----------
    port
        Tasks are (serial, slot, *`Descriptor`).
    slots
        Where the images lie, and what is found goes.
    geometry
        Of the run.
    backend
        Of the device.
    latency
        s that the first frame of a batch waits for others.
    clock
        Tells the time, s.
    """
    Service(port, slots, geometry, backend, latency, clock).run()


class Service:
    """The loop of a device process; for the parameters see `serve_with`."""

    def __init__(
        self,
        port: Port,
        slots: Slots,
        geometry: Geometry,
        backend: DeviceBackend[Any],
        latency: float,
        clock: Callable[[], float],
    ) -> None:
        self.port, self.slots, self.geometry, self.backend = port, slots, geometry, backend
        self.latency, self.clock = latency, clock
        self.waiting: deque[Task] = deque()
        self.running: deque[Running] = deque()

    def run(self) -> None:
        """Take tasks, begin batches, answer those that are done, until main ends."""
        while (tasks := self.port.poll(self.patience())) is not None:
            now = self.clock()
            self.waiting.extend(
                Task(serial, slot, Descriptor(*values), now) for serial, slot, *values in tasks
            )
            while self.is_due():
                self.begin()
            while self.running and self.backend.done(self.running[0].batch):
                self.answer(self.running.popleft())

    def is_due(self) -> bool:
        """Whether a batch is to be begun: it is full, or its first frame has waited long enough."""
        if not self.waiting or len(self.running) >= self.backend.in_flight:
            return False
        full = len(self.waiting) >= self.backend.batch_size
        return full or self.clock() >= self.waiting[0].arrival + self.latency

    def patience(self) -> float | None:
        """How long to wait for further tasks, s; None: until one comes."""
        if self.is_due():
            return 0.0
        if self.running:
            return BETWEEN_LOOKS
        if self.waiting:
            return max(0.0, self.waiting[0].arrival + self.latency - self.clock())
        return None

    def begin(self) -> None:
        """Have the device begin with a batch of the frames that wait."""
        n = min(len(self.waiting), self.backend.batch_size)
        tasks, frames = [], []
        for task in [self.waiting.popleft() for _ in range(n)]:
            try:
                frames.append(frame_in(self.slots[task.slot], task.serial, task.descriptor, self.geometry))
            except ValueError:
                self.port.answer(task.serial, ON_CPU, UNUSABLE)
            else:
                tasks.append(task)
        if not frames:
            return
        self._count(len(frames))
        try:
            self.running.append(Running(self._batch(frames), tasks))
        except Rejected:
            self._begin_alone(tasks, frames)

    def _batch(self, frames: Sequence[Frame]) -> Any:
        batch = self.backend.upload(frames)
        self.backend.find_peaks(batch)
        self.backend.index(batch)
        return batch

    def _begin_alone(self, tasks: Sequence[Task], frames: Sequence[Frame]) -> None:
        """A batch in which a frame cannot be used: frame by frame, so that it costs the others nothing."""
        for task, frame in zip(tasks, frames, strict=True):
            while len(self.running) >= self.backend.in_flight:
                self.answer(self.running.popleft())
            try:
                self.running.append(Running(self._batch([frame]), [task]))
            except Rejected:
                self.port.answer(task.serial, ON_CPU, UNUSABLE)

    def _count(self, n_frame: int) -> None:
        self.port.counters[BATCHES] += 1
        self.port.counters[FRAMES] += n_frame
        self.port.counters[PLACES] += self.backend.batch_size

    def answer(self, running: Running) -> None:
        """Put what was found into the slots, and answer the whole batch."""
        self.port.answer_all(self._answers(running.tasks, self.backend.results(running.batch)))

    def _answers(self, tasks: Sequence[Task], results: Sequence[Found | None]) -> Iterator[tuple[Any, ...]]:
        for task, found in zip(tasks, results, strict=True):
            if found is not None and write_found(self.slots[task.slot], found):
                yield task.serial, FOUND
            else:
                yield task.serial, ON_CPU, NO_ROOM
