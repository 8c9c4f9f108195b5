# SPDX-License-Identifier: GPL-3.0-or-later
"""What the indexing trials need to know of a unit cell, as tables; made once, the same for every backend.

An *anchor* is the row of the reduced cell that is searched first; the other two follow in cyclic order,
which keeps the hand.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    PSEUDO_TOLERANCE,
    SCAN_CYCLES,
    SHIFT_SIGMA,
    SHORTEST,
    STEP,
    TURN_CYCLES,
)
from gpuidx.cell import UnitCell, real_axes
from gpuidx.errors import BackendError
from gpuidx.geometry.detector import Detector
from gpuidx.lattice import primitive_axes, reduce_axes, rotations

_FEWEST_ANGLES = 8


class CellTables(NamedTuple):
    """Tables of a cell; in the form that jitted functions take.

    Attributes
    ----------
    grid : (xyz, direction) float32
        Unit vectors of all scan levels, one level after the other.
    grid_start : (level + 1,)
        Where each level begins in `grid`.
    cosine, sine : (angle,) float32
        Angles of the turn, for all numbers of steps in use.
    turn_start, turn_steps : (anchor, level)
        Where the angles of a level begin, and how many there are.
    scan_limit, turn_limit : (anchor, level)
        Length below which a vector has fewer cycles than the level allows, Å⁻¹.
    scan_shortest : (anchor,)
        Shorter vectors are left out of the scan, Å⁻¹.
    local : (anchor, row, xyz)
        Rows in cyclic order from the anchor, which lies along z, the second row in the xz plane; Å.
    metric_inverse : (anchor, row, row)
        Inverse of the metric of those rows, Å⁻².
    polar : (anchor,)
        Whether the lattice differs when the anchor is reversed, so that both signs must be tried.
    pair_shortest, pair_longest
        Limits of the lengths of pairs, Å⁻¹.
    longest
        Length of the longest row, Å.
    """

    grid: NDArray[np.float32]
    grid_start: NDArray[np.int64]
    cosine: NDArray[np.float32]
    sine: NDArray[np.float32]
    turn_start: NDArray[np.int64]
    turn_steps: NDArray[np.int64]
    scan_limit: NDArray[np.float64]
    turn_limit: NDArray[np.float64]
    scan_shortest: NDArray[np.float64]
    local: NDArray[np.float64]
    metric_inverse: NDArray[np.float64]
    polar: NDArray[np.bool_]
    pair_shortest: float
    pair_longest: float
    longest: float


@cache
def direction_grids() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Half spheres of directions for all scan levels, and where each begins.

    Fibonacci lattice: González (2010), Math. Geosci. 42, 49.  It holds for every cell, since the sampling
    depends on cycles only.
    """
    levels, start = [], [0]
    for cycles in SCAN_CYCLES:
        count = int(2 * math.pi * (cycles / STEP) ** 2)
        number = np.arange(count)
        z = (number + 0.5) / count
        azimuth = number * (math.pi * (3 - math.sqrt(5)))
        radius = np.sqrt(1 - z * z)
        levels.append(np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z]))
        start.append(start[-1] + count)
    grid = np.ascontiguousarray(np.concatenate(levels, axis=1).astype(np.float32))
    grid.setflags(write=False)
    return grid, np.array(start)


class KnownCell:
    """A unit cell prepared for the trials.

    Attributes
    ----------
    primitive : (3, xyz)
        Rows of the primitive cell, from `lattice.primitive_axes`, Å.
    reduced : (3, xyz)
        Its reduced rows, shortest first, right-handed, Å.
    U : (3, 3)
        ``reduced = U @ primitive``.
    rotations : (rotation, 3, 3)
        Rotations of the reduced lattice, nearly (tolerance 0.02).
    stabiliser : (anchor,)
        How many of them leave the anchor as it is: the turn about it covers that fraction of a circle.
    tables
        For the loops.

    Raises
    ------
    BackendError
        If the cell has no parameters, or they make no lattice.
    """

    def __init__(self, cell: UnitCell) -> None:
        if cell.parameters is None:
            raise BackendError("the unit cell has no parameters; indexing needs a, b, c, al, be, ga")
        try:
            self.primitive = primitive_axes(real_axes(cell.parameters), cell.centering)
            self.reduced, self.U = reduce_axes(self.primitive)
        except ValueError:
            numbers = " ".join(f"{p:g}" for p in cell.parameters)
            raise BackendError(f"the unit cell {numbers} makes no lattice") from None
        self.rotations = rotations(self.reduced, PSEUDO_TOLERANCE)
        identity = np.eye(3, dtype=int)
        self.stabiliser = np.array([(self.rotations[:, a] == identity[a]).all(1).sum() for a in range(3)])
        self.tables = self._tables()

    def _tables(self) -> CellTables:
        grid, grid_start = direction_grids()
        identity = np.eye(3, dtype=int)
        length = np.linalg.norm(self.reduced, axis=1)
        rows = [self.reduced[[a, (a + 1) % 3, (a + 2) % 3]] for a in range(3)]
        others = np.array([max(length[(a + 1) % 3], length[(a + 2) % 3]) for a in range(3)])
        cosine, sine, start, steps = self._angles()
        return CellTables(
            grid=grid,
            grid_start=grid_start,
            cosine=cosine,
            sine=sine,
            turn_start=start,
            turn_steps=steps,
            scan_limit=np.array(SCAN_CYCLES) / length[:, None],
            turn_limit=np.array(TURN_CYCLES) / others[:, None],
            scan_shortest=SHORTEST / length,
            local=np.array([_local_rows(r) for r in rows]),
            metric_inverse=np.array([np.linalg.inv(r @ r.T) for r in rows]),
            polar=np.array([not (self.rotations[:, a] == -identity[a]).all(1).any() for a in range(3)]),
            pair_shortest=float(SHORTEST / length.max()),
            pair_longest=float(SCAN_CYCLES[-1] / length.min()),
            longest=float(length.max()),
        )

    def _angles(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        angles: list[NDArray[np.float64]] = []
        begins: dict[tuple[int, int], int] = {}
        start = np.empty((3, len(TURN_CYCLES)), np.int64)
        steps = np.empty_like(start)
        for a, stabiliser in enumerate(self.stabiliser):
            for level, cycles in enumerate(TURN_CYCLES):
                count = max(_FEWEST_ANGLES, math.ceil(int(2 * math.pi * cycles / STEP) / stabiliser))
                key = (int(stabiliser), count)
                if key not in begins:
                    begins[key] = sum(map(len, angles))
                    angles.append(2 * math.pi / stabiliser * np.arange(count) / count)
                start[a, level], steps[a, level] = begins[key], count
        angle = np.concatenate(angles)
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32), start, steps


def _local_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows expressed in the frame whose z is along the first and whose x is part of the second."""
    z = rows[0] / np.linalg.norm(rows[0])
    x = rows[1] - (rows[1] @ z) * z
    x /= np.linalg.norm(x)
    return np.stack([rows @ x, rows @ np.cross(z, x), rows @ z], axis=1)


def shift_sigma(detector: Detector, wavelength: float) -> float:
    """What an error of the beam centre of 1.5 px makes of q, Å⁻¹; *wavelength* in Å.

    From the mean camera length; where that is 0 (a barrel about the sample) from the distance of the corners.
    """
    pitch = float(detector.pitch.mean())
    distance = abs(detector.clen)
    if not distance > pitch:
        distance = float((np.linalg.norm(detector.corner, axis=1) * detector.pitch).mean())
    return SHIFT_SIGMA * pitch / (distance * wavelength)
