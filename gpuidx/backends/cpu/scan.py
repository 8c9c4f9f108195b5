# SPDX-License-Identifier: GPL-3.0-or-later
"""Scan of directions for the anchor, and refinement of the best.

The score of a direction u for vectors q of weight w is S(u) = Σ max(0, w (1 - 16 d²)), d the distance of
L (q · u) from an integer and L the anchor's length: a periodic function without a sine.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import (
    DIRECTION_LENGTH_WEIGHT,
    DIRECTION_RIDGE,
    DIRECTION_STEP,
    DIRECTION_STRETCH,
    DIRECTION_TOLERANCE,
    N_DIRECTIONS,
    N_SAMPLED,
    SCAN_CURVATURE,
    STEP,
)
from gpuidx.jit import fast_jit, jit

ROUND = np.float32(12582912.0)
"""1.5 × 2²³: adding and subtracting it rounds a float32 below 4e6 to the nearest integer."""

_BLOCK = 1024
_ZERO = np.float32(0.0)


@fast_jit
def scan_scores(
    vectors: NDArray[np.float32], grid: NDArray[np.float32], first: int, scores: NDArray[np.float32]
) -> None:
    """Score of every direction of a level.

    The inner loop runs over directions, each with its own sum, so it becomes vector code although the
    order of no sum is changed.

    Parameters
    ----------
    vectors : (xyzw, vector) float32
        In units of 1 / L.
    grid : (xyz, direction) float32
        Unit vectors of all levels.
    first
        Where the level begins.
    scores : (direction of the level,) float32
        Written.
    """
    n = len(scores)
    for begin in range(0, n, _BLOCK):
        end = min(n, begin + _BLOCK)
        out = scores[begin:end]
        ux = grid[0, first + begin : first + end]
        uy = grid[1, first + begin : first + end]
        uz = grid[2, first + begin : first + end]
        for j in range(end - begin):
            out[j] = _ZERO
        for i in range(vectors.shape[1]):
            x, y, z, w = vectors[0, i], vectors[1, i], vectors[2, i], vectors[3, i]
            curvature = np.float32(SCAN_CURVATURE) * w
            for j in range(end - begin):
                p = x * ux[j] + y * uy[j] + z * uz[j]
                d = p - ((p + ROUND) - ROUND)
                out[j] += max(w - curvature * d * d, _ZERO)


@jit
def best_places(scores: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Places of the highest scores above 0, best first, ties by the lower place."""
    place = np.empty(most, np.int64)
    value = np.empty(most, np.float32)
    count = 0
    threshold = _ZERO
    for j in range(len(scores)):
        score = scores[j]
        if score > threshold:
            at = min(count, most - 1)
            while at > 0 and value[at - 1] < score:
                value[at], place[at] = value[at - 1], place[at - 1]
                at -= 1
            value[at], place[at] = score, j
            count = min(count + 1, most)
            if count == most:
                threshold = value[most - 1]
    return place[:count]


@fast_jit
def _sum_normals(
    vectors: NDArray[np.float64], t: NDArray[np.float64], tolerance: float, sums: NDArray[np.float64]
) -> None:
    """Normal matrix (xx xy xz yy yz zz) and right side of the least squares, for all directions at once."""
    sums[:] = 0.0
    inverse = 1.0 / (tolerance * tolerance)
    n = t.shape[1]
    tx, ty, tz = t[0], t[1], t[2]
    xx, xy, xz, yy, yz, zz = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    rx, ry, rz = sums[6], sums[7], sums[8]
    for i in range(vectors.shape[1]):
        x, y, z, w = vectors[0, i], vectors[1, i], vectors[2, i], vectors[3, i]
        for j in range(n):
            p = x * tx[j] + y * ty[j] + z * tz[j]
            d = p - np.rint(p)
            weight = max(w - w * inverse * d * d, 0.0)
            wx, wy, wz = weight * x, weight * y, weight * z
            xx[j] += wx * x
            xy[j] += wx * y
            xz[j] += wx * z
            yy[j] += wy * y
            yz[j] += wy * z
            zz[j] += wz * z
            rx[j] -= wx * d
            ry[j] -= wy * d
            rz[j] -= wz * d


