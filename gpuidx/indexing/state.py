# SPDX-License-Identifier: GPL-3.0-or-later
"""A lattice as refinement moves it: a reference cell, strained, turned into the lab, and a detector shift."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.jit import jit
from gpuidx.smallmath import inv3, polar_rotation

SETTLED = 1e-7
"""A step is settled if no angle (rad) and no strain changes by more,"""
SETTLED_SHIFT = 1e-4
"""and no shift by more than this, px."""


class State(NamedTuple):
    """A lattice as refinement moves it: ``recip = reference (1 + sum e S) turned``, and a shift.

    Attributes
    ----------
    turn : (3, 3)
        Rotation from the reference's orientation to the lab; lab = turn @ reference.
    strain : (strain,)
        Coefficients of the constraint's tensors.
    shift : (xy,)
        Of the detector, in mean pixel widths.
    """

    turn: NDArray[np.float64]
    strain: NDArray[np.float64]
    shift: NDArray[np.float64]


@jit
def start(axes: NDArray[np.float64], reference: NDArray[np.float64], strains: NDArray[np.float64]) -> State:
    """State that comes closest to a lattice found: its orientation, and the part of its strain allowed.

    Parameters
    ----------
    axes, reference : (3, xyz)
        Real-space axes of the lattice and of the reference cell, Å.
    strains : (strain, 3, 3)
        As in `Constraint`.
    """
    inverse = inv3(reference)
    F = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                F[i, j] += inverse[i, k] * axes[k, j]
    turned = polar_rotation(F)
    stretch = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                stretch[i, j] += F[i, k] * turned[j, k]
    stretch = inv3(stretch)
    strain = np.zeros(len(strains))
    for s in range(len(strains)):
        for i in range(3):
            for j in range(3):
                strain[s] += strains[s, i, j] * (stretch[i, j] - (1.0 if i == j else 0.0))
    return State(turned.T.copy(), strain, np.zeros(2))


@jit
def reciprocal_axes(
    state: State, reference: NDArray[np.float64], strains: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Reciprocal axes of a state, Å⁻¹, from those of the reference cell."""
    turn, strain = state.turn, state.strain
    deformation = np.eye(3)
    for s in range(len(strain)):
        for i in range(3):
            for j in range(3):
                deformation[i, j] += strain[s] * strains[s, i, j]
    recip = np.empty((3, 3))
    for axis in range(3):
        _turn_row(turn, deformation, reference[axis], recip[axis])
    return recip


@jit
def _turn_row(
    turn: NDArray[np.float64], tensor: NDArray[np.float64], row: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Write turn @ tensor @ row."""
    x = tensor[0, 0] * row[0] + tensor[0, 1] * row[1] + tensor[0, 2] * row[2]
    y = tensor[1, 0] * row[0] + tensor[1, 1] * row[1] + tensor[1, 2] * row[2]
    z = tensor[2, 0] * row[0] + tensor[2, 1] * row[1] + tensor[2, 2] * row[2]
    for i in range(3):
        out[i] = turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] * z


@jit
def strain_slopes(
    turn: NDArray[np.float64], reference: NDArray[np.float64], strains: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How the reciprocal axes change with each strain, (strain, 3, xyz)."""
    slopes = np.empty((len(strains), 3, 3))
    for s in range(len(strains)):
        for axis in range(3):
            _turn_row(turn, strains[s], reference[axis], slopes[s, axis])
    return slopes


@jit
def take_step(step: NDArray[np.float64], state: State) -> bool:
    """Change a state by a step; whether it was too small to matter."""
    turn, strain, shift = state.turn, state.strain, state.shift
    small = max(abs(step[0]), abs(step[1]), abs(step[2])) < SETTLED
    for s in range(len(strain)):
        strain[s] += step[3 + s]
        small &= abs(step[3 + s]) < SETTLED
    for unknown in range(3 + len(strain), len(step)):
        shift[unknown - 3 - len(strain)] += step[unknown]
        small &= abs(step[unknown]) < SETTLED_SHIFT
    angle = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    # Rodrigues: 1 + sin/angle [w] + (1 - cos)/angle² [w]²
    first = math.sin(angle) / angle if angle > 0.0 else 1.0
    second = 0.5 * (math.sin(0.5 * angle) / (0.5 * angle)) ** 2 if angle > 0.0 else 0.5
    for column in range(3):
        x, y, z = turn[0, column], turn[1, column], turn[2, column]
        c_x, c_y, c_z = step[1] * z - step[2] * y, step[2] * x - step[0] * z, step[0] * y - step[1] * x
        turn[0, column] = x + first * c_x + second * (step[1] * c_z - step[2] * c_y)
        turn[1, column] = y + first * c_y + second * (step[2] * c_x - step[0] * c_z)
        turn[2, column] = z + first * c_z + second * (step[0] * c_y - step[1] * c_x)
    return bool(small)
