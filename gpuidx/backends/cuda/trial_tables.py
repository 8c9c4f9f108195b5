# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernels of the indexing trials look up and write: constants, records, tables of a cell, buffers.

Host arrays and shapes; nothing here needs a device.  ``kernels/indexing.cuh`` has the records in C.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpuidx.backends import constants, unknown_cell_constants
from gpuidx.backends.constants import (
    MAX_PEAKS,
    N_DIRECTIONS,
    N_SAMPLED,
    SCAN_CYCLES,
    SCAN_MOST,
    STEP,
    TURN_CYCLES,
    TURN_MOST,
)
from gpuidx.backends.cuda.kernels import c_float
from gpuidx.backends.known_cell import CellTables

N_SCAN_LEVELS, N_TURN_LEVELS = len(SCAN_CYCLES), len(TURN_CYCLES)
SCAN_VECTORS, TURN_VECTORS = max(SCAN_MOST), max(TURN_MOST)
"""Room for vectors of either kind."""

MOST_ANGLES = int(2 * math.pi * TURN_CYCLES[-1] / STEP)
"""Of a full turn at the finest level."""

MOST_DIRECTIONS = int(2 * math.pi * (SCAN_CYCLES[-1] / STEP) ** 2)
"""Of a half sphere at the finest level."""

ANCHOR = np.dtype(
    [
        ("local", "f4", (3, 3)),
        ("metric_inverse", "f4", (3, 3)),
        ("length", "f4"),
        ("longest", "f4"),
        ("scan_shortest", "f4"),
        ("pair_shortest", "f4"),
        ("pair_longest", "f4"),
        ("scan_limit", "f4", N_SCAN_LEVELS),
        ("turn_limit", "f4", N_TURN_LEVELS),
        ("turn_cycles", "f4", N_TURN_LEVELS),
        ("same_direction", "f4", N_SCAN_LEVELS),
        ("polar", "i4"),
        ("grid_start", "i4", N_SCAN_LEVELS + 1),
        ("turn_start", "i4", N_TURN_LEVELS),
        ("turn_steps", "i4", N_TURN_LEVELS),
    ]
)
ATTEMPT = np.dtype([("anchor", "i4"), ("kind", "i4"), ("begins", "i4")])
TASK = np.dtype([("frame", "i4"), ("anchor", "i4"), ("kind", "i4"), ("number", "i4")])
VECTOR_SETS = np.dtype([("n_scan", "i4"), ("n_turn", "i4"), ("scan_level", "i4"), ("turn_level", "i4")])
PEAK_SET = np.dtype(
    [("n_peak", "i4"), ("n_band", "i4"), ("shortest", "f4"), ("longest", "f4"), ("farthest", "f4")]
)
BAND_RECORD = np.dtype(
    [("n_vector", "i4"), ("level", "i4"), ("n_length", "i4"), ("shortest", "f4"), ("longest", "f4")]
)
"""The structures of the kernels."""

Shapes = dict[str, tuple[tuple[int, ...], DTypeLike]]
"""Shape and dtype of arrays on the device, by name."""


def defines() -> dict[str, str | int]:
    """Every number of the constants by its name, those of a tuple as NAME_0, …, and sizes of arrays."""
    given: dict[str, int | float] = {}
    for name, value in (vars(constants) | vars(unknown_cell_constants)).items():
        if not name.isupper() or name.endswith("ATTEMPTS"):  # attempts go to the kernels as data
            continue
        if isinstance(value, tuple):
            given |= {f"{name}_{number}": one for number, one in enumerate(value)}
        else:
            given[name] = value
    given |= {"N_SCAN_LEVELS": N_SCAN_LEVELS, "N_TURN_LEVELS": N_TURN_LEVELS}
    given |= {"SCAN_VECTORS": SCAN_VECTORS, "TURN_VECTORS": TURN_VECTORS, "MOST_ANGLES": MOST_ANGLES}
    given |= {"N_SCORE_SIGMAS": len(constants.SCORE_SIGMAS), "ANCHOR_BYTES": ANCHOR.itemsize}
    given |= {"PEAK_SET_BYTES": PEAK_SET.itemsize, "BAND_BYTES": BAND_RECORD.itemsize}
    given |= {"MOST_DIRECTIONS": MOST_DIRECTIONS}
    traces = {"SAME_TRACE": _trace(constants.SAME_ANGLE), "TWIN_TRACE": _trace(constants.TWIN_ANGLE)}
    floats = {name: c_float(value) if isinstance(value, float) else value for name, value in given.items()}
    return floats | traces


