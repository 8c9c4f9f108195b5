# SPDX-License-Identifier: GPL-3.0-or-later
"""From a source that is made up to tasks: series, messages with several frames, and no slot lost."""

from collections import deque

import numpy as np
import pytest

from gpuidx.flow.accounts import BLANK, DROPPED, DUPLICATE, REJECTED
from gpuidx.flow.slots import Slots
from gpuidx.intake import Intake
from gpuidx.record import Answered, Record
from gpuidx.sources.contract import END, FRAME, START, Keeper, Taken
from gpuidx.tasks import ONLY, Messages

SIZE = 4096


class Source:
    """Gives what a script says: (role or role@connection, the bytes of each part)."""

    def __init__(self, script, drops=False):
        self.script, self.drops = deque(script), drops

    def ready(self):
        return bool(self.script)

    def take(self, slot):
        role, *parts = self.script.popleft()
        role, _, connection = role.partition("@")
        if role == "too large":
            return Taken((), "ZMQdata", "", rejected=("too large", "made up"))
        at = 0
        for part in parts:
            slot[at : at + len(part)] = part
            at = -(-(at + len(part)) // 16) * 16
        return Taken(tuple(map(len, parts)), "ZMQdata", "", role=role, connection=int(connection or 0))

    def drop(self):
        if self.drops:
            self.script.popleft()
        return self.drops


class Driver:
    def __init__(self, options, script, count=8, reserve=2, drops=False, max_frames=None):
        self.slots, self.record, self.tasks = Slots(count, SIZE), Record(options), deque()
        self.source = Source(script, drops)
        self.intake = Intake(
            self.source, self.slots, self.record, self.tasks.append, SIZE, reserve, max_frames=max_frames
        )
        self.messages = Messages(self.slots)
        self.seen = []

    def turn(self):
        self.intake.lend()
        self.intake.expand()
        self.intake.receive()

    def work(self, counts=None):
        """Do one task as a worker would; *counts*: frames by the first byte of the message."""
        task = self.tasks.popleft()
        message = self.messages.get(task)
        n = (counts or {}).get(bytes(message.data[:1]), 1)
        if task.number == ONLY and n != 1:
            self.intake.several(task, n)
            return
        start = tuple(map(bytes, message.series))
        self.seen.append((bytes(message.data), message.number, start))
        self.slots[task.slot][:5] = b"chunk"
        self.record.finish(task.serial, self.slots[task.slot], Answered(BLANK, "", "", 0, 0, 0, 0, []))
        self.intake.ended(task)

    def finish(self, counts=None):
        self.turn()
        while self.tasks:
            self.work(counts)
            self.turn()


@pytest.fixture
def drive(tmp_path):
    from backends.ways import all_options

    from gpuidx.options import PeakOptions

    made = []

    def make(script, **more):
        made.append(Driver(all_options(PeakOptions(peaks="peakfinder8")), script, **more))
        return made[-1]

    yield make
    for driver in made:
        driver.slots.close()


def frames(*datas):
    return [(FRAME, data) for data in datas]


def test_each_frame_is_a_task_and_each_slot_comes_back(drive):
    d = drive(frames(*(bytes([65 + i]) * 20 for i in range(20))))
    d.finish()
    assert [data[:1] for data, _, _ in d.seen] == [bytes([65 + i]) for i in range(20)]
    assert d.slots.n_free == d.slots.count
    assert (d.record.accounts.received, d.record.accounts.processed) == (20, 20)


def test_frames_have_the_start_of_their_series(drive):
    d = drive([
        *frames(b"a" * 20), (START, b"first", b"mask"), *frames(b"b" * 20, b"c" * 20), (END, b"end"),
        (START, b"second"), *frames(b"d" * 20),
    ])  # fmt: skip
    d.finish()
    assert [(data[:1], start) for data, _, start in d.seen] == [
        (b"a", ()), (b"b", (b"first", b"mask")), (b"c", (b"first", b"mask")), (b"d", (b"second",))
    ]  # fmt: skip
    assert d.record.accounts.received == 4
    assert d.slots.n_free == d.slots.count - 1  # the start is kept for what follows


def test_the_start_of_a_series_stays_until_its_last_frame_has_ended(drive):
    d = drive([(START, b"first"), *frames(b"a" * 20), (START, b"second"), *frames(b"b" * 20)])
    d.turn()
    assert d.slots.n_free == d.slots.count - 4
    d.work()
    assert d.slots.n_free == d.slots.count - 2
    d.work()
    assert [start for _, _, start in d.seen] == [(b"first",), (b"second",)]


def test_frames_of_a_series_share_its_start(drive):
    d = drive([(START, b"first"), *frames(b"a" * 20, b"b" * 20), (START, b"other"), *frames(b"c" * 20)])
    d.turn()
    one, same, other = (d.messages.get(task).series for task in d.tasks)
    assert one is same
    assert one is not other


def test_a_frame_belongs_to_the_series_of_which_its_connection_was_told(drive):
    d = drive([
        (START, b"first"), (f"{START}@1", b"first"), (f"{FRAME}@1", b"a" * 20), (f"{START}@1", b"second"),
        (f"{FRAME}@1", b"b" * 20), (FRAME, b"c" * 20), (START, b"second"), (FRAME, b"d" * 20),
    ], count=12)  # fmt: skip
    d.finish()
    assert [(data[:1], start) for data, _, start in d.seen] == [
        (b"a", (b"first",)), (b"b", (b"second",)), (b"c", (b"first",)), (b"d", (b"second",))
    ]  # fmt: skip
    assert d.slots.n_free == d.slots.count - 1


@pytest.mark.parametrize(("count", "n_kept"), [(4, 1), (5, 2), (12, 2)])
def test_connections_that_are_behind_cost_few_slots(drive, count, n_kept):
    d = drive([(f"{START}@{n}", b"series %d" % n) for n in range(9)], count=count)
    d.finish()
    assert d.slots.n_free == count - n_kept


@pytest.mark.parametrize("count", [4, 8])
def test_a_message_with_several_frames_is_done_frame_by_frame(drive, count):
    d = drive(frames(*(bytes([65 + i]) * 20 for i in range(12))), count=count)
    d.finish(counts={b"A": 7, b"C": 3, b"D": 2})
    done = sorted((data[:1], number) for data, number, _ in d.seen)
    several = {b"A": 7, b"C": 3, b"D": 2}
    every = [bytes([65 + i]) for i in range(12)]
    assert done == [(name, number) for name in every for number in range(several.get(name, 1))]
    assert d.slots.n_free == d.slots.count
    accounts = d.record.accounts
    assert accounts.received == accounts.processed == 12 + 6 + 2 + 1
    assert accounts.in_flight == 0


def test_many_messages_with_several_frames_cannot_block_each_other(drive):
    d = drive(frames(*([b"A" * 20] * 30)), count=3, reserve=1)
    d.finish(counts={b"A": 5})
    assert len(d.seen) == 150
    assert d.slots.n_free == d.slots.count


def test_frames_that_wait_for_a_slot_are_known_and_none_is_forgotten(drive):
    d = drive(frames(b"A" * 20), count=2, reserve=1)
    d.turn()
    d.work({b"A": 5})
    d.work()
    assert d.record.accounts.in_flight == 0  # and yet the run must not end
    assert d.intake.n_waiting == 4
    d.intake.drop_waiting("stopped")
    assert d.intake.n_waiting == 0
    assert d.record.accounts.received == 5
    assert d.record.accounts.reasons(DROPPED) == {"stopped": 4}


def test_with_a_single_slot_several_frames_are_refused_clearly(drive):
    d = drive(frames(b"A" * 20, b"B" * 20), count=1, reserve=0)
    d.finish(counts={b"A": 5})
    assert [data[:1] for data, _, _ in d.seen] == [b"B"]
    assert d.record.accounts.reasons(REJECTED) == {"several frames in a message": 1}


def test_without_a_free_slot_messages_wait_or_are_dropped_and_counted(drive):
    d = drive(frames(*([b"A" * 20] * 9)), count=4, reserve=1)
    d.turn()
    assert (len(d.tasks), len(d.source.script)) == (3, 6)
    d = drive(frames(*([b"A" * 20] * 9)), count=4, reserve=1, drops=True)
    d.turn()
    assert (len(d.tasks), len(d.source.script)) == (3, 0)
    assert d.record.accounts.reasons(DROPPED) == {"no free slot": 6}


def test_a_message_that_the_source_refuses_is_counted_and_its_slot_is_free(drive):
    d = drive([("too large",), *frames(b"a" * 20)])
    d.finish()
    assert d.record.accounts.reasons(REJECTED) == {"too large": 1}
    assert d.slots.n_free == d.slots.count


def test_text_of_a_frame_never_overwrites_a_message_that_others_need(drive):
    data = bytes(np.arange(100, dtype=np.uint8))
    d = drive(frames(data))
    d.finish(counts={data[:1]: 4})
    assert [seen[0] for seen in d.seen] == [data] * 4


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
def test_no_more_frames_are_begun_than_the_limit_says(drive, count, limit):
    """Messages of one and of three frames: nine frames in all."""
    d = drive(frames(b"A" * 20, b"B" * 20, b"C" * 20, b"D" * 20, b"E" * 20), count=count, max_frames=limit)
    d.finish(counts={b"B": 3, b"D": 3})
    assert len(d.seen) == min(limit, 9)
    assert d.record.accounts.received == d.record.accounts.processed == min(limit, 9)
    assert d.intake.n_waiting == 0
    assert d.slots.n_free == d.slots.count


class Lending(Keeper):
    """Fills slots with messages, of which some frames may be done already."""

    def __init__(self, messages, earlier=()):
        self.notes = {}
        self.messages, self.earlier = deque(messages), set(earlier)
        self.lent, self.done_slots, self.refetched = deque(), [], deque()

    def attach(self, slots, message_bytes):
        self.slots = slots

    def n_wanted(self):
        return min(1, len(self.messages)) - len(self.lent)

    def lend(self, slot):
        self.lent.append(slot)

    def filled(self):
        if self.refetched:
            slot = self.refetched.popleft()
            return slot, self.taken
        if not (self.messages and self.lent):
            return None
        message = self.messages.popleft()
        slot = self.lent.popleft()
        self.slots[slot][: len(message)] = message
        self.taken = Taken((0, len(message)), "name", "//", origin=("run1", 7))
        return slot, self.taken

    def fetch_again(self, slot):
        self.refetched.append(slot)

    def has(self, slot, number):
        return number in self.earlier

    def done(self, slot):
        self.done_slots.append(slot)

    def untold(self):
        return 0


@pytest.mark.parametrize(("earlier", "left"), [((), 3), ((0,), 2), ((1,), 2), ((0, 1, 2), 0)])
def test_frames_of_a_message_that_an_earlier_run_has_written_are_left_out(drive, earlier, left):
    driver = drive([])
    source = Lending([b"s"], earlier)
    driver.intake = Intake(source, driver.slots, driver.record, driver.tasks.append, SIZE, 2)
    driver.finish({b"s": 3})
    assert [number for _, number, _ in driver.seen] == [n for n in range(3) if n not in earlier]
    accounts = driver.record.accounts
    accounts.check()
    assert (accounts.count(BLANK), accounts.count(DUPLICATE), accounts.in_flight) == (left, left == 0, 0)
    assert len(source.done_slots) == 1  # the message's own; others held only chunks
    assert driver.slots.n_free == driver.slots.count
