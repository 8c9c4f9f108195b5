# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattice mathematics: centrings, reduction, rotations, comparing two bases.

Bases are 3×3 arrays whose rows are vectors; lengths are in Å but nothing here depends on it.
Plain NumPy; what jitted loops need is in `gpuidx.smallmath`.
"""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

_HALF, _THIRD = 1 / 2, 1 / 3

PRIMITIVE: dict[str, NDArray[np.float64]] = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, _HALF, _HALF], [0, -_HALF, _HALF]]),
    "B": np.array([[_HALF, 0, _HALF], [0, 1, 0], [-_HALF, 0, _HALF]]),
    "C": np.array([[_HALF, _HALF, 0], [-_HALF, _HALF, 0], [0, 0, 1]]),
    "I": np.array([[-_HALF, _HALF, _HALF], [_HALF, -_HALF, _HALF], [_HALF, _HALF, -_HALF]]),
    "F": np.array([[0, _HALF, _HALF], [_HALF, 0, _HALF], [_HALF, _HALF, 0]]),
    "R": np.eye(3),
    "H": _THIRD * np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]),
}
"""Primitive rows = matrix @ conventional rows, by CrystFEL's letters.

``R`` is the primitive rhombohedral cell; the same lattice on hexagonal axes (obverse setting) is ``H``.
International Tables for Crystallography A, table 1.5.1.1.
"""

_COMBINATIONS = np.array([c for c in itertools.product(range(-3, 4), repeat=3) if any(c)])
_NEIGHBOURS = np.array([c for c in itertools.product((-1, 0, 1), repeat=3) if any(c)])
_EQUAL_LENGTH = 1e-7
_SAME_FRACTION = 0.25
_SAME_ANGLE = 1.0


def primitive_axes(axes: NDArray[np.float64], centring: str) -> NDArray[np.float64]:
    """Rows of a primitive cell of the lattice that a conventional cell with a centring describes."""
    return PRIMITIVE[centring] @ axes


@cache
def unimodular_matrices() -> NDArray[np.int64]:
    """The 3480 matrices with entries −1, 0, 1 and determinant +1, (matrix, 3, 3); not to be written to."""
    matrices = np.array(list(itertools.product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
    chosen: NDArray[np.int64] = matrices[np.rint(np.linalg.det(matrices)) == 1]
    chosen.flags.writeable = False
    return chosen


def _gauss_reduced(axes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integer matrix that shortens each row by multiples of the others until none gets shorter."""
    U = np.eye(3, dtype=np.int64)
    for _ in range(1000):
        rows = U @ axes
        changed = False
        for i, j in itertools.permutations(range(3), 2):
            times = round(float(rows[i] @ rows[j] / (rows[j] @ rows[j])))
            shorter = rows[i] - times * rows[j]
            if times and shorter @ shorter < (1 - _EQUAL_LENGTH) * (rows[i] @ rows[i]):
                U[i] -= times * U[j]
                rows[i] = shorter
                changed = True
        if not changed:
            break
    return U


