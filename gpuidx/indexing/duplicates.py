# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two crystals are one.  CrystFEL 0.12, behaviour of its comparison of permuted cells."""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.indexing.cell_check import distinct_rows
from gpuidx.jit import jit
from gpuidx.lattice import PRIMITIVE, unimodular_matrices

LENGTH_TOLERANCE = 0.1
ANGLE_TOLERANCE = 5.0  # degrees


class SameCrystal:
    """Compares lattices of one centring.

    Two are the same if some matrix with entries −1, 0, 1 and determinant ±1, which keeps the centring,
    makes the axes of one agree with those of the other within 10 % in length and 5° in direction.

    Parameters
    ----------
    centering
        Letter, as in `UnitCell`.
    """

    def __init__(self, centering: str) -> None:
        matrices = unimodular_matrices()
        C = PRIMITIVE[centering]
        primitive = C @ matrices @ np.linalg.inv(C)
        kept = matrices[np.abs(primitive - np.rint(primitive)).max(axis=(1, 2)) < 1e-6]
        self._rows, self._settings = distinct_rows(np.concatenate([kept, -kept]))

    def __call__(self, axes: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
        """Whether two lattices, given by their axes (rows, Å), are the same."""
        return bool(_agree(axes, other, self._rows, self._settings))


@jit
def _agree(
    axes: NDArray[np.float64],
    other: NDArray[np.float64],
    rows: NDArray[np.float64],
    settings: NDArray[np.int16],
) -> bool:
    least = math.cos(math.radians(ANGLE_TOLERANCE))
    fits = np.zeros(len(rows), np.uint8)
    vector = np.empty(3)
    for row in range(len(rows)):
        for x in range(3):
            vector[x] = rows[row, 0] * axes[0, x] + rows[row, 1] * axes[1, x] + rows[row, 2] * axes[2, x]
        length = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
        for axis in range(3):
            wanted = math.sqrt(other[axis, 0] ** 2 + other[axis, 1] ** 2 + other[axis, 2] ** 2)
            along = vector[0] * other[axis, 0] + vector[1] * other[axis, 1] + vector[2] * other[axis, 2]
            if abs(length - wanted) <= LENGTH_TOLERANCE * length and along >= least * length * wanted:
                fits[row] |= 1 << axis
    for m in range(len(settings)):
        if fits[settings[m, 0]] & 1 and fits[settings[m, 1]] & 2 and fits[settings[m, 2]] & 4:
            return True
    return False
