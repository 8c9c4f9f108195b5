# SPDX-License-Identifier: GPL-3.0-or-later
"""From the source into the slots, and a task for each frame; every slot is free when its last user has ended.

A source that lends (`gpuidx.sources.contract.Lender`) fills slots itself, and hears when a message has ended.

A message that begins a series is kept for the frames that follow.  One with several frames becomes as many
tasks when a worker has said how many there are.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuidx.flow.accounts import CRASHED, DROPPED, DUPLICATE, REJECTED
from gpuidx.flow.children import Crash
from gpuidx.flow.slots import Slots
from gpuidx.record import Record
from gpuidx.series import SeriesBegun
from gpuidx.sources.contract import END, START, Keeper, Lender, Source, Taken
from gpuidx.tasks import ONLY, Task

MOST_DEATHS = 3
"""Workers that may die at a frame which is not to be lost."""

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
        Of those that have a task, or need none.
    arrival
        When the message came.
    serial
        Under which the message was counted, until a frame has it.
    """

    task: Task
    count: int
    n_given: int
    arrival: float
    serial: int | None


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
    last_end
        When the last message was done with.
    n_lent
        Slots that a source has which fills them itself, and has not yet.
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
        self.last_arrival = self.last_end = time.monotonic()
        self._give, self._message_bytes, self._cell = give, message_bytes, cell
        self._max_frames = max_frames
        self._users: Counter[int] = Counter()
        self._several: deque[Several] = deque()
        self._series = SeriesBegun(slots, lambda slot: self._users.update((slot,)), self._release)
        self._lender = source if isinstance(source, Lender) else None
        self._keeper = source if isinstance(source, Keeper) else None
        self.n_lent = 0
        self._filled: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._again: dict[int, tuple[Task, Crash]] = {}
        if self._lender is not None:
            self._lender.attach(slots, message_bytes)

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
        if self._lender is not None:
            self._receive_lent(self._lender)
            return
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

    def lend(self) -> None:
        """Lend slots to a source that fills them itself."""
        lender = self._lender
        if lender is None:
            return
        most = self.remaining if lender.is_exact else self.slots.count
        while self.n_lent < most and self.n_free and lender.n_wanted() > 0:
            slot = self.slots.take()
            assert slot is not None
            self.n_lent += 1
            lender.lend(slot)

    def _receive_lent(self, lender: Lender) -> None:
        """Take the slots that the source has filled."""
        while (filled := lender.filled()) is not None:
            if filled[0] in self._again:
                self._fetched_again(*filled)
                continue
            self.n_lent -= 1
            if self.remaining or self._keeper is not None:
                self._filled.add(filled[0])
                self._begin_with(*filled)
            else:
                self.slots.give_back(filled[0])

    def _take(self, slot: int) -> bool:
        """Take one message into *slot*; False if there was none."""
        taken = self.source.take(self.slots[slot][: self._message_bytes])
        if taken is None:
            return False
        self._begin_with(slot, taken)
        return True

    def _begin_with(self, slot: int, taken: Taken) -> None:
        self.last_arrival = time.monotonic()
        if taken.role == START:
            self._series.begin(taken.connection, slot, taken.sizes)
        elif taken.role == END:
            self._free(slot)
        else:
            self._take_frame(slot, taken)

    def _take_frame(self, slot: int, taken: Taken) -> None:
        serial = self.record.accounts.receive()
        if taken.rejected is not None:
            self.record.end(serial, REJECTED, *taken.rejected)
            self._free(slot)
            return
        event = taken.event or f"//{serial}"
        task = Task(
            serial, slot, taken.filename, event, ONLY, slot, taken.sizes,
            *self._series.of(taken.connection), self._cell(), taken.origin,
        )  # fmt: skip
        self._begin(task, self.last_arrival)

    def _begin(self, task: Task, arrival: float) -> None:
        self._users.update(task.slots)
        self.record.arrived(task.serial, arrival)
        self._give(task)

    def several(self, task: Task, count: int) -> None:
        """Have the frames of a message done one by one; its task has come back, nothing was done."""
        if self.slots.count < 2:
            self.record.end(task.serial, REJECTED, "several frames in a message", f"{count}; give --slots=2")
            self.ended(task)
            return
        self._several.append(Several(task, count, 0, self.record.arrival(task.serial), task.serial))
        self.expand()

    def expand(self) -> None:
        """Give tasks for frames of messages with several, as far as there are slots and the limit allows."""
        while self._several:
            message = self._several[0]
            number = message.n_given
            if number == message.count or self._is_beyond(number):
                self._several.popleft()
                if message.serial is not None:
                    self.record.end(
                        message.serial, DUPLICATE, "all frames of a message in the stream already"
                    )
                self.ended(message.task)
                continue
            slot = self.slots.take()
            if slot is None:
                break
            if self._is_done(message.task, number):
                self.slots.give_back(slot)
                message.n_given += 1
                continue
            serial, message.serial = message.serial, None
            if serial is None:
                serial = self.record.accounts.receive()
            event = f"//{number if message.task.origin else serial}"
            self._begin(
                message.task._replace(serial=serial, slot=slot, event=event, number=number), message.arrival
            )
            message.n_given += 1

    def _is_beyond(self, number: int) -> bool:
        """Whether this frame of a message is beyond the limit; never where a message is done as a whole."""
        return bool(number) and not self.remaining and self._keeper is None

    def _is_done(self, task: Task, number: int) -> bool:
        """Whether this frame of a message is in the stream from an earlier run."""
        return self._keeper is not None and self._keeper.has(task.holder, number)

    def ended(self, task: Task) -> None:
        """Give the slots back that were this frame's, and nobody else's."""
        self._deaths.pop(task.serial, None)
        for slot in task.slots:
            self._release(slot)

    def _release(self, slot: int) -> None:
        self._users[slot] -= 1
        if not self._users[slot]:
            del self._users[slot]
            self._free(slot)

    def _free(self, slot: int) -> None:
        """Nobody needs what lies in a slot any more, and all that comes of it is in the file."""
        self.last_end = time.monotonic()
        if self._lender is not None and slot in self._filled:
            self._filled.remove(slot)
            self._lender.done(slot)
        self.slots.give_back(slot)

    def once_more(self, task: Task, crash: Crash) -> bool:
        """Whether a frame whose worker died is not lost yet: where the source can give its message again.

        The worker may have written over the message, so it is fetched anew.
        """
        if self._keeper is None:
            return False
        self._deaths[task.serial] += 1
        if task.number == ONLY:
            self._again[task.holder] = task, crash
            self._keeper.fetch_again(task.holder)
        else:
            self._try_again(task, crash)
        return True

    def _try_again(self, task: Task, crash: Crash) -> None:
        if self._deaths[task.serial] < MOST_DEATHS:
            self._give(task)
            return
        self.record.bury(task, self.slots[task.holder], crash)
        self.ended(task)

    def _fetched_again(self, slot: int, taken: Taken) -> None:
        task, crash = self._again.pop(slot)
        if taken.rejected is None:
            self._try_again(task, crash)
        else:
            self.record.end(task.serial, CRASHED, crash.reason, crash.detail)
            self.ended(task)

    @property
    def minds_silence(self) -> bool:
        """Whether the source itself says when it has been silent for too long."""
        return self._keeper is not None

    @property
    def n_untold(self) -> int:
        """Messages of which the sender does not know yet that they are done."""
        return self._keeper.untold() if self._keeper is not None else 0

    @property
    def n_waiting(self) -> int:
        """Frames of messages with several that have no task yet."""
        return sum(message.count - message.n_given for message in self._several)

    def drop_waiting(self, reason: str) -> None:
        """Count the frames that wait as dropped; the run is over."""
        for message in self._several:
            first_has_serial = message.serial is not None
            for _ in range(message.count - message.n_given - first_has_serial):
                self.record.accounts.finish(self.record.accounts.receive(), DROPPED, reason)
        self._several.clear()
