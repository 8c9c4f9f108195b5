# SPDX-License-Identifier: GPL-3.0-or-later
"""Background under a spot: a constant, or a plane through the pixels of the ring.

A plane is ``slope_fs·p + slope_ss·q + level`` with p and q counted from the corner of the box.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.integration.pixels import D_FS, D_SS, MOST, STEP, Pixels, Sums, Tables, is_bad
from gpuidx.jit import jit

Plane = tuple[float, float, float]

LARGEST_CONDITION = 1e6
"""Eigenvalues smaller than the largest by this factor count as zero."""

FLATNESS = 10.0
"""The background may rise in one pixel by this fraction of the height of the spot."""


@jit
def _turn(M: NDArray[np.float64], V: NDArray[np.float64], p: int, q: int) -> None:
    """One Jacobi rotation of a symmetric matrix that makes element p, q zero; V gathers the rotations."""
    if M[p, q] == 0.0:
        return
    ratio = (M[q, q] - M[p, p]) / (2.0 * M[p, q])
    tangent = math.copysign(1.0, ratio) / (abs(ratio) + math.sqrt(1.0 + ratio * ratio))
    cosine = 1.0 / math.sqrt(1.0 + tangent * tangent)
    sine = tangent * cosine
    for i in range(3):
        M[i, p], M[i, q] = cosine * M[i, p] - sine * M[i, q], sine * M[i, p] + cosine * M[i, q]
    for i in range(3):
        M[p, i], M[q, i] = cosine * M[p, i] - sine * M[q, i], sine * M[p, i] + cosine * M[q, i]
        V[i, p], V[i, q] = cosine * V[i, p] - sine * V[i, q], sine * V[i, p] + cosine * V[i, q]


@jit
def solve_filtered(M: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solution (3,) of M x = b for a symmetric M (3, 3), without the directions that M does not fix.

    The matrix is scaled to a diagonal of ones first (CrystFEL 0.12, behaviour of its fits).
    """
    scale = np.empty(3)
    S, V = np.empty((3, 3)), np.eye(3)
    for i in range(3):
        scale[i] = 1.0 / math.sqrt(M[i, i]) if M[i, i] > 0.0 else 0.0
    for i in range(3):
        for j in range(3):
            S[i, j] = M[i, j] * scale[i] * scale[j]
    for _ in range(12):
        _turn(S, V, 0, 1)
        _turn(S, V, 0, 2)
        _turn(S, V, 1, 2)
    largest = max(S[0, 0], S[1, 1], S[2, 2])
    x = np.zeros(3)
    for k in range(3):
        if S[k, k] < largest / LARGEST_CONDITION or S[k, k] == 0.0:
            continue
        along = 0.0
        for i in range(3):
            along += V[i, k] * scale[i] * b[i]
        for i in range(3):
            x[i] += V[i, k] * scale[i] * along / S[k, k]
    return x


@jit
def fit_plane(pixels: Pixels, tables: Tables, centre: int) -> Plane:
    """Plane through the used pixels of the ring, by least squares."""
    M, b = np.zeros((3, 3)), np.zeros(3)
    image, mask, counts, rules = pixels.image, pixels.mask, pixels.counts, pixels.rules
    ring, half = tables.ring, tables.half
    term = np.empty(3)
    for row in range(len(ring)):
        at = np.uint64(centre + ring[row, STEP])
        value = float(np.float32(image[at]))
        if counts[at] > ring[row, MOST] or is_bad(mask[at], value, rules):
            continue
        term[0], term[1], term[2] = ring[row, D_FS] + half, ring[row, D_SS] + half, 1.0
        for i in range(3):
            b[i] += value * term[i]
            for j in range(3):
                M[i, j] += term[i] * term[j]
    x = solve_filtered(M, b)
    return x[0], x[1], x[2]


@jit
def disc_moments(pixels: Pixels, tables: Tables, centre: int) -> tuple[float, float]:
    """Sums of p and of q over the used pixels of the disc."""
    along_fs, along_ss = 0.0, 0.0
    counts, disc, half = pixels.counts, tables.disc, tables.half
    for row in range(len(disc)):
        at = np.uint64(centre + disc[row, STEP])
        if counts[at] <= disc[row, MOST]:
            along_fs += disc[row, D_FS] + half
            along_ss += disc[row, D_SS] + half
    return along_fs, along_ss


@jit
def find_background(pixels: Pixels, tables: Tables, centre: int, ring: Sums, gradient: bool) -> Plane:
    """The background of a box whose ring has the sums *ring*: constant, or a plane with *gradient*."""
    if gradient:
        return fit_plane(pixels, tables, centre)
    return 0.0, 0.0, ring.total / ring.number


@jit
def under_disc(pixels: Pixels, tables: Tables, centre: int, disc: Sums, plane: Plane) -> float:
    """The background summed over the used pixels of the disc."""
    slope_fs, slope_ss, level = plane
    total = level * disc.number
    if slope_fs != 0.0 or slope_ss != 0.0:
        along_fs, along_ss = disc_moments(pixels, tables, centre)
        total += slope_fs * along_fs + slope_ss * along_ss
    return total


@jit
def is_too_steep(plane: Plane, disc: Sums, under: float) -> bool:
    """Whether the background rises too fast for the height of the spot; never if it is constant."""
    steepest = abs(max(disc.highest, 0.0) - under / disc.number) / FLATNESS
    return abs(plane[0]) > steepest or abs(plane[1]) > steepest
