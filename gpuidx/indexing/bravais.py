# SPDX-License-Identifier: GPL-3.0-or-later
"""The lattice type and the conventional cell of a primitive lattice, from its rotations.

Rotations are found within a tolerance (`gpuidx.lattice.rotations`), the metric is averaged over them, and the
conventional axes lie along theirs: what is left is integer arithmetic.  International Tables for
Crystallography A, section 3.1.2.  Plain NumPy: the main process uses it.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, cell_parameters
from gpuidx.lattice import PRIMITIVE, reduce_axes, rotations

Integers = NDArray[np.int64]

TYPES = {
    1: "triclinic", 2: "monoclinic", 4: "orthorhombic", 6: "rhombohedral", 8: "tetragonal", 12: "hexagonal",
    24: "cubic",
}  # fmt: skip
"""Lattice type by the number of rotations."""

_ORDER = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}
"""Order of a rotation by the trace of its matrix."""

_REACH = 4
"""Multiples of in-plane axes that are tried for a monoclinic cell; the axes are reduced."""


def conventional_cell(metric: NDArray[np.float64], tolerance: float) -> tuple[UnitCell, Integers]:
    """The conventional cell of the most symmetric lattice that a metric is near to.

    Parameters
    ----------
    metric : (3, 3)
        Of any primitive basis, Å².
    tolerance
        As in `lattice.rotations`: of squares and products relative to the lengths.

    Returns
    -------
    cell
        With parameters that obey the lattice type exactly.  Rhombohedral lattices are given on hexagonal
        axes (centring H), monoclinic ones with the unique axis b, as P or C.
    K : (3, 3)
        Integers: conventional axes = K @ those of the given basis.

    Raises
    ------
    ValueError
        If it is no metric.
    """
    try:
        axes, U = reduce_axes(np.asarray(np.linalg.cholesky(metric), np.float64))
    except np.linalg.LinAlgError as error:
        raise ValueError(f"{metric.tolist()} is no metric") from error
    group = symmetry(axes, tolerance)
    metric = np.mean([M @ axes @ axes.T @ M.T for M in group], axis=0)
    lattice_type = TYPES[len(group)]
    rows = _ROWS[lattice_type](metric, group)
    centring = _centring(rows)
    if lattice_type == "orthorhombic" and centring in "AB":
        last = "AB".index(centring)
        rows = rows[[k for k in range(3) if k != last] + [last]]
        centring = "C"
    if np.linalg.det(rows) < 0:
        rows = -rows
    unique = {"monoclinic": "b", "tetragonal": "c", "hexagonal": "c", "rhombohedral": "c"}
    cell = UnitCell(
        parameters=cell_parameters(rows @ np.linalg.cholesky(metric)),
        lattice_type="hexagonal" if centring == "H" else lattice_type,
        centering=centring,
        unique_axis=unique.get(lattice_type, "*"),
    )
    return cell, rows @ U


def symmetry(axes: NDArray[np.float64], tolerance: float) -> Integers:
    """The largest group of rotations of a reduced lattice within a tolerance, (rotation, 3, 3).

    Near the limit, some rotations of a group may be within it and others not; then the worst are left out.
    """
    found = rotations(axes, tolerance)
    metric = axes @ axes.T
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    misfit = np.array([np.abs((M @ metric @ M.T - metric) / scale).max() for M in found])
    for limit in sorted(set(misfit.tolist()), reverse=True):
        group = found[misfit <= limit]
        if len(group) in TYPES and _is_closed(group):
            return np.asarray(group)
    return np.eye(3, dtype=np.int64)[None]


def _is_closed(group: Integers) -> bool:
    members = {M.tobytes() for M in group}
    return all((M @ N).tobytes() in members for M in group for N in group)


def _axis(M: Integers) -> Integers:
    """The shortest lattice vector along the axis of a rotation, in terms of the basis; of either sense."""
    change = M - np.eye(3, dtype=np.int64)
    products = [np.cross(change[:, i], change[:, j]) for i, j in ((0, 1), (1, 2), (0, 2))]
    vector = next(p for p in products if p.any())
    return np.asarray(vector // math.gcd(*(int(x) for x in vector)))


def _axes_of_order(group: Integers, order: int) -> list[Integers]:
    """Axes of the rotations of an order, each once."""
    axes: list[Integers] = []
    for M in group:
        if _ORDER[int(np.trace(M))] == order:
            axis = _axis(M)
            if not any(np.array_equal(axis, other) or np.array_equal(-axis, other) for other in axes):
                axes.append(axis)
    return axes


def _by_length(metric: NDArray[np.float64], vectors: Sequence[Integers]) -> list[Integers]:
    return sorted(vectors, key=lambda v: (round(float(v @ metric @ v), 9), tuple(v)))


def _triclinic_rows(metric: NDArray[np.float64], group: Integers) -> Integers:
    """All angles acute, or none, as in Niggli's cell."""
    rows = np.eye(3, dtype=np.int64)
    acute = np.prod([metric[1, 2], metric[0, 2], metric[0, 1]]) > 0
    for signs in itertools.product((1, -1), repeat=2):
        signed = np.diag((1, *signs))
        turned = signed @ metric @ signed
        products = np.array([turned[1, 2], turned[0, 2], turned[0, 1]])
        if (products > 0).all() if acute else (products <= 0).all():
            return np.asarray(signed)
    return rows


