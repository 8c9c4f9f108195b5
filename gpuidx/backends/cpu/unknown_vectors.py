# SPDX-License-Identifier: GPL-3.0-or-later
"""Lattice vectors of any length, without a cell: a scan of directions for many lengths, and refinement.

Lengths come in bands, each with the vectors in reciprocal space that vary slowly enough along its lengths.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.constants import DIRECT, SCAN_CYCLES, SHORTEST, STEP
from gpuidx.backends.cpu.scan import best_places, scan_scores
from gpuidx.backends.cpu.vectors import pair_vectors
from gpuidx.backends.unknown_cell_constants import (
    BAND,
    BAND_FEWEST,
    BAND_LEVEL,
    BAND_MOST,
    BAND_NEED,
    BAND_SAMPLED,
    LENGTH_SAMPLED,
    MOST_VECTORS,
    SAME_VECTOR,
    VECTOR_BEYOND,
    VECTOR_GROWTH,
    VECTOR_LAST_TOLERANCE,
    VECTOR_LEAST,
    VECTOR_RANGE,
    VECTOR_RIDGE,
    VECTOR_SIGMAS,
    VECTOR_STEP,
    VECTOR_TOLERANCE,
)
from gpuidx.jit import fast_jit, jit

_ALL = 1e9
_EXPONENT = 0.5 / VECTOR_SIGMAS[0] ** 2
_DENSITY = 0.5 / ((2 * math.pi) ** 0.5 * VECTOR_SIGMAS[0])


@jit
def band_vectors(
    peaks: NDArray[np.float64], length: NDArray[np.float64], kind: int, shortest: float, longest: float
) -> NDArray[np.float64]:
    """Vectors (xyzw, vector) for axes between two lengths, shortest first.

    Parameters
    ----------
    peaks, length
        From `vectors.usable_peaks`.
    kind
        `DIRECT` or `PAIRS`.
    shortest, longest
        Of the band, Å.
    """
    least, limit = SHORTEST / shortest, SCAN_CYCLES[BAND_LEVEL[kind]] / longest
    if kind == DIRECT:
        begin = np.searchsorted(length, least)
        end = max(np.searchsorted(length, limit), begin + BAND_NEED[kind])
        return peaks[:, begin : min(end, begin + BAND_MOST, len(length))].copy()
    limits = np.array([limit])
    vectors, _ = pair_vectors(peaks, least, limit, limits, BAND_MOST, BAND_MOST)
    if vectors.shape[1] >= BAND_NEED[kind]:
        return vectors
    limits[0] = _ALL
    vectors, _ = pair_vectors(peaks, least, _ALL, limits, BAND_NEED[kind], BAND_NEED[kind])
    return vectors


@jit
def scan_band(
    vectors: NDArray[np.float64],
    shortest: float,
    longest: float,
    grid: NDArray[np.float32],
    grid_start: NDArray[np.int64],
    buffer: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The best axes (axis, xyz) between two lengths, Å, best first; at most `BAND_SAMPLED`.

    Parameters
    ----------
    vectors : (xyzw, vector)
        As `band_vectors` gives them, Å⁻¹.
    shortest, longest
        Of the band, Å.
    grid, grid_start
        From `known_cell.direction_grids`.
    buffer : (direction,) float32
        At least as long as the largest level of the grid.
    """
    n = vectors.shape[1]
    farthest = math.sqrt(vectors[0, n - 1] ** 2 + vectors[1, n - 1] ** 2 + vectors[2, n - 1] ** 2)
    level = 0
    while level < len(SCAN_CYCLES) - 1 and SCAN_CYCLES[level] < farthest * longest:
        level += 1
    first, end = grid_start[level], grid_start[level + 1]
    n_length = max(1, math.ceil((longest - shortest) * farthest / STEP))
    scores = np.empty(n_length * LENGTH_SAMPLED, np.float32)
    axes = np.empty((n_length * LENGTH_SAMPLED, 3))
    count = 0
    scaled = np.empty((4, n), np.float32)
    scaled[3] = vectors[3]
    for k in range(n_length):
        size = shortest + (k + 0.5) * (longest - shortest) / n_length
        for row in range(3):
            for i in range(n):
                scaled[row, i] = vectors[row, i] * size
        scan_scores(scaled, grid, first, buffer[: end - first])
        for place in best_places(buffer[: end - first], LENGTH_SAMPLED):
            scores[count] = buffer[place]
            for row in range(3):
                axes[count, row] = grid[row, first + place] * size
            count += 1
    return axes[np.argsort(-scores[:count], kind="mergesort")[:BAND_SAMPLED]]


@fast_jit
def _sum_normals(
    vectors: NDArray[np.float64], t: NDArray[np.float64], tolerance: float, limit: float
) -> tuple[float, float, float, float, float, float, float, float, float]:
    """Normal matrix (xx xy xz yy yz zz) and right side of the least squares of one axis."""
    xx, xy, xz, yy, yz, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    rx, ry, rz = 0.0, 0.0, 0.0
    tx, ty, tz = t[0], t[1], t[2]
    inverse, square = 1.0 / (tolerance * tolerance), limit * limit
    for i in range(vectors.shape[1]):
        x, y, z = vectors[0, i], vectors[1, i], vectors[2, i]
        p = x * tx + y * ty + z * tz
        d = p - np.rint(p)
        weight = max(1.0 - inverse * d * d, 0.0)
        if x * x + y * y + z * z > square:
            weight = 0.0
        wx, wy, wz = weight * x, weight * y, weight * z
        xx += wx * x
        xy += wx * y
        xz += wx * z
        yy += wy * y
        yz += wy * z
        zz += wz * z
        rx -= wx * d
        ry -= wy * d
        rz -= wz * d
    return xx, xy, xz, yy, yz, zz, rx, ry, rz


