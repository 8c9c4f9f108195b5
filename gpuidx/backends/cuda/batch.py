# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch of frames under way on a device, and which of its frames are searched together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gpuidx.backends.cuda.axes_search import AxesBatch
from gpuidx.backends.cuda.buffers import BatchBuffers, ImageBuffer
from gpuidx.backends.cuda.kept_tables import TableKey
from gpuidx.backends.cuda.peakfinder8 import DeviceTables
from gpuidx.backends.cuda.trials import TrialBatch
from gpuidx.model import NO_LIMITS, Frame


class GroupKey(NamedTuple):
    """What frames searched together have in common: type and limits of pixels, what tables are for."""

    dtype: str
    limits: tuple[float, float]
    tables: TableKey


@dataclass(frozen=True, eq=False)
class Part:
    """Frames of a batch that are searched together.

    Attributes
    ----------
    first, end
        Rows of the batch's buffers.
    images : (frame, pixel)
        On the device.
    tables
        Of their rings.
    limits
        Least and greatest value of a pixel that has one, besides those that the run's rules tell.
    first_packed, end_packed
        Rows of `ImageBuffer.about` for those of them that came compressed.
    n_start
        The most `Packed.starts` that one of these has.
    """

    first: int
    end: int
    images: Any
    tables: DeviceTables
    limits: tuple[float, float] = NO_LIMITS
    first_packed: int = 0
    end_packed: int = 0
    n_start: int = 0


@dataclass(eq=False)
class CudaBatch:
    """Frames under way.

    Attributes
    ----------
    frames
        As given.
    rows
        Row of the buffers of each frame that is searched, by its number in the batch.
    left
        Numbers of frames that are left to the CPU.
    waiting
        Numbers of frames whose results were not given yet.
    parts
        All rows, until they have been searched.
    images
        Where their pixels are; None if nothing has to be searched, and as soon as all is.
    buffers
        None if nothing has to be searched, and when all results were given.
    uploaded, fetched
        Events; `fetched` is None before `CudaBackend.find_peaks`.
    trials
        None before `CudaBackend.index`, and if there are none.
    """

    frames: Sequence[Frame]
    rows: dict[int, int]
    left: frozenset[int] = frozenset()
    waiting: list[int] = field(init=False)
    parts: list[Part] = field(default_factory=list)
    images: ImageBuffer | None = None
    buffers: BatchBuffers | None = None
    uploaded: Any = None
    fetched: Any = None
    trials: TrialBatch | AxesBatch | None = None

    def __post_init__(self) -> None:
        self.waiting = list(range(len(self.frames)))

    def is_ready(self, number: int) -> bool:
        """Whether there is nothing left to do for a frame, once all have been searched."""
        row = self.rows.get(number)
        return row is None or self.trials is None or self.trials.outcomes[row] is not None