def _monoclinic_rows(metric: NDArray[np.float64], group: Integers) -> Integers:
    """Along b the twofold axis; a and c the shortest with an obtuse angle that make the cell P or C."""
    (b,) = _axes_of_order(group, 2)
    across = b @ metric
    steps = [np.array(v) for v in itertools.product(range(-_REACH, _REACH + 1), repeat=3) if any(v)]
    plane = _by_length(metric, [v for v in steps if abs(v @ across) < 1e-6 * (b @ across)])
    best: tuple[float, Integers] | None = None
    for a, c in itertools.permutations(plane[:24], 2):
        rows = np.array([a, b, c])
        volume = round(abs(np.linalg.det(rows)))
        if volume not in (1, 2) or a @ metric @ c > 1e-6 or _centring(rows) not in ("P", "C"):
            continue
        size = float(np.sqrt(a @ metric @ a) + np.sqrt(c @ metric @ c))
        # of P cells with equal axes, c is the longer one
        size += 1e-9 * float(a @ metric @ a > c @ metric @ c)
        if best is None or size < best[0] - 1e-12:
            best = size, rows
    assert best is not None
    return best[1]


def _orthogonal_rows(metric: NDArray[np.float64], group: Integers) -> Integers:
    """Orthorhombic: along the three twofold axes; cubic: along the three fourfold ones."""
    return np.array(_by_length(metric, _axes_of_order(group, 4 if len(group) == 24 else 2)))


def _unique_rows(metric: NDArray[np.float64], group: Integers) -> Integers:
    """Along c the axis of highest order; a the shortest twofold axis across it, b equivalent to a."""
    order = {6: 3, 8: 4, 12: 6}[len(group)]
    (c,) = _axes_of_order(group, order)
    across = [v for v in _axes_of_order(group, 2) if abs(v @ metric @ c) < 1e-6 * (c @ metric @ c)]
    a = _by_length(metric, across)[0]
    angle = 0.0 if order == 4 else -0.5
    for M in group:
        b = a @ M
        rows = np.array([a, b, c])
        right = abs(a @ metric @ b - angle * (a @ metric @ a)) < 1e-6 * (a @ metric @ a)
        if right and np.linalg.det(rows) > 0:
            break
    if _centring(rows) == "reverse":
        rows[:2] *= -1
    return rows


_ROWS = {
    "triclinic": _triclinic_rows,
    "monoclinic": _monoclinic_rows,
    "orthorhombic": _orthogonal_rows,
    "cubic": _orthogonal_rows,
    "tetragonal": _unique_rows,
    "rhombohedral": _unique_rows,
    "hexagonal": _unique_rows,
}


def _centring(rows: Integers) -> str:
    """Letter of the centring of conventional rows; "reverse" for hexagonal axes in the reverse setting."""
    volume = round(abs(np.linalg.det(rows)))
    for letter in "PABCIFH":
        primitive = PRIMITIVE[letter] @ rows
        whole = bool((np.abs(primitive - np.rint(primitive)) < 1e-6).all())
        if whole and volume == round(1 / abs(np.linalg.det(PRIMITIVE[letter]))):
            return letter
    return "reverse" if volume == 3 else "?"
