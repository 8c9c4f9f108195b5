# SPDX-License-Identifier: GPL-3.0-or-later
"""From the source into the slots, and a task for each frame; every slot is free when its last user has ended.

A message that begins a series is kept for the frames that follow.  One with several frames becomes as many
tasks when a worker has said how many there are.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuidx.flow.accounts import DROPPED, REJECTED
from gpuidx.flow.slots import Slots
from gpuidx.record import Record
from gpuidx.sources.contract import END, START, Source, Taken
from gpuidx.tasks import ONLY, Task

MOST_A_TURN = 256
"""Messages received in a turn; then it is the workers' turn, however fast the sender is."""


@dataclass(slots=True)
class Several:
    """A message with several frames, of which some have no task yet.

    Attributes
    ----------
    task
        Of the message when it came.
    count
        Frames of the message.
    n_given
        Of those that have a task.
    arrival
        When the message came.
    """

    task: Task
    count: int
    n_given: int
    arrival: float


class Intake:
    """Takes what the source has.

    Parameters
    ----------
    source
        Opened by the run.
    slots
        For messages.
    record
        Counts frames.
    give
        Takes a `Task` over.
    message_bytes
        Of a slot, that a message may use.
    reserve
        Slots that messages leave free, so that frames of messages with several always find one.
    cell
        Gives the target cell that goes with tasks.
    max_frames
        That are received; None for no limit.

    Attributes
    ----------
    last_arrival
        When the last message came, by `time.monotonic`.
    """

    def __init__(
        self,
        source: Source,
        slots: Slots,
        record: Record,
        give: Callable[[Task], None],
        message_bytes: int,
        reserve: int = 0,
        cell: Callable[[], tuple[Any, ...] | None] = lambda: None,
        max_frames: int | None = None,
    ) -> None:
        self.source, self.slots, self.record, self.reserve = source, slots, record, reserve
        self.last_arrival = time.monotonic()
        self._give, self._message_bytes, self._cell = give, message_bytes, cell
        self._max_frames = max_frames
        self._users: Counter[int] = Counter()
        self._several: deque[Several] = deque()
        self._series: tuple[int, int, tuple[int, ...]] = (0, 0, ())

    @property
    def n_free(self) -> int:
        """Slots that messages may still take."""
        return max(0, self.slots.n_free - self.reserve)

    @property
    def remaining(self) -> int:
        """Frames that may still be received; without a limit as many as there are slots."""
        if self._max_frames is None:
            return self.slots.count
        return max(0, self._max_frames - self.record.accounts.received)

    def receive(self) -> None:
        """Take what is there."""
        accounts = self.record.accounts
        for _ in range(MOST_A_TURN):
            if not (self.remaining and self.source.ready()):
                return
            slot = self.slots.take() if self.n_free else None
            if slot is None:
                if not self.source.drop():
                    return
                accounts.finish(accounts.receive(), DROPPED, "no free slot")
            elif not self._take(slot):
                self.slots.give_back(slot)
                return

    def _take(self, slot: int) -> bool:
        """Take one message into *slot*; False if there was none."""
        taken = self.source.take(self.slots[slot][: self._message_bytes])
        if taken is None:
            return False
        self.last_arrival = time.monotonic()
        if taken.role == START:
            self._begin_series(slot, taken.sizes)
        elif taken.role == END:
            self.slots.give_back(slot)
        else:
            self._take_frame(slot, taken)
        return True

    def _take_frame(self, slot: int, taken: Taken) -> None:
        serial = self.record.accounts.receive()
        if taken.rejected is not None:
            self.slots.give_back(slot)
            self.record.end(serial, REJECTED, *taken.rejected)
            return
        event = taken.event or f"//{serial}"
        self._begin(
            Task(serial, slot, taken.filename, event, ONLY, slot, taken.sizes, *self._series, self._cell()),
            self.last_arrival,
        )

    def _begin(self, task: Task, arrival: float) -> None:
        self._users.update(task.slots)
        self.record.arrived(task.serial, arrival)
        self._give(task)

    def _begin_series(self, slot: int, sizes: tuple[int, ...]) -> None:
        number, old, old_sizes = self._series
        if old_sizes:
            self._release(old)
        self._users[slot] += 1
        self._series = number + 1, slot, sizes

    def several(self, task: Task, count: int) -> None:
        """Have the frames of a message done one by one; its task has come back, nothing was done."""
        if self.slots.count < 2:
            self.record.end(task.serial, REJECTED, "several frames in a message", f"{count}; give --slots=2")
            self.ended(task)
            return
        self._several.append(Several(task, count, 0, self.record.arrival(task.serial)))
        self.expand()

    def expand(self) -> None:
        """Give tasks for further frames of messages with several, as far as there are slots.

        Frames beyond the limit are left alone, as messages are that were not received.
        """
        while self._several:
            message = self._several[0]
            number = message.n_given
            if number == message.count or (number and not self.remaining):
                self._several.popleft()
                self.ended(message.task)
                continue
            slot = self.slots.take()
            if slot is None:
                return
            serial = message.task.serial if number == 0 else self.record.accounts.receive()
            event = f"//{serial}"
            self._begin(
                message.task._replace(serial=serial, slot=slot, event=event, number=number), message.arrival
            )
            message.n_given += 1

    def ended(self, task: Task) -> None:
        """Give the slots back that were this frame's, and nobody else's."""
        for slot in task.slots:
            self._release(slot)

    def _release(self, slot: int) -> None:
        self._users[slot] -= 1
        if not self._users[slot]:
            del self._users[slot]
            self.slots.give_back(slot)

    @property
    def n_waiting(self) -> int:
        """Frames of messages with several that have no task yet."""
        return sum(message.count - message.n_given for message in self._several)

    def drop_waiting(self, reason: str) -> None:
        """Count the frames that wait as dropped; the run is over."""
        for message in self._several:
            first_has_serial = message.n_given == 0
            for _ in range(message.count - message.n_given - first_has_serial):
                self.record.accounts.finish(self.record.accounts.receive(), DROPPED, reason)
        self._several.clear()
