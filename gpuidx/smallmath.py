# SPDX-License-Identifier: GPL-3.0-or-later
"""Small linear algebra for jitted loops: NumPy's own routines would need SciPy there.

Everything is compiled without fast-math, so a result depends on the numbers alone.
A caller is compiled together with what it calls here; Numba does not see changes of this file then.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.jit import jit


@jit
def solve_in_place(M: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Solve M x = b for a symmetric positive definite M by Cholesky's decomposition.

    Parameters
    ----------
    M : (n, n)
        Only the lower triangle is read; overwritten by the factor.
    b : (n,)
        Overwritten by the solution.

    Returns
    -------
    solved
        False if M is not positive definite or holds NaN; *b* is then meaningless.
    """
    n = len(b)
    for column in range(n):
        pivot = M[column, column]
        for k in range(column):
            pivot -= M[column, k] * M[column, k]
        if not pivot > 0.0:
            return False
        root = math.sqrt(pivot)
        M[column, column] = root
        inverse = 1.0 / root
        for row in range(column + 1, n):
            rest = M[row, column]
            for k in range(column):
                rest -= M[row, k] * M[column, k]
            M[row, column] = rest * inverse
    for row in range(n):
        rest = b[row]
        for k in range(row):
            rest -= M[row, k] * b[k]
        b[row] = rest / M[row, row]
    for row in range(n - 1, -1, -1):
        rest = b[row]
        for k in range(row + 1, n):
            rest -= M[k, row] * b[k]
        b[row] = rest / M[row, row]
    return True


@jit
def solve(M: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solution (n,) of M x = b for a symmetric positive definite M (n, n); NaN if it is not.

    Neither argument is changed; see `solve_in_place` for the form without copies.
    """
    x = b.copy()
    if not solve_in_place(M.copy(), x):
        x[:] = np.nan
    return x


@jit
def det3(M: NDArray[np.float64]) -> float:
    """Determinant of a 3×3 matrix."""
    return float(
        M[0, 0] * (M[1, 1] * M[2, 2] - M[1, 2] * M[2, 1])
        - M[0, 1] * (M[1, 0] * M[2, 2] - M[1, 2] * M[2, 0])
        + M[0, 2] * (M[1, 0] * M[2, 1] - M[1, 1] * M[2, 0])
    )


@jit
def inv3(M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a 3×3 matrix by cofactors; infinite or NaN if it is singular."""
    inverse = np.empty((3, 3))
    scale = 1.0 / det3(M)
    for row in range(3):
        r1, r2 = (row + 1) % 3, (row + 2) % 3
        for column in range(3):
            c1, c2 = (column + 1) % 3, (column + 2) % 3
            inverse[column, row] = (M[r1, c1] * M[r2, c2] - M[r1, c2] * M[r2, c1]) * scale
    return inverse


@jit
def polar_rotation(F: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation nearest to a 3×3 matrix of positive determinant, by Newton's iteration.

    Higham (1986), SIAM J. Sci. Stat. Comput. 7, 1160.  Meant for matrices near a rotation.
    """
    R = F.copy()
    for _ in range(8):
        inverse = inv3(R)
        change = 0.0
        for i in range(3):
            for j in range(3):
                mean = 0.5 * (R[i, j] + inverse[j, i])
                change = max(change, abs(mean - R[i, j]))
        for i in range(3):
            for j in range(3):
                R[i, j] = 0.5 * (R[i, j] + inverse[j, i])
        if not change > 1e-12:
            break
    return R