@jit
def axis_step(vectors: NDArray[np.float64], t: NDArray[np.float64], tolerance: float, limit: float) -> None:
    """One least-squares step of an axis t (xyz), Å; in place.

    Parameters
    ----------
    vectors : (xyzw, vector)
        Å⁻¹; the weights are not used.
    tolerance
        Greatest distance of an index from an integer.
    limit
        Greatest length of a vector, Å⁻¹.
    """
    xx, xy, xz, yy, yz, zz, rx, ry, rz = _sum_normals(vectors, t, tolerance, limit)
    ridge = VECTOR_RIDGE * (xx + yy + zz)
    if not ridge > 0.0:
        return
    xx, yy, zz = xx + ridge, yy + ridge, zz + ridge
    c_xx, c_xy, c_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    c_yy, c_yz, c_zz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    scale = 1.0 / (xx * c_xx + xy * c_xy + xz * c_xz)
    sx = (c_xx * rx + c_xy * ry + c_xz * rz) * scale
    sy = (c_xy * rx + c_yy * ry + c_yz * rz) * scale
    sz = (c_xz * rx + c_yz * ry + c_zz * rz) * scale
    step = math.sqrt(sx * sx + sy * sy + sz * sz)
    longest = VECTOR_STEP * math.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
    shorten = longest / step if step > longest else 1.0
    t[0] += shorten * sx
    t[1] += shorten * sy
    t[2] += shorten * sz


@jit
def refine_axis(
    t: NDArray[np.float64], vectors: NDArray[np.float64], peaks: NDArray[np.float64], farthest: float
) -> None:
    """Refine an axis t (xyz), Å, on the vectors of its band, then on peaks in a growing range; in place.

    Parameters
    ----------
    vectors, peaks : (xyzw, vector)
        Å⁻¹.
    farthest
        Length of the longest peak, Å⁻¹.
    """
    for _ in range(2):
        axis_step(vectors, t, VECTOR_TOLERANCE, _ALL)
    limit = VECTOR_RANGE / math.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
    while True:
        axis_step(peaks, t, VECTOR_TOLERANCE, limit)
        if limit > farthest:
            break
        limit *= VECTOR_GROWTH
    for tolerance in VECTOR_LAST_TOLERANCE:
        axis_step(peaks, t, tolerance, _ALL)


@jit
def axis_likelihood(peaks: NDArray[np.float64], t: NDArray[np.float64]) -> float:
    """Log-likelihood ratio of "half of the peaks lie about planes of the lattice" and "none does".

    `score.likelihood` in one dimension.
    """
    total, half = 0.0, 0.0
    for i in range(peaks.shape[1]):
        p = peaks[0, i] * t[0] + peaks[1, i] * t[1] + peaks[2, i] * t[2]
        d = p - np.rint(p)
        gauss = math.exp(-_EXPONENT * d * d)
        total += math.log(0.5 + _DENSITY * gauss)
        gauss = (gauss * gauss) * (gauss * gauss)
        half += math.log(0.5 + 2.0 * _DENSITY * gauss)
    return max(total, half)


@jit
def distinct(axes: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of the best axes, best first, without those near better ones, whatever their sign."""
    kept = np.empty(MOST_VECTORS, np.int64)
    count = 0
    for j in np.argsort(-scores, kind="mergesort"):
        if count == MOST_VECTORS or not scores[j] > VECTOR_LEAST:
            break
        square = SAME_VECTOR**2 * (axes[j, 0] ** 2 + axes[j, 1] ** 2 + axes[j, 2] ** 2)
        new = True
        for e in kept[:count]:
            apart, against = 0.0, 0.0
            for row in range(3):
                apart += (axes[j, row] - axes[e, row]) ** 2
                against += (axes[j, row] + axes[e, row]) ** 2
            new = new and min(apart, against) > square
        if new:
            kept[count] = j
            count += 1
    return kept[:count]


@jit
def find_axes(
    peaks: NDArray[np.float64],
    length: NDArray[np.float64],
    kind: int,
    limits: tuple[float, float],
    grid: NDArray[np.float32],
    grid_start: NDArray[np.int64],
    buffer: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors that may be of the lattice, and their scores, best first; at most `MOST_VECTORS`.

    Parameters
    ----------
    peaks, length
        From `vectors.usable_peaks`; at least one.
    kind
        `DIRECT` or `PAIRS`.
    limits
        Shortest and longest axis, Å.
    grid, grid_start, buffer
        As in `scan_band`.

    Returns
    -------
    axes : (axis, xyz)
        Å.
    scores : (axis,)
    """
    shortest, longest = limits
    n_band = max(1, math.ceil(math.log(longest / shortest) / math.log(BAND)))
    axes, scores = np.empty((n_band * BAND_SAMPLED, 3)), np.empty(n_band * BAND_SAMPLED)
    count = 0
    for band in range(n_band):
        low, high = shortest * BAND**band, min(longest, shortest * BAND ** (band + 1))
        vectors = band_vectors(peaks, length, kind, low, high)
        if vectors.shape[1] < BAND_FEWEST:
            continue
        for t in scan_band(vectors, low, high, grid, grid_start, buffer):
            refine_axis(t, vectors, peaks, length[-1])
            size = math.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
            if shortest / VECTOR_BEYOND <= size <= longest * VECTOR_BEYOND:
                axes[count] = t
                scores[count] = axis_likelihood(peaks, t)
                count += 1
    chosen = distinct(axes[:count], scores[:count])
    return axes[chosen], scores[chosen]
