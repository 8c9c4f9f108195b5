# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that main and its children share: a ring of slots for messages, and a table of integers.

It has no name, so nothing is left behind however the processes end, and it is allocated and touched when it
is made.  A child gets it as an argument while it is started (pickled as a file descriptor), never by name.
"""

import mmap
import os
from contextlib import suppress
from multiprocessing import reduction
from typing import Any

from gpuidx.errors import AccountsError, GpuidxError
from gpuidx.flow import platform

MOST_OF_MEMORY = 0.9
"""Share of the memory left that a ring may take."""


class SharedMemory:
    """Mapped memory without a name.

    Attributes
    ----------
    size
        Bytes, a whole number of pages.
    view
        All of it, writable.
    """

    def __init__(self, size: int, fd: int | None = None) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._fd = platform.open_memory(self.size) if fd is None else fd
        self._map = mmap.mmap(self._fd, self.size)
        self.view = memoryview(self._map)
        if fd is not None:
            os.close(fd)  # the mapping holds the memory
            self._fd = -1

    def touch(self) -> None:
        """Have every page in place, so that the first round of messages is not five times slower."""
        self.view[:: mmap.PAGESIZE] = bytes(self.size // mmap.PAGESIZE)

    def close(self) -> None:
        """Give the memory back, as far as nobody holds a view of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with suppress(BufferError):
            self.view.release()
            self._map.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.size, reduction.DupFd(self._fd))


def _attach(size: int, fd: Any) -> SharedMemory:
    return SharedMemory(size, fd.detach())


class Slots:
    """A ring of *count* slots of *size* bytes each; the bound on messages in memory.

    Only the process that made it takes slots and gives them back; children read and write them.

    Attributes
    ----------
    count
        Number of slots.
    size
        Bytes of a slot, rounded up to whole pages.

    Raises
    ------
    GpuidxError
        If there is not so much memory.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        total = self.count * self.size
        self._text = f"ring of {count} slots x {self.size / 1e6:.4g} MB = {total / 1e9:.4g} GB does not fit"
        left = platform.memory_available()
        if left is not None and total > MOST_OF_MEMORY * left:
            raise GpuidxError(f"{self._text} into the {left / 1e9:.4g} GB left; use --slots or --slot-size")
        try:
            self._memory = SharedMemory(total)
        except (OSError, OverflowError, ValueError) as error:
            raise GpuidxError(f"{self._text} into memory ({error}); use --slots or --slot-size") from error
        self._memory.touch()
        self._is_free = bytearray(b"\1" * count)
        self._free = list(range(count))

    @property
    def n_free(self) -> int:
        """Number of slots that nobody has."""
        return len(self._free)

    @property
    def memory(self) -> memoryview:
        """All slots, one after the other: to be registered as a whole."""
        return self._memory.view

    def take(self) -> int | None:
        """Take a free slot, the one used last (its pages are in the cache); None if there is none."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._is_free[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """Give a slot back.

        Raises
        ------
        AccountsError
            If it was not taken.
        """
        if self._is_free[slot]:
            raise AccountsError(f"slot {slot} was given back twice")
        self._is_free[slot] = 1
        self._free.append(slot)

    def __getitem__(self, slot: int) -> memoryview:
        """Bytes of one slot, writable."""
        if not 0 <= slot < self.count:
            raise IndexError(f"slot {slot} of {self.count}")
        return self._memory.view[slot * self.size : (slot + 1) * self.size]

    def __len__(self) -> int:
        return self.count

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_free": [], "_is_free": bytearray(self.count)}


class SharedTable:
    """A table of int64, zero at first; each child writes its own row, everybody reads.

    Attributes
    ----------
    rows, columns
        Its shape.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self._memory = SharedMemory(8 * max(1, rows * columns))

    def row(self, row: int) -> memoryview:
        """One row, as a writable view of int64."""
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        start = 8 * row * self.columns
        return self._memory.view[start : start + 8 * self.columns].cast("q")

    def total(self, column: int) -> int:
        """Sum of one column."""
        return sum(self.row(row)[column] for row in range(self.rows))

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
