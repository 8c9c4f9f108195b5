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

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.contract import DeviceBackend
from gpuidx.backends.cuda.problems import backend_error
from gpuidx.cell import UnitCell
from gpuidx.errors import GpuidxError
from gpuidx.flow.child import Port
from gpuidx.flow.slots import Slots
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.handover import (
    BATCHES,
    FILLING,
    FOUND,
    FRAMES,
    ON_CPU,
    PLACES,
    WORKING,
    Descriptor,
    frame_in,
    write_found,
)
from gpuidx.model import Found, Frame
from gpuidx.options import Options
from gpuidx.tasks import SERIES_AT_A_TIME, mask_in

log = logging.getLogger(__name__)

BETWEEN_LOOKS = 2e-4
"""Seconds between two looks whether a batch is done."""

NO_ROOM = "more peaks, lattices or detector positions than there is room for, one out of range, or damaged"
UNUSABLE = "a detector that cannot be"
"""Why a frame goes to the CPU."""


class Task(NamedTuple):
    """A decoded frame in a slot, and when it came."""

    serial: int
    slot: int
    descriptor: Descriptor
    arrival: float


class Running(NamedTuple):
    """A batch that the device works on, and those of its frames that are not answered yet."""

    batch: Any
    tasks: dict[int, Task]


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


class SeriesMasks:
    """Pixel masks of the last few series; the same array object for the same mask.

    Parameters
    ----------
    slots
        Where workers have put them.
    shape : (ss, fs)
        Of the slab.
    """

    def __init__(self, slots: Slots, shape: tuple[int, int]) -> None:
        self._slots, self._shape = slots, shape
        self._kept: dict[int, NDArray[np.bool_]] = {}

    def of(self, descriptor: Descriptor) -> NDArray[np.bool_] | None:
        """The mask that must be taken out of a frame; None if there is none."""
        series = descriptor.series
        if not series:
            return None
        if series not in self._kept:
            mask = mask_in(self._slots[descriptor.series_slot], self._shape).copy()
            same = (known for known in self._kept.values() if np.array_equal(known, mask))
            self._kept[series] = next(same, mask)
            if len(self._kept) > SERIES_AT_A_TIME:
                del self._kept[next(iter(self._kept))]  # it came first
        return self._kept[series]


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
        self.masks = SeriesMasks(slots, geometry.slab_shape)
        self.waiting: deque[Task] = deque()
        self.running: list[Running] = []

    def run(self) -> None:
        """Take tasks, begin batches, answer the frames that are done, until main ends."""
        while (tasks := self.poll()) is not None:
            now = self.clock()
            self.waiting.extend(
                Task(serial, slot, Descriptor(*values), now) for serial, slot, *values in tasks
            )
            while self.is_due():
                self.begin()
            for running in self.running:
                self.answer(running)
            self.running = [running for running in self.running if running.tasks]

    def poll(self) -> Sequence[tuple[Any, ...]] | None:
        """Wait for tasks, and count what the device does in the meantime."""
        begun, counter = self.clock(), WORKING if self.running else FILLING if self.waiting else None
        tasks = self.port.poll(self.patience())
        if counter is not None:
            self.port.counters[counter] += round(1e6 * (self.clock() - begun))
        return tasks

    def is_due(self) -> bool:
        """Whether a batch is to be begun: it is full, or its first frame has waited long enough."""
        if not self.waiting:
            return False
        full = len(self.waiting) >= self.backend.batch_size
        due = full or self.clock() >= self.waiting[0].arrival + self.latency
        return due and self.backend.has_room

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
        tasks: dict[int, Task] = {}
        frames: list[Frame] = []
        for task in [self.waiting.popleft() for _ in range(n)]:
            try:
                masked = self.masks.of(task.descriptor)
                place = self.slots[task.slot]
                frames.append(frame_in(place, task.serial, task.descriptor, self.geometry, masked))
            except ValueError:
                self.port.answer(task.serial, ON_CPU, UNUSABLE)
            else:
                tasks[len(tasks)] = task
        if not frames:
            return
        self._count(len(frames))
        batch = self.backend.upload(frames)
        self.backend.find_peaks(batch)
        self.backend.index(batch)
        self.running.append(Running(batch, tasks))

    def _count(self, n_frame: int) -> None:
        self.port.counters[BATCHES] += 1
        self.port.counters[FRAMES] += n_frame
        self.port.counters[PLACES] += self.backend.batch_size

    def answer(self, running: Running) -> None:
        """Put what is found into the slots, and answer those frames."""
        finished = self.backend.finished(running.batch)
        if finished:
            self.port.answer_all(self._answers(running.tasks, finished))

    def _answers(
        self, tasks: dict[int, Task], finished: Sequence[tuple[int, Found | None]]
    ) -> Iterator[tuple[Any, ...]]:
        for number, found in finished:
            task = tasks.pop(number)
            if found is not None and write_found(self.slots[task.slot], found):
                yield task.serial, FOUND
            else:
                yield task.serial, ON_CPU, NO_ROOM
