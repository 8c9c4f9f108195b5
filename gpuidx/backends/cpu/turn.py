# SPDX-License-Identifier: GPL-3.0-or-later
"""With the anchor known, the cell leaves one angle free: turn about each direction, keep the best.

With u along the anchor and ex, ey normal to it, the row (x, y, z) of the local frame is, at angle ψ,
z u + (x cos ψ - y sin ψ) ex + (x sin ψ + y cos ψ) ey; its index of a vector q is A + B cos ψ + C sin ψ.
The score is Σ max(0, T - 9 (d₂² + d₃²)) with T = min(1, w (1 - 9 d₁²)).
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    FEWEST_VECTORS,
    N_MAXIMA,
    N_ORIENTATIONS,
    TURN_CURVATURE,
    TURN_LEAST,
)
from gpuidx.backends.cpu.scan import ROUND
from gpuidx.jit import fast_jit, jit

_ZERO = np.float32(0.0)


@fast_jit
def turn_scores(
    phases: NDArray[np.float32],
    cosine: NDArray[np.float32],
    sine: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> None:
    """Score of every angle.

    Parameters
    ----------
    phases : (ABCABCT, vector) float32
        Phase coefficients of the second and the third row; score of the anchor.
    cosine, sine : (angle,) float32
    scores : (angle,) float32
        Written.
    """
    curvature = np.float32(TURN_CURVATURE)
    for j in range(len(scores)):
        scores[j] = _ZERO
    for i in range(phases.shape[1]):
        a2, b2, c2 = phases[0, i], phases[1, i], phases[2, i]
        a3, b3, c3 = phases[3, i], phases[4, i], phases[5, i]
        most = phases[6, i]
        for j in range(len(scores)):
            p2 = a2 + b2 * cosine[j] + c2 * sine[j]
            p3 = a3 + b3 * cosine[j] + c3 * sine[j]
            d2 = p2 - ((p2 + ROUND) - ROUND)
            d3 = p3 - ((p3 + ROUND) - ROUND)
            scores[j] += max(most - curvature * (d2 * d2 + d3 * d3), _ZERO)


@jit
def frame_about(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows ex, ey, u of a right-handed frame with u along t."""
    frame = np.empty((3, 3))
    ex, ey, u = frame[0], frame[1], frame[2]
    length = math.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
    for k in range(3):
        u[k] = t[k] / length
    if abs(u[2]) < 0.9:
        ex[0], ex[1], ex[2] = u[1], -u[0], 0.0
    else:
        ex[0], ex[1], ex[2] = 0.0, u[2], -u[1]
    scale = 1.0 / math.sqrt(ex[0] ** 2 + ex[1] ** 2 + ex[2] ** 2)
    for k in range(3):
        ex[k] *= scale
    ey[0] = u[1] * ex[2] - u[2] * ex[1]
    ey[1] = u[2] * ex[0] - u[0] * ex[2]
    ey[2] = u[0] * ex[1] - u[1] * ex[0]
    return frame


@jit
def _phases(
    vectors: NDArray[np.float64],
    frame: NDArray[np.float64],
    length: float,
    local: NDArray[np.float64],
    phases: NDArray[np.float32],
) -> int:
    """Fill in the coefficients for vectors that fit an anchor of this length; how many there are."""
    ex, ey, u = frame[0], frame[1], frame[2]
    count = 0
    for i in range(vectors.shape[1]):
        x, y, z = vectors[0, i], vectors[1, i], vectors[2, i]
        along = x * u[0] + y * u[1] + z * u[2]
        d = along * length - np.rint(along * length)
        most = vectors[3, i] * (1.0 - TURN_CURVATURE * d * d)
        if most < TURN_LEAST:
            continue
        qx = x * ex[0] + y * ex[1] + z * ex[2]
        qy = x * ey[0] + y * ey[1] + z * ey[2]
        for row in (1, 2):
            first = 3 * (row - 1)
            phases[first, count] = local[row, 2] * along
            phases[first + 1, count] = local[row, 0] * qx + local[row, 1] * qy
            phases[first + 2, count] = local[row, 0] * qy - local[row, 1] * qx
        phases[6, count] = min(most, 1.0)
        count += 1
    return count


@jit
def _best_maxima(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places of the two highest cyclic local maxima; neighbours of a maximum are none."""
    n = len(scores)
    place = np.full(N_MAXIMA, -1)
    value = np.zeros(N_MAXIMA, np.float32)
    for j in range(n):
        score = scores[j]
        if score <= value[N_MAXIMA - 1]:
            continue
        if score >= scores[j - 1 if j else n - 1] and score > scores[j + 1 if j + 1 < n else 0]:
            at = N_MAXIMA - 1
            while at > 0 and value[at - 1] < score:
                value[at], place[at] = value[at - 1], place[at - 1]
                at -= 1
            value[at], place[at] = score, j
    return place


@jit
def _turned(
    local: NDArray[np.float64], frame: NDArray[np.float64], cosine: float, sine: float
) -> NDArray[np.float64]:
    """Rows of the nominal cell at an angle."""
    V = np.empty((3, 3))
    for row in range(3):
        x = local[row, 0] * cosine - local[row, 1] * sine
        y = local[row, 0] * sine + local[row, 1] * cosine
        for k in range(3):
            V[row, k] = x * frame[0, k] + y * frame[1, k] + local[row, 2] * frame[2, k]
    return V


@jit
def find_orientations(
    vectors: NDArray[np.float64],
    directions: NDArray[np.float64],
    local: NDArray[np.float64],
    polar: bool,
    cosine: NDArray[np.float32],
    sine: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Orientations of the nominal cell that explain the vectors best.

    Parameters
    ----------
    vectors : (xyzw, vector)
        Å⁻¹.
    directions : (direction, xyz)
        Where the anchor may lie, Å.
    local : (row, xyz)
        The cell, anchor along z, Å.
    polar
        Whether to try the reversed anchor too.
    cosine, sine : (angle,) float32
        Of the angles to try.

    Returns
    -------
    V : (orientation, row, xyz)
        Rows from the anchor in cyclic order, Å; at most `N_ORIENTATIONS`, best first.
    """
    V = np.empty((N_ORIENTATIONS, 3, 3))
    value = np.zeros(N_ORIENTATIONS, np.float32)
    phases = np.empty((7, vectors.shape[1]), np.float32)
    scores = np.empty(len(cosine), np.float32)
    count = 0
    for e in range(len(directions)):
        for reverse in range(2 if polar else 1):
            frame = frame_about(-directions[e] if reverse else directions[e])
            length = math.sqrt(directions[e, 0] ** 2 + directions[e, 1] ** 2 + directions[e, 2] ** 2)
            used = _phases(vectors, frame, length, local, phases)
            if used < FEWEST_VECTORS:
                continue
            turn_scores(phases[:, :used], cosine, sine, scores)
            for j in _best_maxima(scores):
                if j < 0 or (count == N_ORIENTATIONS and scores[j] <= value[count - 1]):
                    break
                at = min(count, N_ORIENTATIONS - 1)
                while at > 0 and value[at - 1] < scores[j]:
                    value[at], V[at] = value[at - 1], V[at - 1]
                    at -= 1
                value[at], V[at] = scores[j], _turned(local, frame, cosine[j], sine[j])
                count = min(count + 1, N_ORIENTATIONS)
    return V[:count]
