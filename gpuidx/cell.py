# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit cells: what a .cell or PDB file says, and the axes that follow from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCell:
    """A unit cell, perhaps without parameters.

    Attributes
    ----------
    parameters
        a, b, c in Å, alpha, beta, gamma in degrees; None if the file gives none.
    lattice_type
        ``"triclinic"``, ``"monoclinic"``, ``"orthorhombic"``, ``"tetragonal"``, ``"rhombohedral"``,
        ``"hexagonal"`` or ``"cubic"``.
    centering
        One of P A B C I F R H.
    unique_axis
        ``"a"``, ``"b"``, ``"c"``, or ``"*"`` for none.
    """

    parameters: tuple[float, float, float, float, float, float] | None
    lattice_type: str = "triclinic"
    centering: str = "P"
    unique_axis: str = "*"


def real_axes(parameters: tuple[float, float, float, float, float, float]) -> NDArray[np.float64]:
    """Rows a, b, c (Å) of a cell in standard orientation: a along x, b in the xy plane."""
    a, b, c, *angles = parameters
    cos_al, cos_be, cos_ga = np.cos(np.radians(angles))
    sin_ga = np.sin(np.radians(angles[2]))
    c_x = cos_be
    c_y = (cos_al - cos_be * cos_ga) / sin_ga
    return np.array(
        [[a, 0, 0], [b * cos_ga, b * sin_ga, 0], [c * c_x, c * c_y, c * np.sqrt(1 - c_x**2 - c_y**2)]]
    )


def cell_parameters(axes: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    """a, b, c in the unit of *axes* (rows), alpha, beta, gamma in degrees."""
    a, b, c = np.linalg.norm(axes, axis=1)
    cosines = (axes[1] @ axes[2] / (b * c), axes[0] @ axes[2] / (a * c), axes[0] @ axes[1] / (a * b))
    al, be, ga = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return float(a), float(b), float(c), float(al), float(be), float(ga)
