# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend must do: the work that touches many numbers, for a batch of frames at a time."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from gpuidx.model import Found, Frame

Batch = TypeVar("Batch")


class Backend(Protocol[Batch]):
    """Peak search and indexing trials of a batch; host arrays in, host arrays out.

    A backend is made for one run (geometry, options, target cell) and belongs to one thread.
    Between the steps everything may stay on a device: `Batch` is the backend's own, and only
    `results` has to wait, so a caller may upload the next batch before it asks for the results of this one.

    What "the same on every backend" means: peaks are equal bit for bit, in CrystFEL's order.  The same
    frames are accepted, with the same lattices (an integer matrix of determinant ±1, and 0.01°).
    A frame's result does not depend on the other frames of its batch.

    Attributes
    ----------
    name
        ``"cpu"`` or ``"cuda"``.
    """

    name: str

    def upload(self, frames: Sequence[Frame]) -> Batch:
        """Take a batch of frames; their arrays must not change until `results`."""
        ...

    def find_peaks(self, batch: Batch) -> None:
        """Find the peaks of each frame that has none of its own, by the chosen search.

        Raises
        ------
        Rejected
            By the CPU backend, if a frame cannot be used.
        BackendError
            If the device fails; the batch is then lost and the backend unusable.
        """
        ...

    def index(self, batch: Batch) -> None:
        """Make the indexing trials for each frame with at least ``--min-peaks`` peaks."""
        ...

    def results(self, batch: Batch) -> Sequence[Found | None]:
        """Peaks and candidate lattices of each frame, in the order of the batch.

        None for a frame that a device does not do, for it has more of something than there is room for, or
        cannot be used: the CPU must do it, or say why not.
        """
        ...


class DeviceBackend(Backend[Batch], Protocol[Batch]):
    """A backend that has a process of its own, with several batches under way.

    Attributes
    ----------
    batch_size
        Frames of a batch at most.
    """

    batch_size: int

    @property
    def has_room(self) -> bool:
        """Whether another batch may be uploaded now.

        Raises
        ------
        BackendError
            If the device has failed.
        """
        ...

    def finished(self, batch: Batch) -> Sequence[tuple[int, Found | None]]:
        """Results that are ready and were not given before, each with the number of its frame in the batch.

        Never waits; to be called until all have been given.  It keeps the work on the batch going.

        Raises
        ------
        BackendError
            If the device has failed.
        """
        ...