def _trace(angle: float) -> str:
    """Trace of the matrix of a turn by an angle in degrees, as a double constant of C."""
    return repr(1.0 + 2.0 * math.cos(math.radians(angle)))


@dataclass(frozen=True, eq=False)
class TrialTables:
    """`CellTables` in the form that the kernels take.

    Attributes
    ----------
    anchors : (anchor,) ANCHOR
    grid : (direction, xyz0) float32
        Unit vectors of all scan levels.
    angles : (angle, cos sin) float32
        Of all levels of the turn.
    most_directions, most_angles
        Of one level.
    """

    anchors: NDArray[Any]
    grid: NDArray[np.float32]
    angles: NDArray[np.float32]
    most_directions: int
    most_angles: int

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Those that go to the device, by name; records as bytes."""
        return {"anchors": self.anchors.view(np.uint8), "grid": self.grid, "angles": self.angles}


def make_trial_tables(cell: CellTables) -> TrialTables:
    """Tables of a cell."""
    anchors = np.zeros(3, ANCHOR)
    for name in ("local", "metric_inverse", "scan_shortest", "scan_limit", "turn_limit", "polar"):
        anchors[name] = getattr(cell, name)
    for name in ("pair_shortest", "pair_longest", "longest", "grid_start", "turn_start", "turn_steps"):
        anchors[name] = getattr(cell, name)
    anchors["length"] = cell.local[:, 0, 2]
    anchors["turn_cycles"] = TURN_CYCLES
    anchors["same_direction"] = np.sin(0.5 * STEP / np.array(SCAN_CYCLES)) ** 2
    grid = np.zeros((cell.grid.shape[1], 4), np.float32)
    grid[:, :3] = cell.grid.T
    return TrialTables(
        anchors=anchors,
        grid=grid,
        angles=np.ascontiguousarray(np.stack([cell.cosine, cell.sine], axis=1)),
        most_directions=int(np.diff(cell.grid_start).max()),
        most_angles=int(cell.turn_steps.max()),
    )


def make_plan(*trials: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Attempts of some kinds of trials, one behind the other: (attempt,) `ATTEMPT`."""
    rows = [(anchor, kind, int(k == 0)) for trial in trials for k, (anchor, kind) in enumerate(trial)]
    return np.array(rows, ATTEMPT)


def frame_shapes(n_frame: int) -> Shapes:
    """Buffers that hold what is known of each frame, as long as its batch is under way.

    ======================  ==========================================================================
    n_used                  First peaks of the search that a trial may use.
    excluded                Not 0: a lattice that was found before explains the peak.
    next_attempt            Number in the plan of the attempt to make; negative: none.
    peaks, n_peak           Usable peaks in canonical order (x y z length), Å⁻¹, and how many.
    farthest                Length of the last, Å⁻¹; 0 if there is none.
    ======================  ==========================================================================
    """
    return {
        "n_used": ((n_frame,), "i4"),
        "excluded": ((n_frame, MAX_PEAKS), "u1"),
        "next_attempt": ((n_frame,), "i4"),
        "peaks": ((n_frame, MAX_PEAKS, 4), "f4"),
        "n_peak": ((n_frame,), "i4"),
        "farthest": ((n_frame,), "f4"),
    }


def slot_shapes(n_slot: int, most_directions: int) -> Shapes:
    """Buffers of one attempt up to the directions in which the anchor may lie.

    ======================  ==========================================================================
    tasks, n_task           `TASK` of each slot; number of slots in use.
    sets                    `VECTOR_SETS` of each slot.
    scan_vectors            Vectors of the scan (x y z weight), Å⁻¹, shortest first.
    turn_vectors            Those of the turn.
    scores                  Of all directions of the level.
    sampled, n_sampled      Numbers of the best directions within the level, best first.
    refined                 Those refined (x y z score), in units of the anchor's length; score -1: lost.
    directions              The best that differ, in the same form, best first.
    n_direction             How many.
    ======================  ==========================================================================
    """
    return {
        "tasks": ((n_slot, 4), "i4"),
        "n_task": ((1,), "i4"),
        "sets": ((n_slot, 4), "i4"),
        "scan_vectors": ((n_slot, SCAN_VECTORS, 4), "f4"),
        "turn_vectors": ((n_slot, TURN_VECTORS, 4), "f4"),
        "scores": ((n_slot, most_directions), "f4"),
        "sampled": ((n_slot, N_SAMPLED), "i4"),
        "n_sampled": ((n_slot,), "i4"),
        "refined": ((n_slot, N_SAMPLED, 4), "f4"),
        "directions": ((n_slot, N_DIRECTIONS, 4), "f4"),
        "n_direction": ((n_slot,), "i4"),
    }
