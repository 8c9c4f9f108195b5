# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lattice type allows: parameters that obey it, and the strains that keep it.

Refinement moves a lattice along these strains only, so angles of 90° stay 90° to the last digit.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, real_axes

log = logging.getLogger(__name__)

Parameters = tuple[float, float, float, float, float, float]

ALLOWED_LENGTH = 0.02
ALLOWED_ANGLE = 2.0  # degrees
"""A cell farther than this from its own lattice type is refined as triclinic."""


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """A reference cell in standard orientation and the ways in which it may change.

    Attributes
    ----------
    axes : (abc, xyz)
        Real-space axes, Å.
    recip : (abc*, xyz)
        Reciprocal axes, Å⁻¹.
    strains : (strain, 3, 3)
        Symmetric tensors, orthonormal: ``recip @ (1 + sum e_j S_j)`` has the lattice type for all e.
    lattice_type, unique
        As in `UnitCell`; the unique axis by number.
    """

    axes: NDArray[np.float64]
    recip: NDArray[np.float64]
    strains: NDArray[np.float64]
    lattice_type: str
    unique: int


def _metric_patterns(lattice_type: str, unique: int) -> NDArray[np.float64]:
    """Metric tensors that span all those of a lattice type; *unique* is the number of its unique axis."""
    patterns = []
    i, j, k = unique, (unique + 1) % 3, (unique + 2) % 3

    def pattern(*elements: tuple[int, int, float]) -> None:
        G = np.zeros((3, 3))
        for row, column, value in elements:
            G[row, column] = G[column, row] = value
        patterns.append(G)

    if lattice_type == "cubic":
        pattern((0, 0, 1), (1, 1, 1), (2, 2, 1))
    elif lattice_type == "rhombohedral":
        pattern((0, 0, 1), (1, 1, 1), (2, 2, 1))
        pattern((0, 1, 1), (0, 2, 1), (1, 2, 1))
    elif lattice_type == "tetragonal":
        pattern((i, i, 1))
        pattern((j, j, 1), (k, k, 1))
    elif lattice_type == "hexagonal":
        pattern((i, i, 1))
        pattern((j, j, 1), (k, k, 1), (j, k, -0.5))
    else:
        for axis in range(3):
            pattern((axis, axis, 1))
        if lattice_type == "monoclinic":
            pattern((j, k, 1))
        elif lattice_type == "triclinic":
            for row, column in ((1, 2), (0, 2), (0, 1)):
                pattern((row, column, 1))
    return np.array(patterns)


def strain_basis(axes: NDArray[np.float64], lattice_type: str, unique: int) -> NDArray[np.float64]:
    """Orthonormal symmetric tensors that leave the type of a lattice as it is, (strain, 3, 3).

    A small strain S changes the metric G = V V^T by 2 V S V^T; so each direction in which the type allows
    G to change gives one S.  The span equals the tensors that the point group leaves alone: 1 for cubic,
    2 tetragonal, hexagonal, rhombohedral, 3 orthorhombic, 4 monoclinic, 6 triclinic.

    Parameters
    ----------
    axes : (abc, xyz)
        A cell that obeys the type.
    lattice_type, unique
        As in `UnitCell`; the unique axis by number.
    """
    inverse = np.linalg.inv(axes)
    tensors = inverse @ _metric_patterns(lattice_type, unique) @ inverse.T
    orthonormal = np.linalg.qr(tensors.reshape(len(tensors), 9).T)[0]
    return np.ascontiguousarray(orthonormal.T.reshape(-1, 3, 3))


def impose_type(parameters: Parameters, lattice_type: str, unique: int) -> Parameters:
    """Parameters that obey a lattice type: equal ones averaged, fixed angles set."""
    length, angle = list(parameters[:3]), list(parameters[3:])
    j, k = (unique + 1) % 3, (unique + 2) % 3
    if lattice_type in ("cubic", "rhombohedral"):
        length = [sum(length) / 3] * 3
        angle = [90.0 if lattice_type == "cubic" else sum(angle) / 3] * 3
    elif lattice_type in ("tetragonal", "hexagonal"):
        length[j] = length[k] = (length[j] + length[k]) / 2
        angle = [90.0, 90.0, 90.0]
        if lattice_type == "hexagonal":
            angle[unique] = 120.0
    elif lattice_type == "orthorhombic":
        angle = [90.0, 90.0, 90.0]
    elif lattice_type == "monoclinic":
        angle[j] = angle[k] = 90.0
    return (length[0], length[1], length[2], angle[0], angle[1], angle[2])


def _fits(parameters: Parameters, imposed: Parameters) -> bool:
    return all(
        abs(new - old) <= ALLOWED_LENGTH * old for old, new in zip(parameters[:3], imposed[:3], strict=True)
    ) and all(abs(new - old) <= ALLOWED_ANGLE for old, new in zip(parameters[3:], imposed[3:], strict=True))


def constraint_of_cell(cell: UnitCell) -> Constraint:
    """What the lattice type of a target cell allows.

    A cell whose parameters contradict its type is taken as triclinic, with a warning.

    Raises
    ------
    ValueError
        If the cell has no parameters.
    """
    if cell.parameters is None:
        raise ValueError("the target cell has no parameters")
    constraint = typed_constraint(cell, cell.parameters)
    if constraint is not None:
        return constraint
    log.warning(
        "the parameters of the target cell are not %s; lattices are refined as triclinic", cell.lattice_type
    )
    return free_constraint(real_axes(cell.parameters))


def typed_constraint(cell: UnitCell, parameters: Parameters) -> Constraint | None:
    """What a lattice type allows a lattice with such parameters; None if they contradict it.

    A rhombohedral lattice on hexagonal axes (centring H) changes as a hexagonal one.
    """
    lattice_type = "hexagonal" if cell.centering == "H" else cell.lattice_type
    axes_to_try = [cell.unique_axis] if cell.unique_axis in ("a", "b", "c") else ["c", "b", "a"]
    for name in axes_to_try:
        unique = "abc".index(name)
        imposed = impose_type(parameters, lattice_type, unique)
        if _fits(parameters, imposed):
            return _constraint(real_axes(imposed), lattice_type, unique)
    return None


def free_constraint(axes: NDArray[np.float64]) -> Constraint:
    """A lattice that may change in all six ways."""
    return _constraint(axes, "triclinic", 0)


def _constraint(axes: NDArray[np.float64], lattice_type: str, unique: int) -> Constraint:
    recip = np.ascontiguousarray(np.linalg.inv(axes).T, np.float64)
    strains = strain_basis(axes, lattice_type, unique)
    return Constraint(np.ascontiguousarray(axes), recip, strains, lattice_type, unique)
