# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in page-locked memory, to measure a device with.  Nothing a run needs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.model import Frame

MOST_SLOTS = 160
"""Frames that lie in a ring."""


class Ring:
    """Page-locked memory of the host, cut into slots for images.

    Attributes
    ----------
    memory : (byte,) uint8
    note
        Why it is not page-locked; empty if it is.
    """

    def __init__(self, n_byte: int) -> None:
        from cupy.cuda import runtime

        self.memory = np.zeros(n_byte, np.uint8)
        self.note = ""
        try:
            runtime.hostRegister(self.memory.ctypes.data, n_byte, 0)
        except RuntimeError as error:
            self.note = f"the ring is not page-locked: {error}"

    def frames(self, one: Frame, images: Sequence[NDArray[Any]], dtype: str = "") -> list[Frame]:
        """Fill the ring with *images*, round and round, in frames that else are like *one*; at least one.

        *dtype* is that of the images unless it is given.
        """
        kind = np.dtype(dtype or images[0].dtype)
        size = images[0].size * kind.itemsize
        slots = self.memory[: len(self.memory) // size * size].reshape(-1, size)
        frames = []
        for slot, image in zip(slots[:MOST_SLOTS], cycle(images), strict=False):
            place = slot.view(kind).reshape(image.shape)
            place[...] = image
            frames.append(replace(one, image=place))
        return frames

    def close(self) -> None:
        """Give the pages back."""
        from cupy.cuda import runtime

        if not self.note:
            runtime.hostUnregister(self.memory.ctypes.data)


@contextmanager
def page_locked(n_byte: int) -> Iterator[Ring]:
    """A ring that is closed at the end."""
    ring = Ring(n_byte)
    try:
        yield ring
    finally:
        ring.close()


def batch_of(frames: Sequence[Frame], n_frame: int, number: int) -> list[Frame]:
    """Batch *number*: the next *n_frame* slots of the ring, round and round."""
    return [frames[(number * n_frame + i) % len(frames)] for i in range(n_frame)]


def begin_on(device: int) -> None:
    """Use this device, with all memory given back that earlier measurements kept."""
    import cupy

    cupy.cuda.Device(device).use()
    cupy.get_default_memory_pool().free_all_blocks()
