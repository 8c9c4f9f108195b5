# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a frame on the CUDA path as main sees it: to a worker, to a device, to the same worker again.

Made to stand where the pool of workers stands on the CPU path.
"""

from collections.abc import Mapping
from typing import Any

from gpuidx.device_pool import DevicePool
from gpuidx.flow.children import Answer, Ended, Pool, Task
from gpuidx.flow.member import Child
from gpuidx.handover import DECODE, DECODED, FINISH, FOUND, WHOLE


class Route:
    """Tasks for workers and devices in turn.

    Parameters
    ----------
    workers
        Children with the body `gpuidx.worker.work_with_device`.
    devices
        As long as there is none, or none any more, workers do everything.
    """

    def __init__(self, workers: Pool, devices: DevicePool) -> None:
        self.workers, self.devices = workers, devices
        self._decoded: dict[int, tuple[Task, Child]] = {}

    def give(self, task: Task) -> None:
        """Take a message over, a task of `gpuidx.worker.work`."""
        self.workers.give((*task, WHOLE if self.devices.is_lost else DECODE))

    def hand_out(self) -> None:
        """Send what waits to devices and workers."""
        self.devices.hand_out()
        self.workers.hand_out()

    def collect(self, events: Mapping[Any, int]) -> list[Ended]:
        """Give the tasks whose frames have ended; others go on to their next step.

        Raises
        ------
        WorkerError
            If workers cannot be started; devices that cannot be are done without.
        """
        ended = []
        for end in self.workers.collect(events):
            if isinstance(end, Answer) and end.values[0] == DECODED:
                self._to_device(end)
            else:
                ended.append(end)
        for serial, where in self.devices.collect(events):
            task, child = self._decoded.pop(serial)
            self.workers.give((*task, FINISH if where == FOUND else WHOLE), child)
        return ended

    def _to_device(self, decoded: Answer) -> None:
        serial, slot, *_ = task = decoded.task[:-1]
        if self.devices.is_lost:
            self.workers.give((*task, WHOLE), decoded.child)
        else:
            self._decoded[serial] = task, decoded.child
            self.devices.give((serial, slot, *decoded.values[1:]))
