# SPDX-License-Identifier: GPL-3.0-or-later
"""What main tells a worker about a message: where its parts lie, and which frame of it is meant.

A frame's chunk goes into a slot of its own.  The message lies there too, unless it holds several frames: then
those after the first step share the slot in which it came.  The message that began a series lies in a third.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.flow.slots import Slots
from gpuidx.model import NO_BYTES, Message

ALIGNMENT = 16
"""Bytes; of each part of a message in its slot."""

SEVERAL = "several"
"""A worker's answer to a message with more than one frame, with their number; nothing was done yet."""

SERIES_AT_A_TIME = 2
"""Of which something is kept: one that ends, and the next."""

ONLY = -1
"""As number of the frame: the message has not been looked into, and may have more than one."""


class Task(NamedTuple):
    """A frame to be done.

    Attributes
    ----------
    serial
        Number of the frame.
    slot
        For the text of its chunk.
    filename, event
        As the stream names the frame.
    number
        Of the frame in its message, or `ONLY`.
    holder, sizes
        Slot that the message lies in, and bytes of each of its parts; none for a frame in a file.
    series, series_slot, series_sizes
        Which series the frame belongs to, 0 for none, and where the message lies that began it.
    cell
        Target cell to use instead of none, see `gpuidx.proposal`.
    origin
        Stream and id of the message at the service that sent it; then the first part are the sender's values.
    """

    serial: int
    slot: int
    filename: str
    event: str
    number: int
    holder: int
    sizes: tuple[int, ...]
    series: int = 0
    series_slot: int = 0
    series_sizes: tuple[int, ...] = ()
    cell: tuple[Any, ...] | None = None
    origin: tuple[str, int] | None = None

    @property
    def slots(self) -> set[int]:
        """All slots that must stay as they are until the frame has ended."""
        return {self.slot, self.holder} | ({self.series_slot} if self.series else set())


def offsets(sizes: Sequence[int]) -> list[int]:
    """Where parts of these sizes begin in a slot, and as the last where they end."""
    begins = [0]
    for size in sizes:
        begins.append(-(-(begins[-1] + size) // ALIGNMENT) * ALIGNMENT)
    if sizes:
        begins[-1] = begins[-2] + sizes[-1]
    return begins


def parts_in(place: memoryview, sizes: Sequence[int]) -> tuple[memoryview, ...]:
    """The parts of a message in its slot."""
    return tuple(place[begin : begin + size] for begin, size in zip(offsets(sizes), sizes, strict=False))


def mask_in(place: memoryview, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixel mask of a series, at the end of the slot with the message that began it; (ss, fs)."""
    n_pixel = math.prod(shape)
    return np.frombuffer(place, np.bool_, n_pixel, len(place) - n_pixel).reshape(shape)


class Messages:
    """The messages that tasks name, in a worker.

    Parameters
    ----------
    slots
        Shared with main.
    read_only
        Leave messages as they came: a decoder may mark pixels in place otherwise.
    """

    def __init__(self, slots: Slots, read_only: bool = False) -> None:
        self._slots, self._read_only = slots, read_only
        self._series = 0
        self._start: tuple[memoryview, ...] = ()
        self._has_mask = False

    def get(self, task: Task) -> Message:
        """The message of a task; `Message.series` is the same object for all frames of a series."""
        if task.series != self._series:
            self._series, self._has_mask = task.series, False
            self._start = parts_in(self._slots[task.series_slot], task.series_sizes)
        place = self._slots[task.holder]
        parts = parts_in(place.toreadonly() if self._read_only else place, task.sizes)
        stream, serial = task.origin or ("", task.serial)
        values = NO_BYTES
        if task.origin and parts:
            values, *rest = parts
            parts = tuple(rest)
        return Message(
            serial=serial,
            filename=task.filename,
            event=task.event,
            number=max(task.number, 0),
            data=parts[-1] if parts else memoryview(b""),
            parts=parts if len(parts) > 1 else (),
            series=self._start,
            stream=stream,
            values=values,
            is_alone=task.number == ONLY,
        )

    def keep_mask(self, task: Task, masked: NDArray[np.bool_]) -> bool:
        """Put the pixel mask of a task's series where `mask_in` finds it; False if there is no room.

        Each worker does it once for a series; all write the same.
        """
        if not self._has_mask:
            place = self._slots[task.series_slot]
            self._has_mask = offsets(task.series_sizes)[-1] + masked.nbytes <= len(place)
            if self._has_mask:
                mask_in(place, masked.shape)[...] = masked
        return self._has_mask

    @staticmethod
    def bytes_in_slot(task: Task) -> int:
        """How much of the frame's own slot its message takes."""
        return offsets(task.sizes)[-1] if task.holder == task.slot else 0
