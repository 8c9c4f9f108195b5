# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums that all least squares on indices have in common, and normal matrices from them.

Rows v_k of a basis give a vector q the indices h_k = q · v_k; d_k is the distance of h_k from an integer.
Every unknown is a linear map, dh_k = Σ c (q, 1)_a V[k][b] over a few entries (c, a, b).
With S = Σ w (q, 1)(q, 1)', R = Σ w (q, 1) d' and G = V' V the normal matrix is Σ c c' S[a][a'] G[b][b'],
the right side -Σ c V[k][b] R[a][k]: 28 sums for each vector, however many unknowns there are.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.jit import fast_jit, jit


@fast_jit
def _residuals(
    vectors: NDArray[np.float64],
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    limit: float,
    tolerance: float,
    columns: NDArray[np.float64],
) -> None:
    """Columns qx qy qz d1 d2 d3 w of all vectors; w = 0 for those out of range or tolerance."""
    square_limit, square_tolerance = limit * limit, tolerance * tolerance
    inverse = 1.0 / square_tolerance
    sx, sy = shift[0], shift[1]
    ax, ay, az = V[0, 0], V[0, 1], V[0, 2]
    bx, by, bz = V[1, 0], V[1, 1], V[1, 2]
    cx, cy, cz = V[2, 0], V[2, 1], V[2, 2]
    for i in range(vectors.shape[1]):
        x, y, z = vectors[0, i] - sx, vectors[1, i] - sy, vectors[2, i]
        h, k, m = x * ax + y * ay + z * az, x * bx + y * by + z * bz, x * cx + y * cy + z * cz
        d1, d2, d3 = h - np.rint(h), k - np.rint(k), m - np.rint(m)
        square = d1 * d1 + d2 * d2 + d3 * d3
        within = square <= square_tolerance and x * x + y * y + z * z <= square_limit
        columns[0, i], columns[1, i], columns[2, i] = x, y, z
        columns[3, i], columns[4, i], columns[5, i] = d1, d2, d3
        columns[6, i] = vectors[3, i] * (1.0 - square * inverse) if within else 0.0


@jit
def sum_up(
    vectors: NDArray[np.float64],
    V: NDArray[np.float64],
    shift: NDArray[np.float64],
    limit: float,
    tolerance: float,
    sums: NDArray[np.float64],
) -> int:
    """Weighted sums over the vectors that fit, with weight w (1 - |d|² / tolerance²).

    Parameters
    ----------
    vectors : (xyzw, vector)
        Å⁻¹.
    V : (row, xyz)
        Å.
    shift : (xy,)
        Taken from every vector first, Å⁻¹.
    limit
        Greatest length of a vector, Å⁻¹.
    tolerance
        Greatest |d|.
    sums : (4, 7)
        Written: S in the first four columns, R in the last three.

    Returns
    -------
    count
        How many vectors fit.
    """
    columns = np.empty((7, vectors.shape[1]))
    _residuals(vectors, V, shift, limit, tolerance, columns)
    sums[:] = 0.0
    row = np.ones(7)
    count = 0
    for i in range(vectors.shape[1]):
        weight = columns[6, i]
        if not weight > 0.0:
            continue
        count += 1
        for k in range(3):
            row[k], row[4 + k] = columns[k, i], columns[3 + k, i]
        for a in range(4):
            weighted = weight * row[a]
            for b in range(7):
                sums[a, b] += weighted * row[b]
    return count


@jit
def gram(V: NDArray[np.float64]) -> NDArray[np.float64]:
    """G = V' V."""
    G = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            G[a, b] = V[0, a] * V[0, b] + V[1, a] * V[1, b] + V[2, a] * V[2, b]
    return G


@jit
def fill_turn(
    V: NDArray[np.float64],
    sums: NDArray[np.float64],
    M: NDArray[np.float64],
    right: NDArray[np.float64],
) -> None:
    """Normal equations of a turn (3) and, if M is 5×5, a shift of q in x and y.

    A turn ω moves h_k by ω · (v_k × q), a shift s by -s · v_k.
    """
    G = gram(V)
    n = len(right)
    for u in range(n):
        a1, b1, a2, b2, c2 = _entries(u)
        for v in range(u + 1):
            e1, f1, e2, f2, g2 = _entries(v)
            M[u, v] = sums[a1, e1] * G[b1, f1]
            M[u, v] += g2 * sums[a1, e2] * G[b1, f2] + c2 * sums[a2, e1] * G[b2, f1]
            M[u, v] += c2 * g2 * sums[a2, e2] * G[b2, f2]
            if u >= 3 > v:
                M[u, v] = -M[u, v]
        right[u] = 0.0
        for k in range(3):
            right[u] -= V[k, b1] * sums[a1, 4 + k] + c2 * V[k, b2] * sums[a2, 4 + k]
        if u >= 3:
            right[u] = -right[u]


@jit
def _entries(u: int) -> tuple[int, int, int, int, float]:
    """Entries (1, a, b) and (c, a, b) of an unknown of `fill_turn`; a shift counts with reversed sign."""
    if u >= 3:
        return 3, u - 3, 3, u - 3, 0.0
    s, t = (u + 1) % 3, (u + 2) % 3
    return t, s, s, t, -1.0


@jit
def fill_cell(
    V: NDArray[np.float64],
    sums: NDArray[np.float64],
    M: NDArray[np.float64],
    right: NDArray[np.float64],
) -> None:
    """Normal equations of V ← V (1 + E)' with nine unknowns, in rows: dh_k / dE[a][b] = q_a V[k][b]."""
    G = gram(V)
    for a in range(3):
        for b in range(3):
            u = 3 * a + b
            for c in range(3):
                for d in range(3):
                    M[u, 3 * c + d] = sums[a, c] * G[b, d]
            right[u] = -(V[0, b] * sums[a, 4] + V[1, b] * sums[a, 5] + V[2, b] * sums[a, 6])
