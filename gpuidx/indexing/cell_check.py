# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a lattice is the target's, and in which setting.

CrystFEL 0.12 tries 3480 integer matrices on each lattice.  Here all that does not depend on the lattice
is made once for each target: the matrices have only a few distinct rows, so a lattice costs their lengths
and then look-ups.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, real_axes
from gpuidx.jit import jit
from gpuidx.lattice import primitive_axes, reduce_axes, unimodular_matrices
from gpuidx.smallmath import det3

TIE = 1.001
"""Settings whose distances to the target differ by less than this factor are equally good."""

SHORTER = 1 - 1e-9
"""A vector must get shorter by this factor to be replaced; so rounding does not turn it to and fro."""

SMALLEST_ANGLE = 10.0  # degrees
LARGEST_RATIO = 1e6


def distinct_rows(matrices: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """The rows that matrices are made of, (row, 3), and which three each has, (matrix, 3)."""
    rows = matrices.reshape(-1, 3)
    base = 2 * int(np.abs(rows).max()) + 1  # one number for each row, in the order of rows
    _, first, number = np.unique(rows @ (base**2, base, 1), return_index=True, return_inverse=True)
    return rows[first].astype(float), number.reshape(-1, 3).astype(np.int16)


class TargetCell:
    """A target cell, ready to be compared with many lattices.

    Parameters
    ----------
    cell
        With parameters.
    tolerance
        Greatest differences of a, b, c (percent of the found axis) and al, be, ga (degrees).

    Attributes
    ----------
    reduced : (3, xyz)
        Primitive reduced axes of the target in standard orientation, Å.
    to_conventional : (3, 3)
        Integers: target axes = matrix @ reduced.

    Raises
    ------
    ValueError
        If the cell has no parameters, or they are no cell.
    """

    def __init__(self, cell: UnitCell, tolerance: tuple[float, ...]) -> None:
        if cell.parameters is None:
            raise ValueError("the target cell has no parameters")
        axes = real_axes(cell.parameters)
        self.reduced, _ = reduce_axes(primitive_axes(axes, cell.centering))
        self.to_conventional = np.rint(axes @ np.linalg.inv(self.reduced)).astype(np.int64)
        self._rows, self._settings = distinct_rows(self.to_conventional @ unimodular_matrices())
        self._directions = axes / np.linalg.norm(axes, axis=1)[:, None]
        self._metric = np.ascontiguousarray(axes @ axes.T)
        self._limits = _limits(np.array(cell.parameters), np.array(tolerance, float))

    def setting(self, axes: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The axes of a lattice that come closest to the target's; None if none is within tolerance.

        Closeness is the distance of the metric tensors, as CrystFEL measures it (G6).  Among equally
        close settings, which CrystFEL draws from at random, it is the one turned least against the
        target's standard orientation; so the answer depends on the lattice alone.

        Parameters
        ----------
        axes : (3, xyz)
            Rows of any primitive cell of the lattice, Å.
        """
        found, chosen = _closest_setting(
            np.ascontiguousarray(axes),
            self._rows,
            self._settings,
            self._limits,
            self._metric,
            self._directions,
        )
        return chosen if found else None

    def matches(self, axes: NDArray[np.float64]) -> bool:
        """Whether conventional axes are within tolerance of the target's, as they are."""
        return bool(_is_within(np.ascontiguousarray(axes), self._limits))


def _limits(parameters: NDArray[np.float64], tolerance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Limits (4, 3): squared lengths above and below which, cosines from and to which a cell matches."""
    length, angle = parameters[:3], parameters[3:]
    share = tolerance[:3] / 100.0
    longest = np.full(3, np.inf)
    np.divide(length, 1.0 - share, out=longest, where=share < 1.0)
    return np.array(
        [
            (length / (1.0 + share)) ** 2,
            longest**2,
            np.cos(np.radians(np.minimum(angle + tolerance[3:], 180.0))),
            np.cos(np.radians(np.maximum(angle - tolerance[3:], 0.0))),
        ]
    )


@jit
def _dot(u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    return float(u[0] * v[0] + u[1] * v[1] + u[2] * v[2])


@jit
def _shorten(axes: NDArray[np.float64], i: int, first: float, j: int, second: float, k: int) -> bool:
    """Add ``first * axes[j] + second * axes[k]`` to row i if that makes it shorter."""
    length, shorter = 0.0, 0.0
    for x in range(3):
        length += axes[i, x] ** 2
        shorter += (axes[i, x] + first * axes[j, x] + second * axes[k, x]) ** 2
    if not shorter < length * SHORTER:
        return False
    for x in range(3):
        axes[i, x] += first * axes[j, x] + second * axes[k, x]
    return True


@jit
def shorten_axes(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right-handed basis of the same lattice that no sum of its rows makes shorter.

    Minkowski's conditions: no row gets shorter by adding multiples of one other or ±1 of both others.
    """
    short = axes.copy()
    for _ in range(100):
        moved = False
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            for other in (j, k):
                times = np.rint(_dot(short[i], short[other]) / _dot(short[other], short[other]))
                if times != 0.0:
                    moved |= _shorten(short, i, -times, other, 0.0, other)
            for first in (-1.0, 1.0):
                for second in (-1.0, 1.0):
                    moved |= _shorten(short, i, first, j, second, k)
        if not moved:
            break
    return -short if det3(short) < 0 else short


@jit
def _is_within(axes: NDArray[np.float64], limits: NDArray[np.float64]) -> bool:
    """Whether lengths and angles of axes are within limits (4, 3)."""
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        length = _dot(axes[i], axes[i])
        cosine = _dot(axes[j], axes[k]) / math.sqrt(_dot(axes[j], axes[j]) * _dot(axes[k], axes[k]))
        if not (limits[0, i] < length < limits[1, i] and limits[2, i] <= cosine <= limits[3, i]):
            return False
    return True


@jit
def _metric_distance(axes: NDArray[np.float64], metric: NDArray[np.float64]) -> float:
    """Distance of the metric of axes from another in G6: squares, and twice the products."""
    total = 0.0
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        total += (_dot(axes[i], axes[i]) - metric[i, i]) ** 2
        total += (2.0 * (_dot(axes[j], axes[k]) - metric[j, k])) ** 2
    return math.sqrt(total)


@jit
def _candidates(
    vectors: NDArray[np.float64], settings: NDArray[np.int16], limits: NDArray[np.float64]
) -> NDArray[np.int16]:
    """Numbers of the settings all of whose axes have the right length."""
    fits = np.zeros(len(vectors), np.uint8)
    for row in range(len(vectors)):
        length = _dot(vectors[row], vectors[row])
        for axis in range(3):
            if limits[0, axis] < length < limits[1, axis]:
                fits[row] |= 1 << axis
    chosen = np.empty(len(settings), np.int16)
    number = 0
    for m in range(len(settings)):
        if fits[settings[m, 0]] & 1 and fits[settings[m, 1]] & 2 and fits[settings[m, 2]] & 4:
            chosen[number] = m
            number += 1
    return chosen[:number]


@jit
def _closest_setting(
    axes: NDArray[np.float64],
    rows: NDArray[np.float64],
    settings: NDArray[np.int16],
    limits: NDArray[np.float64],
    metric: NDArray[np.float64],
    directions: NDArray[np.float64],
) -> tuple[bool, NDArray[np.float64]]:
    """See `TargetCell.setting`; whether there is one, and its axes."""
    short = shorten_axes(axes)
    vectors = np.empty((len(rows), 3))
    for row in range(len(rows)):
        for x in range(3):
            vectors[row, x] = (
                rows[row, 0] * short[0, x] + rows[row, 1] * short[1, x] + rows[row, 2] * short[2, x]
            )
    chosen = _candidates(vectors, settings, limits)
    distance = np.empty(len(chosen))
    closest = math.inf
    setting = np.empty((3, 3))
    for number in range(len(chosen)):
        for axis in range(3):
            setting[axis] = vectors[settings[chosen[number], axis]]
        distance[number] = _metric_distance(setting, metric) if _is_within(setting, limits) else math.inf
        closest = min(closest, distance[number])
    best, found = -math.inf, np.zeros((3, 3))
    for number in range(len(chosen)):
        if not distance[number] <= closest * TIE or distance[number] == math.inf:
            continue
        alike = 0.0
        for axis in range(3):
            setting[axis] = vectors[settings[chosen[number], axis]]
            alike += _dot(setting[axis], directions[axis]) / math.sqrt(_dot(setting[axis], setting[axis]))
        if alike > best:
            best = alike
            found[:] = setting
    return closest < math.inf, found


@jit
def is_sane(axes: NDArray[np.float64]) -> bool:
    """Whether axes are a cell at all: finite, right-handed, not absurd.

    CrystFEL 0.12, behaviour of ``validate_cell``: axes that differ by more than a factor of 1e6, or angles
    below 10°, are refused.
    """
    shortest, longest = math.inf, 0.0
    for i in range(3):
        length = math.sqrt(_dot(axes[i], axes[i]))
        shortest, longest = min(shortest, length), max(longest, length)
        j = (i + 1) % 3
        other = math.sqrt(_dot(axes[j], axes[j]))
        if not _dot(axes[i], axes[j]) <= math.cos(math.radians(SMALLEST_ANGLE)) * length * other:
            return False
    return shortest > 0.0 and longest < LARGEST_RATIO * shortest and det3(axes) > 0.0
