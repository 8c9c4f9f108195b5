# SPDX-License-Identifier: GPL-3.0-or-later
import mmap
import os
import resource

import pytest

from gpuidx.errors import AccountsError, GpuidxError
from gpuidx.flow import platform
from gpuidx.flow.slots import SharedTable, Slots


@pytest.fixture(params=["native", "portable"])
def ring(request, monkeypatch):
    monkeypatch.setenv("GPUIDX_PORTABLE", "1" if request.param == "portable" else "0")
    rings = []

    def make(count, size):
        rings.append(Slots(count, size))
        return rings[-1]

    yield make
    for slots in rings:
        slots.close()


def test_each_slot_is_taken_once_and_then_there_is_none(ring):
    slots = ring(3, 100)
    assert sorted(slots.take() for _ in range(3)) == [0, 1, 2]
    assert slots.take() is None
    assert slots.n_free == 0
    slots.give_back(1)
    assert slots.n_free == 1
    assert slots.take() == 1


def test_a_slot_that_was_not_taken_cannot_be_given_back(ring):
    slots = ring(2, 100)
    slot = slots.take()
    slots.give_back(slot)
    with pytest.raises(AccountsError, match=f"slot {slot} was given back twice"):
        slots.give_back(slot)
    assert slots.n_free == 2


def test_slots_are_pages_that_do_not_overlap(ring):
    slots = ring(3, mmap.PAGESIZE + 1)
    assert slots.size == 2 * mmap.PAGESIZE
    for i in range(3):
        slots[i][:] = bytes([i + 1]) * slots.size
    assert [set(slots[i]) for i in range(3)] == [{1}, {2}, {3}]
    with pytest.raises(IndexError):
        slots[3]
    with pytest.raises(IndexError):
        slots[-1]


def test_memory_is_allocated_and_in_place_from_the_start(ring):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    slots = ring(16, 1 << 20)
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for i in range(16):
        slots[i][:: mmap.PAGESIZE] = b"x" * 256
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - at_start
    assert faults < (at_start - before) / 4
    assert os.fstat(slots._memory._fd).st_blocks * 512 >= 16 << 20


def test_a_ring_larger_than_the_memory_left_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(platform, "memory_available", lambda: 4_000_000_000)
    with pytest.raises(GpuidxError, match=r"ring of 1000 slots x 4\S* MB = 4\S* GB does not fit .*--slots"):
        Slots(1000, 4_000_000)


def test_a_ring_that_cannot_be_allocated_is_refused_with_its_size(monkeypatch):
    def none_left(size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(platform, "open_memory", none_left)
    with pytest.raises(GpuidxError, match=r"ring of 2 slots .* \(.*No space left.*\); use --slots or"):
        Slots(2, 100)


def test_rows_of_a_table_are_apart_and_summed():
    table = SharedTable(3, 4)
    for row in range(3):
        table.row(row)[2] = row - 2**40
    assert table.total(2) == 3 - 3 * 2**40
    assert table.total(1) == 0
    with pytest.raises(IndexError):
        table.row(3)
    table.close()


def test_closing_frees_the_memory_and_the_descriptor(ring):
    slots = ring(2, 100)
    fd = slots._memory._fd
    slots.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    slots.close()
