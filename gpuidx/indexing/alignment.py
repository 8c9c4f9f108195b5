# SPDX-License-Identifier: GPL-3.0-or-later
"""Records for alignment of the detector: how far each peak is from its spot, and what would move the spot.

One record of Millepede-II for each crystal, as CrystFEL's ``align_detector`` wants them.  Measured are, for
each pair of peak and reflection, the differences in fs and ss (px) and the excitation error (weighted).
*Local* parameters are those of the crystal: lengths and angles of the reciprocal cell that its lattice type
leaves free, and three turns.  *Global* ones are shifts (m) and turns (rad) of the groups of panels.

Definitions, units and weights are those of CrystFEL 0.12 (``--mille``); the form of a record is that of
Blobel and Kleinwort's Millepede-II: its length, then floats and their labels, 0 before what was measured and
before its sigma.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Detector, Geometry
from gpuidx.geometry.ewald import excitation_error, reflect
from gpuidx.geometry.hierarchy import Hierarchy
from gpuidx.indexing.pairing import ERROR_WEIGHT, FIRST_RADIUS, Pairs, Peaks
from gpuidx.indexing.strain import Constraint

POSITION_SIGMA = 0.3
"""px."""
ERROR_SIGMA = 0.2
"""Of weighted excitation errors."""

FEWEST_PAIRS = 5
MOST_CONDITION = 1e6
"""Of the local least squares, all parameters scaled alike; a crystal beyond says nothing of the detector."""

PER_METRE = 1e-10
"""Å⁻¹ in one m⁻¹, CrystFEL's unit of reciprocal lengths."""

Table = NDArray[np.float64]


class AlignmentRecords:
    """Makes the records of crystals; made once per worker.

    Parameters
    ----------
    geometry
        With its groups.
    deepest
        ``--max-mille-level``.

    Raises
    ------
    GeometryError
        If its groups are no tree below ``all``.
    """

    def __init__(self, geometry: Geometry, deepest: int) -> None:
        self._groups = Hierarchy(geometry, deepest)

    def record(
        self,
        detector: Detector,
        peaks: Peaks,
        pairs: Pairs,
        recip: NDArray[np.float64],
        constraint: Constraint,
    ) -> bytes:
        """The record of a crystal; empty if it has too few pairs or its own parameters are not determined.

        Parameters
        ----------
        detector, peaks, pairs
            Of the frame; which peak is which reflection.
        recip : (abc*, xyz)
            The refined lattice, Å⁻¹.
        constraint
            What its lattice type leaves free.
        """
        if len(pairs) < FEWEST_PAIRS:
            return b""
        wavenumber, panel = peaks.wavenumber, peaks.panel[pairs.peak]
        points = pairs.hkl @ recip
        rays = points.copy()
        rays[:, 2] += [reflect(x, y, z, wavenumber, FIRST_RADIUS, peaks.spread)[0] for x, y, z in points]
        back = peaks.back[panel]
        at = np.einsum("pij,pj->pi", back, rays)
        spot = at[:, 1:] / at[:, :1]
        rest = np.empty((len(pairs), 3))
        rest[:, 0] = spot[:, 0] - peaks.fs[pairs.peak]
        rest[:, 1] = spot[:, 1] - peaks.ss[pairs.peak]
        rest[:, 2] = [ERROR_WEIGHT * excitation_error(x, y, z, wavenumber) for x, y, z in points]

        moves = _crystal_moves(pairs.hkl, points, recip, constraint)
        along = points + np.array([0.0, 0.0, wavenumber])
        along /= np.linalg.norm(along, axis=1)[:, None]
        local = np.empty((len(pairs), 3, moves.shape[1]))
        local[:, :2] = _on_panel(back, spot, moves) / at[:, :1, None]
        local[:, 2] = -ERROR_WEIGHT * np.einsum("px,pmx->pm", along, moves)
        local[:, 2, -1] = 0.0  # a turn about the beam leaves it as it is, but for rounding
        if not _is_determined(local):
            return b""
        labels, shifts = self._panel_moves(detector, panel, spot)
        movement = -_on_panel(back, spot, shifts / detector.pitch[panel, None, None])
        return _encoded(rest, local, movement, labels)

    def _panel_moves(
        self, detector: Detector, panel: NDArray[np.int32], spot: Table
    ) -> tuple[NDArray[np.int64], Table]:
        """Labels of the global parameters, (pair, movement), and how each moves the place of a spot, m.

        A group turns about its centre.  Labels of levels that a panel does not have are 0.
        """
        chain = self._groups.chain[panel]
        place = detector.corner[panel] + spot[:, :1] * detector.fs[panel] + spot[:, 1:] * detector.ss[panel]
        arm = (place * detector.pitch[panel, None])[:, None] - self._groups.centers(detector)[chain]
        moves = np.empty((*chain.shape, 6, 3))
        moves[..., :3, :] = np.eye(3)
        moves[..., 3:, :] = np.cross(np.eye(3), arm[..., None, :])
        labels = self._groups.serial[chain][..., None] + np.arange(1, 7)
        labels[chain < 0] = 0
        return labels.reshape(len(panel), -1), moves.reshape(len(panel), -1, 3)


