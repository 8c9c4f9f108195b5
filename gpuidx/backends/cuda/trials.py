# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials on a device, from the peaks of a batch to candidate lattices; the CPU's are the definition.

See ``kernels/indexing_*.cu`` for what the kernels do.  Frames of a batch go through attempts side by side,
each through its own: a frame that is done drops out, a frame that begins another trial (a further lattice, or
fewer peaks) goes on beside those that are still in their first.  After a *round* of attempts the host takes
the results of the frames that are over; it starts another round as long as any are left, and never waits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpuidx.backends.constants import (
    ATTEMPTS,
    FURTHER_ATTEMPTS,
    MAX_PEAKS,
    MOST_LATTICES,
    N_CELLS,
    N_DIRECTIONS,
    N_MAXIMA,
    N_ORIENTATIONS,
    RETRY_ATTEMPTS,
)
from gpuidx.backends.cuda.buffers import page_locked
from gpuidx.backends.cuda.events import has_happened
from gpuidx.backends.cuda.kernels import Kernels, Launch
from gpuidx.backends.cuda.trial_directions import DirectionSearch, prepare_named
from gpuidx.backends.cuda.trial_tables import (
    Shapes,
    defines,
    frame_shapes,
    make_plan,
    make_trial_tables,
    slot_shapes,
)
from gpuidx.backends.known_cell import KnownCell
from gpuidx.model import Candidate
from gpuidx.options import IndexOptions

ORIENTATIONS_FILE, CELLS_FILE = "indexing_orientations.cu", "indexing_cells.cu"

NO_ATTEMPT = -1
"""As in the kernels: there is nothing to try."""

FIRST_ROUND = len(ATTEMPTS)
LATER_ROUND = max(len(FURTHER_ATTEMPTS), len(RETRY_ATTEMPTS))
"""Attempts between two looks at which frames are left: those of a trial."""

LATTICE = np.dtype([("axes", "f4", (3, 3)), ("shift", "f4", 2), ("score", "f4")])
FRAME_TRIALS = np.dtype(
    [("found", LATTICE, MOST_LATTICES), ("best", LATTICE), ("n_found", "i4"), ("n_tried", "i4")]
)
"""``struct Lattice`` and ``struct FrameTrials`` of the kernels."""

_LATTICE_WORDS, _FRAME_WORDS = LATTICE.itemsize // 4, FRAME_TRIALS.itemsize // 4


def half_shapes(n_slot: int) -> Shapes:
    """Buffers of an attempt from the directions on.

    ==============================  ==================================================================
    maxima                          Best angles of each direction and sign.
    orientations, n_orientation     Best orientations of the nominal cell (`LATTICE`), and how many.
    chosen, n_chosen                Numbers of those whose cell is fitted, and how many.
    fitted                          Lattices with free cells (`LATTICE`), two for each of those.
    ==============================  ==================================================================
    """
    return {
        "maxima": ((n_slot, 2 * N_DIRECTIONS, N_MAXIMA), "u8"),
        "orientations": ((n_slot, N_ORIENTATIONS, _LATTICE_WORDS), "f4"),
        "n_orientation": ((n_slot,), "i4"),
        "chosen": ((n_slot, N_CELLS), "i4"),
        "n_chosen": ((n_slot,), "i4"),
        "fitted": ((n_slot, 2 * N_CELLS, _LATTICE_WORDS), "f4"),
    }


def trial_bytes(n_frame: int, in_flight: int, cell: KnownCell) -> int:
    """Device memory of all buffers for batches of *n_frame*, but the tables of the cell."""
    most_directions = int(np.diff(cell.tables.grid_start).max())
    shared = slot_shapes(n_frame, most_directions) | half_shapes(n_frame)
    own = frame_shapes(n_frame) | {"trials": ((n_frame, _FRAME_WORDS), "f4")}
    return _bytes(shared) + in_flight * _bytes(own)


def _bytes(shapes: Shapes) -> int:
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())


Outcome = tuple[tuple[Candidate, ...], int]


