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
        """Take a batch of frames; their arrays must not change until `results`.

        Raises
        ------
        Rejected
            If one of the frames cannot be used; nothing was taken then.  The CPU backend sees it in
            `find_peaks`.
        """
        ...

    def find_peaks(self, batch: Batch) -> None:
        """Find the peaks of each frame that has none of its own, by the chosen search.

        Raises
        ------
        BackendError
            If the device fails; the batch is then lost and the backend unusable.
        """
        ...

    def index(self, batch: Batch) -> None:
        """Make the indexing trials for each frame with at least ``--min-peaks`` peaks."""
        ...

    def done(self, batch: Batch) -> bool:
        """Whether `results` would not have to wait.

        Raises
        ------
        BackendError
            If the device has failed.
        """
        ...

    def results(self, batch: Batch) -> Sequence[Found | None]:
        """Peaks and candidate lattices of each frame, in the order of the batch.

        None for a frame that has more of something than a device has room for: the CPU must do it.
        """
        ...


class DeviceBackend(Backend[Batch], Protocol[Batch]):
    """A backend that has a process of its own, with several batches under way.

    Attributes
    ----------
    batch_size
        Frames of a batch at most.
    in_flight
        Batches that may be uploaded before the results of the first are asked for.
    """

    batch_size: int
    in_flight: int
