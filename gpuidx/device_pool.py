# SPDX-License-Identifier: GPL-3.0-or-later
"""Main's side of the device processes: frames to them, those that they lose once more, then to the CPU.

Nothing is lost with a device: each frame that was given comes back, as `FOUND` or as `ON_CPU`.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpuidx.errors import BackendError
from gpuidx.flow.children import Answer, Ended, Pool, Task
from gpuidx.flow.poller import Poller
from gpuidx.handover import COUNTERS, FILLING, FRAMES, ON_CPU, PLACES, WORKING
from gpuidx.options import USUAL_BATCH, Options
from gpuidx.status import DeviceUse

BODY = "gpuidx.device:serve"
"""What runs in a device process."""

START_LIMIT = 120.0
"""Seconds in which a device must be ready, kernels that have to be compiled included."""

BATCHES_EACH = 3
"""Batches that frames are handed out for: two under way, and one that fills."""

COUNTED = (FRAMES, PLACES, WORKING, FILLING)

LOST = "the device process died twice"
GONE = "no device is left"

log = logging.getLogger(__name__)


def most_frames(options: Options) -> int:
    """Frames that a device process has at most, those that wait for their batch included."""
    return BATCHES_EACH * (options.gpu_batch or USUAL_BATCH)


class DevicePool:
    """The device processes of a run, one for each device.

    Parameters
    ----------
    options
        Of the run.
    count
        Number of devices.
    args
        Of the body, after its port.
    cpus
        Of each process; see `Pool`.

    Attributes
    ----------
    is_lost
        Whether no device is left; nothing may be given any more.
    notes
        Counts frames that went to the CPU, by reason, and processes that were replaced.
    """

    def __init__(
        self, options: Options, count: int, args: tuple[Any, ...], cpus: Sequence[Sequence[int]] = ()
    ) -> None:
        depth = most_frames(options)
        self.is_lost = False
        self.notes: Counter[str] = Counter()
        self.count = count
        self._is_needed = options.backend == "cuda"  # until one was ready: what fails later costs no frame
        # a silence may be a batch that fills, and then one that is done
        task_limit = options.gpu_max_latency / 1e3 + options.task_limit
        self._pool = Pool(
            BODY, count, args, depth=depth, batch=depth, start_limit=START_LIMIT, task_limit=task_limit,
            counters=COUNTERS, debug=options.debug, name="device process", shared_fate=True,
            cpus=cpus,
        )  # fmt: skip
        self._twice: set[int] = set()
        self._n_restart = self._n_given_up = 0
        self._counted: tuple[float, ...] = (0, 0, 0, 0, time.monotonic())

    def open(self, poller: Poller) -> None:
        """Start the processes, and have *poller* wait for them from now on."""
        self._pool.open(poller)

    @property
    def is_ready(self) -> bool:
        """Whether a process has its device ready."""
        return self._pool.n_ready > 0

    def pids(self) -> list[int]:
        """Process numbers of those that live."""
        return self._pool.pids()

    def load(self) -> float:
        """Frames that the devices have, as a share of what they may have; 0 to 1."""
        return 0.0 if self.is_lost else min(1.0, self._pool.n_task / (self._pool.depth * self.count))

    def use(self) -> DeviceUse | None:
        """What the devices did since the last call; None if they had no batch."""
        if self.is_lost:
            return None
        counts = (*(self._pool.counter(what) for what in COUNTED), time.monotonic())
        frames, places, working, filling, elapsed = (
            now - before for now, before in zip(counts, self._counted, strict=True)
        )
        self._counted = counts
        if not places:
            return None
        share = 1e-6 / max(elapsed * self.count, 1e-9)
        working = min(1.0, working * share)
        return DeviceUse(frames / places, working, min(1.0 - working, filling * share))

    def give(self, task: Task) -> None:
        """Take a decoded frame over: (serial, slot, *`Descriptor`)."""
        self._pool.give(task)

    def hand_out(self) -> None:
        """Send waiting frames to the devices."""
        if not self.is_lost:
            self._pool.hand_out()

    def collect(self, events: Mapping[Any, int]) -> list[tuple[int, str]]:
        """Give the serials of frames that come back, each with `FOUND` or `ON_CPU`.

        Raises
        ------
        BackendError
            If no device can be made ready, and there has to be one.
        """
        if self.is_lost:
            return []
        located = [self._place(ended) for ended in self._pool.collect(events)]
        self._is_needed = self._is_needed and not self.is_ready
        self._tell()
        return [found for found in located if found] + self._give_up_if_none_is_left()

    def _place(self, ended: Ended) -> tuple[int, str] | None:
        """Where a frame goes now; None if once more to a device."""
        serial: int = ended.task[0]
        if isinstance(ended, Answer):
            self._twice.discard(serial)
            if ended.values[0] == ON_CPU:
                self._note(ended.values[1])
            return serial, ended.values[0]
        if serial in self._twice:
            self._twice.remove(serial)
            self._note(LOST)
            return serial, ON_CPU
        self._twice.add(serial)
        self._pool.give(ended.task, first=True)
        return None

    def _note(self, why: str) -> None:
        self.notes[f"frames done on the CPU: {why}"] += 1

    def _tell(self) -> None:
        """Say what happened to the processes; raises as `collect`."""
        for text in self._pool.given_up[self._n_given_up :]:
            self._n_given_up += 1
            rest = self.count - self._n_given_up
            if self._is_needed and not rest:
                raise BackendError(f"--backend=cuda: {text}; give --backend=auto to go on without")
            log.warning("%s; going on %s", text, f"with {rest} other(s)" if rest else "on the CPU")
        if self._pool.restarts > self._n_restart:
            self._n_restart = self._pool.restarts
            self.notes["device processes replaced"] = self._n_restart

    def _give_up_if_none_is_left(self) -> list[tuple[int, str]]:
        if self._n_given_up < self.count:
            return []
        self.is_lost = True
        self._twice.clear()
        left = self._pool.close(now=True)
        for _ in left:
            self._note(GONE)
        return [(task[0], ON_CPU) for task in left]

    def close(self, now: bool = False) -> None:
        """End the processes."""
        if not self.is_lost:
            self.is_lost = True
            self._pool.close(now=now)