class TrialBatch:
    """What the trials of one batch have for themselves while they are under way.

    Attributes
    ----------
    arrays
        On the device, by name.
    n_frame
        Frames of the batch.
    trials : (frame,) FRAME_TRIALS
    next_attempt : (frame,) int32
        On the host, as they were after the last round.
    key, begin, attempt
        What `DeviceTrials.start` was given last, and the launches that are ready for it.
    outcomes
        Candidates of each frame, strongest first, and how many trials were made; None as long as it is tried.
    fetched
        Event: the last round is over and `trials` and `next_attempt` are there; None if nothing is under way.
    """

    def __init__(self, most_frames: int) -> None:
        import cupy

        self.arrays = {name: cupy.empty(*shape) for name, shape in frame_shapes(most_frames).items()}
        self.arrays["trials"] = cupy.empty((most_frames, _FRAME_WORDS), np.float32)
        self.n_frame = 0
        self.trials = page_locked((most_frames,), FRAME_TRIALS)
        self.next_attempt = page_locked((most_frames,), np.int32)
        self.key: tuple[int, ...] = ()
        self.begin: list[Launch] = []
        self.attempt: list[Launch] = []
        self.outcomes: list[Outcome | None] = []
        self.fetched: Any = None


class DeviceTrials:
    """Indexing trials for one known cell on the current device; belongs to the thread that made it.

    Parameters
    ----------
    cell
        The same as the CPU's.
    options
        `multi` and `retry` are used.
    most_frames
        Of a batch.
    min_peaks
        Frames with fewer are not tried.

    Attributes
    ----------
    arrays
        Tables, and the buffers that every attempt uses again, on the device, by name.
    """

    def __init__(
        self, cell: KnownCell, options: IndexOptions, most_frames: int, *, min_peaks: int = 0
    ) -> None:
        import cupy

        self._most_frames, self._min_peaks = most_frames, min_peaks
        tables = make_trial_tables(cell.tables)
        plan = make_plan(ATTEMPTS, FURTHER_ATTEMPTS, RETRY_ATTEMPTS)
        self._numbers = {
            "n_plan": len(plan),
            "further": len(ATTEMPTS) if options.multi else NO_ATTEMPT,
            "again": len(ATTEMPTS) + len(FURTHER_ATTEMPTS) if options.retry else NO_ATTEMPT,
        }
        host = tables.arrays() | {"plan": plan.view(np.uint8)}
        self.arrays = {name: cupy.asarray(array) for name, array in host.items()}
        shapes = slot_shapes(most_frames, tables.most_directions) | half_shapes(most_frames)
        self.arrays |= {name: cupy.empty(*shape) for name, shape in shapes.items()}
        self._n_sign = 2 if tables.anchors["polar"].any() else 1
        self._directions = DirectionSearch()
        self._orientations = Kernels(ORIENTATIONS_FILE, None, defines())
        self._cells = Kernels(CELLS_FILE, None, defines())
        cupy.cuda.Device().synchronize()  # what was copied was so on the default stream

    def compile(self) -> None:
        """Compile and load all kernels now, not at the first launch."""
        for kernels in (self._directions, self._orientations, self._cells):
            kernels.compile()

    def new_batch(self) -> TrialBatch:
        """Buffers for a batch; there must be one for each that is under way."""
        return TrialBatch(self._most_frames)

    def start(
        self, batch: TrialBatch, q: Any, n_given: Any, shift_sigma: Any, n_frame: int, stream: Any
    ) -> None:
        """Start the trials of a batch.

        Parameters
        ----------
        batch
            That is not under way.
        q : (frame, MAX_PEAKS, xyz) float64
            Scattering vectors on the device, strongest first, Å⁻¹; they stay as they are until `advance` has
            given True.
        n_given : (frame,) int32
            How many there are in each frame, on the device; so, too, for
        shift_sigma : (frame,) float32
            Expected error of the beam centre, Å⁻¹.
        n_frame
            Frames of the batch: the first of these arrays.
        stream
            That all kernels of all batches run on, one after the other.
        """
        batch.n_frame = n_frame
        batch.outcomes = [None] * n_frame
        batch.fetched = None
        if n_frame == 0:
            return
        self._prepare(batch, n_frame, {"q": q, "n_given": n_given, "shift_sigma": shift_sigma})
        batch.arrays["excluded"].data.memset_async(0, n_frame * MAX_PEAKS, stream)
        batch.begin[0].start(stream)
        self._round(batch, FIRST_ROUND, stream)

    def _prepare(self, batch: TrialBatch, n_frame: int, given: Mapping[str, Any]) -> None:
        """Have the launches of an attempt ready; they stay so while the batch's arrays are the same."""
        key = (n_frame, *(array.data.ptr for array in given.values()))
        if key == batch.key:
            return
        batch.arrays |= given
        arrays = {**self.arrays, **batch.arrays}
        blocks = -(-n_frame // self._cells.threads("begin_trials"))
        numbers = {"n_frame": n_frame, "min_peaks": self._min_peaks}
        batch.begin = [prepare_named(self._cells, "begin_trials", (blocks,), arrays, **numbers)]
        batch.attempt = self._directions.launches(arrays, n_frame) + self._lattices(arrays, n_frame)
        batch.key = key

    def _lattices(self, arrays: Mapping[str, Any], n_frame: int) -> list[Launch]:
        """The second half of an attempt: from directions of the anchor to a verdict on each frame."""
        orientations, cells = self._orientations, self._cells
        turns = N_DIRECTIONS * self._n_sign
        refined = N_ORIENTATIONS // (orientations.threads("refine_orientations") // 32)
        fits = 2 * N_CELLS // (cells.threads("fit_cells") // 32)
        return [
            prepare_named(orientations, "turn_about", (turns, n_frame), arrays),
            prepare_named(orientations, "pick_orientations", (n_frame,), arrays),
            prepare_named(orientations, "refine_orientations", (refined, n_frame), arrays),
            prepare_named(orientations, "choose_orientations", (n_frame,), arrays),
            prepare_named(cells, "fit_cells", (fits, n_frame), arrays),
            prepare_named(cells, "finish_attempt", (n_frame,), arrays, **self._numbers),
        ]

    def _round(self, batch: TrialBatch, n_attempt: int, stream: Any) -> None:
        for _ in range(n_attempt):
            for launch in batch.attempt:
                launch.start(stream)
        n = batch.n_frame
        words = batch.trials.view(np.float32).reshape(-1, _FRAME_WORDS)
        batch.arrays["trials"][:n].get(stream=stream, out=words[:n], blocking=False)
        batch.arrays["next_attempt"][:n].get(stream=stream, out=batch.next_attempt[:n], blocking=False)
        batch.fetched = stream.record()

    def advance(self, batch: TrialBatch, stream: Any) -> bool:
        """Whether the trials of a batch are over; takes the outcomes that are new.

        Starts another round of attempts for the frames that are left.  Never waits; to be called again and
        again, with the stream of `start`.
        """
        if batch.fetched is None:
            return True
        if not has_happened(batch.fetched):
            return False
        over = np.flatnonzero(batch.next_attempt[: batch.n_frame] == NO_ATTEMPT)
        new = [int(row) for row in over if batch.outcomes[row] is None]
        copied = batch.trials[new]  # before the next round is copied over it
        batch.fetched = None
        if len(over) < batch.n_frame:
            self._round(batch, LATER_ROUND, stream)
        for row, own in zip(new, copied, strict=True):
            batch.outcomes[row] = _candidates(own["found"][: own["n_found"]]), int(own["n_tried"])
        return batch.fetched is None

    def finish(self, batch: TrialBatch, stream: Any) -> None:
        """Wait until `advance` gives True."""
        while not self.advance(batch, stream):
            batch.fetched.synchronize()

    @staticmethod
    def results(batch: TrialBatch) -> list[Outcome]:
        """The outcomes of all frames, after `advance` has given True."""
        return [outcome for outcome in batch.outcomes if outcome is not None]


def _candidates(found: Any) -> tuple[Candidate, ...]:
    candidates = [
        Candidate(
            axes=one["axes"].astype(np.float64),
            shift=one["shift"].astype(np.float64),
            score=float(one["score"]),
        )
        for one in found
    ]
    return tuple(sorted(candidates, key=lambda candidate: -candidate.score))