@jit
def _step(t: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Move each direction by its least-squares step; the known length is a further observation."""
    for j in range(t.shape[1]):
        trace = sums[0, j] + sums[3, j] + sums[5, j]
        length = math.sqrt(t[0, j] ** 2 + t[1, j] ** 2 + t[2, j] ** 2)
        if not trace > 0.0 or not length > 0.0:
            t[:, j] = 0.0
            continue
        ux, uy, uz = t[0, j] / length, t[1, j] / length, t[2, j] / length
        pull = DIRECTION_LENGTH_WEIGHT * (1.0 - length)
        ridge = DIRECTION_RIDGE * trace
        xx = sums[0, j] + ridge + DIRECTION_LENGTH_WEIGHT * ux * ux
        xy = sums[1, j] + DIRECTION_LENGTH_WEIGHT * ux * uy
        xz = sums[2, j] + DIRECTION_LENGTH_WEIGHT * ux * uz
        yy = sums[3, j] + ridge + DIRECTION_LENGTH_WEIGHT * uy * uy
        yz = sums[4, j] + DIRECTION_LENGTH_WEIGHT * uy * uz
        zz = sums[5, j] + ridge + DIRECTION_LENGTH_WEIGHT * uz * uz
        rx, ry, rz = sums[6, j] + pull * ux, sums[7, j] + pull * uy, sums[8, j] + pull * uz
        c_xx, c_xy, c_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        c_yy, c_yz, c_zz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
        scale = 1.0 / (xx * c_xx + xy * c_xy + xz * c_xz)
        sx = (c_xx * rx + c_xy * ry + c_xz * rz) * scale
        sy = (c_xy * rx + c_yy * ry + c_yz * rz) * scale
        sz = (c_xz * rx + c_yz * ry + c_zz * rz) * scale
        step = math.sqrt(sx * sx + sy * sy + sz * sz)
        shorten = DIRECTION_STEP / step if step > DIRECTION_STEP else 1.0
        t[0, j] += shorten * sx
        t[1, j] += shorten * sy
        t[2, j] += shorten * sz


@fast_jit
def _direction_scores(
    vectors: NDArray[np.float64], t: NDArray[np.float64], scores: NDArray[np.float64]
) -> None:
    scores[:] = 0.0
    tx, ty, tz = t[0], t[1], t[2]
    for i in range(vectors.shape[1]):
        x, y, z, w = vectors[0, i], vectors[1, i], vectors[2, i], vectors[3, i]
        for j in range(len(scores)):
            p = x * tx[j] + y * ty[j] + z * tz[j]
            d = p - np.rint(p)
            scores[j] += max(w - w * SCAN_CURVATURE * d * d, 0.0)


@jit
def refine_directions(
    vectors: NDArray[np.float64], t: NDArray[np.float64], spacing: float
) -> NDArray[np.float64]:
    """Refine directions by least squares, take the best of those that meet.

    Parameters
    ----------
    vectors : (xyzw, vector)
        In units of 1 / L.
    t : (xyz, direction)
        Anchor vectors in units of L; overwritten.
    spacing
        Step of the grid that they come from, rad: closer than half of it are the same.

    Returns
    -------
    kept : (direction, xyz)
        At most `N_DIRECTIONS`, best first.
    """
    n = t.shape[1]
    sums = np.empty((9, n))
    for tolerance in DIRECTION_TOLERANCE:
        _sum_normals(vectors, t, tolerance, sums)
        _step(t, sums)
    scores = np.empty(n)
    _direction_scores(vectors, t, scores)
    near = math.sin(0.5 * spacing) ** 2
    kept = np.empty((N_DIRECTIONS, 3))
    count = 0
    for j in np.argsort(-scores, kind="mergesort"):
        square = t[0, j] ** 2 + t[1, j] ** 2 + t[2, j] ** 2
        if not abs(math.sqrt(square) - 1.0) <= DIRECTION_STRETCH:
            continue
        if _is_new(kept[:count], t[:, j], near * square):
            kept[count] = t[:, j]
            count += 1
            if count == N_DIRECTIONS:
                break
    return kept[:count]


@jit
def _is_new(kept: NDArray[np.float64], t: NDArray[np.float64], near: float) -> bool:
    """Whether a vector makes an angle with each of those kept; *near*: its squared length times sine²."""
    for e in range(len(kept)):
        cx = kept[e, 1] * t[2] - kept[e, 2] * t[1]
        cy = kept[e, 2] * t[0] - kept[e, 0] * t[2]
        cz = kept[e, 0] * t[1] - kept[e, 1] * t[0]
        square = kept[e, 0] ** 2 + kept[e, 1] ** 2 + kept[e, 2] ** 2
        if cx * cx + cy * cy + cz * cz < near * square:
            return False
    return True


@jit
def find_directions(
    vectors: NDArray[np.float64],
    length: float,
    grid: NDArray[np.float32],
    first: int,
    cycles: float,
    scores: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The directions in which the anchor may lie, sign unknown.

    Parameters
    ----------
    vectors : (xyzw, vector)
        Å⁻¹.
    length
        Of the anchor, Å.
    grid : (xyz, direction) float32
        Unit vectors of all levels.
    first
        Where the level begins.
    cycles
        Of the level.
    scores : (direction of the level,) float32
        Overwritten.

    Returns
    -------
    t : (direction, xyz)
        Anchor vectors, Å, best first.
    """
    scaled = vectors.copy()
    scaled[:3] *= length
    scan_scores(scaled.astype(np.float32), grid, first, scores)
    places = best_places(scores, N_SAMPLED)
    t = np.empty((3, len(places)))
    for j in range(len(places)):
        for row in range(3):
            t[row, j] = grid[row, first + places[j]]
    kept = refine_directions(scaled, t, STEP / cycles)
    return kept * length