def _shortest_basis(axes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integer combinations of the rows that are the three shortest vectors of a basis.

    Vectors of equal length come in the order of the list; lengths that differ by rounding alone are equal.
    """
    length = np.linalg.norm(_COMBINATIONS @ axes, axis=1)
    rank = np.rint(length / (_EQUAL_LENGTH * length.min()))
    chosen: list[NDArray[np.int64]] = []
    for row in _COMBINATIONS[np.argsort(rank, kind="stable")]:
        found = [*chosen, row]
        if len(found) == 3 and abs(round(np.linalg.det(found))) != 1:
            continue
        if len(found) == 2 and not np.cross(*found).any():
            continue
        chosen = found
        if len(chosen) == 3:
            break
    return np.array(chosen)


def reduce_axes(axes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Buerger-reduced, right-handed basis of the same lattice: the three shortest vectors of a basis.

    Where several bases are equally short, the choice depends on the metric alone, not on the orientation.
    Every backend uses this routine, since the score of a lattice depends on that choice.

    Parameters
    ----------
    axes : (3, xyz)
        Rows of a primitive cell, of either hand, skewed as it may be.

    Returns
    -------
    reduced : (3, xyz)
        Rows by rising length, determinant > 0.
    U : (3, 3)
        Integer matrix, determinant ±1: ``reduced = U @ axes``.

    Raises
    ------
    ValueError
        If the rows are not three independent finite vectors.
    """
    axes = np.asarray(axes, float)
    if not np.isfinite(axes).all() or not abs(np.linalg.det(axes)) > 1e-9 * np.prod(
        np.linalg.norm(axes, axis=1)
    ):
        raise ValueError(f"{axes.tolist()} are not three independent vectors")
    U = _gauss_reduced(axes)
    total = np.linalg.norm(U @ axes, axis=1).sum()
    while True:
        better = _shortest_basis(U @ axes) @ U
        shorter = np.linalg.norm(better @ axes, axis=1).sum()
        U = better
        if shorter > total * (1 - _EQUAL_LENGTH):
            break
        total = shorter
    if np.linalg.det(U @ axes) < 0:
        U = -U
    return U @ axes, U


def rotations(axes: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Rotations that carry a lattice into itself, nearly.

    Parameters
    ----------
    axes : (3, xyz)
        Rows of a reduced cell.
    tolerance
        Greatest ``|M G M' - G|[i, j] / (|v_i| |v_j|)`` with the metric G: 1e-3 for true symmetry,
        0.02 to 0.05 for pseudo-symmetry.

    Returns
    -------
    M : (rotation, 3, 3)
        Integer matrices with entries -1, 0, 1 and determinant 1; ``M @ axes`` is the turned basis.
    """
    metric = axes @ axes.T
    length = np.sqrt(np.diag(metric))
    limit = tolerance * np.outer(length, length)
    products = _NEIGHBOURS @ metric @ _NEIGHBOURS.T
    squares = np.diag(products)
    rows = [np.flatnonzero(abs(squares - metric[i, i]) <= limit[i, i]) for i in range(3)]
    found = []
    for i in rows[0]:
        seconds = rows[1][abs(products[i, rows[1]] - metric[0, 1]) <= limit[0, 1]]
        thirds = rows[2][abs(products[i, rows[2]] - metric[0, 2]) <= limit[0, 2]]
        for j in seconds:
            for k in thirds[abs(products[j, thirds] - metric[1, 2]) <= limit[1, 2]]:
                M = _NEIGHBOURS[[i, j, k]]
                if round(np.linalg.det(M)) == 1:
                    found.append(M)
    return np.array(found)


def nearest_rotation(F: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation of the polar decomposition of a 3×3 matrix of positive determinant."""
    u, _, vt = np.linalg.svd(F)
    if np.linalg.det(u @ vt) < 0:
        u[:, 2] *= -1
    return np.asarray(u @ vt)


def misorientation(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Angle in degrees of the rotation that carries one basis into another, row by row.

    Strain between the two is taken out by the polar decomposition.
    """
    R = nearest_rotation(np.asarray(np.linalg.solve(true, found), float))
    axis = np.array([R[1, 2] - R[2, 1], R[2, 0] - R[0, 2], R[0, 1] - R[1, 0]])
    return float(np.degrees(np.arctan2(np.linalg.norm(axis), np.trace(R) - 1)))


def same_lattice(found: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[bool, float]:
    """Whether two primitive bases describe the same lattice in the same orientation.

    They do if ``found = M @ true`` with an integer matrix M of determinant ±1, each element within 0.25,
    and the rotation between the two is below 1 degree.

    Returns
    -------
    same
        Whether it is the same lattice.
    angle
        Degrees between the two; 180 if there is no such matrix.
    """
    fraction = np.asarray(found, float) @ np.linalg.inv(true)
    M = np.rint(fraction)
    if abs(round(np.linalg.det(M))) != 1 or not np.abs(fraction - M).max() < _SAME_FRACTION:
        return False, 180.0
    angle = misorientation(found, M @ true)
    return angle < _SAME_ANGLE, angle