def free_parameters(lattice_type: str, unique: int) -> list[tuple[int, ...]]:
    """Which of a*, b*, c* (0 to 2) and of the angles between them (3 to 5) change together."""
    others = tuple(axis for axis in range(3) if axis != unique)
    if lattice_type == "triclinic":
        return [(number,) for number in range(6)]
    if lattice_type == "monoclinic":
        return [(0,), (1,), (2,), (3 + unique,)]
    if lattice_type in ("tetragonal", "hexagonal"):
        return sorted([others, (unique,)])
    if lattice_type == "rhombohedral":
        return [(0, 1, 2), (3, 4, 5)]
    return [(0, 1, 2)] if lattice_type == "cubic" else [(0,), (1,), (2,)]


def _crystal_moves(hkl: Table, points: Table, recip: Table, constraint: Constraint) -> Table:
    """How lattice points move (Å⁻¹) with each local parameter, (pair, parameter, xyz).

    A reciprocal angle opens by a turn of one of its axes; lengths are in m⁻¹, angles and turns in rad.
    """
    simple = np.zeros((6, 3, 3))  # parameter, axis, xyz: how the axes of the lattice move
    for axis in range(3):
        simple[axis, axis] = PER_METRE * recip[axis] / np.linalg.norm(recip[axis])
        moved, fixed = (axis + 1) % 3, (axis + 2) % 3
        normal = np.cross(recip[fixed], recip[moved])
        simple[3 + axis, moved] = np.cross(normal / np.linalg.norm(normal), recip[moved])
    together = free_parameters(constraint.lattice_type, constraint.unique)
    strains = np.array([simple[list(numbers)].sum(axis=0) for numbers in together])
    turns = np.cross(np.eye(3), points[:, None])
    return np.concatenate([np.einsum("pi,mix->pmx", hkl, strains), turns], axis=1)


def _on_panel(back: Table, spot: Table, moves: Table) -> Table:
    """How fs and ss change as the ray to them moves, (pair, 2, move), times the first of ``back @ ray``."""
    moved = np.einsum("pix,pmx->pim", back, moves)
    slopes: Table = moved[:, 1:] - spot[..., None] * moved[:, :1]
    return slopes


def _is_determined(local: Table) -> bool:
    """Whether the peaks determine all parameters of the crystal."""
    J = local.reshape(-1, local.shape[-1])
    size = np.linalg.norm(J, axis=0)
    if not (np.isfinite(J).all() and size.all()):
        return False
    singular = np.linalg.svd(J / size, compute_uv=False) ** 2
    return bool(singular[-1] >= singular[0] / MOST_CONDITION)


def _encoded(rest: Table, local: Table, movement: Table, labels: NDArray[np.int64]) -> bytes:
    """A record of Millepede-II; derivatives that are 0 are left out.

    Parameters
    ----------
    rest, local : (pair, 3), (pair, 3, local)
        Residuals in fs, ss and excitation error, and their derivatives.
    movement, labels : (pair, 2, global), (pair, global)
        Derivatives of the first two, and the labels of the global parameters.
    """
    n_local = local.shape[-1]
    shape = (*rest.shape, 2 + n_local + movement.shape[-1])
    value, label = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    value[..., 0], value[..., 1 + n_local] = rest, (POSITION_SIGMA, POSITION_SIGMA, ERROR_SIGMA)
    value[..., 1 : 1 + n_local], label[..., 1 : 1 + n_local] = local, np.arange(1, 1 + n_local)
    value[:, :2, 2 + n_local :], label[:, :2, 2 + n_local :] = movement, labels[:, None]
    kept = (value != 0.0) & (label > 0)
    kept[..., [0, 1 + n_local]] = True
    kept &= np.isfinite(value).all(axis=-1, keepdims=True)
    head = np.array([2 * np.count_nonzero(kept) + 2], np.int32)
    zero = np.zeros(1, np.float32)
    return b"".join(
        (head.tobytes(), zero.tobytes(), value[kept].tobytes(), zero.tobytes(), label[kept].tobytes())
    )
