# SPDX-License-Identifier: GPL-3.0-or-later
"""Peaks and the reflections that they are: indices, errors, and what CrystFEL derives from them.

CrystFEL 0.12, behaviour of its pairing, of the notes on refinement, of the profile radius and of the
resolution limit.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.ewald import excitation_error, reflect, spot_on_panel
from gpuidx.jit import jit

FIRST_RADIUS = 0.002
"""Profile radius before it is known, Å⁻¹."""

FEWEST_PAIRS = 3
HIGHEST_INDEX = 511
OUTLIER = 1.5
"""Times the median excitation error: from the first pair beyond on, all are left out."""

CLOSE = 0.25
"""A peak is explained if each of its indices is nearer than this to a whole number."""

ERROR_WEIGHT = 1000.0
"""CrystFEL's 1e-7 m on excitation errors, for errors in Å⁻¹."""

Residual = tuple[float, float, float, float]


class Peaks(NamedTuple):
    """Peaks of a frame, as compiled loops want them.

    Attributes
    ----------
    q : (peak, xyz)
        Å⁻¹, for the detector where the geometry has it or where a crystal's shift puts it.
    fs, ss : (peak,)
        px, within the panel.
    panel : (peak,)
        Number of the panel.
    back : (panel, 3, 3)
        As in `Detector`, for the same place of the detector as `q`.
    wavenumber, spread
        1/wavelength and its standard deviation, Å⁻¹.
    """

    q: NDArray[np.float64]
    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    panel: NDArray[np.int32]
    back: NDArray[np.float64]
    wavenumber: float
    spread: float


class Pairs(NamedTuple):
    """Peaks with their reflections, by rising size of the excitation error.

    Attributes
    ----------
    peak : (pair,)
        Number of the peak.
    hkl : (pair, 3)
        Its indices, as floats.
    error : (pair,)
        Size of the excitation error, Å⁻¹.
    """

    peak: NDArray[np.int64]
    hkl: NDArray[np.float64]
    error: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.peak)


@jit
def lattice_point(recip: NDArray[np.float64], hkl: NDArray[np.float64]) -> tuple[float, float, float]:
    """The vector h a* + k b* + l c*."""
    x = hkl[0] * recip[0, 0] + hkl[1] * recip[1, 0] + hkl[2] * recip[2, 0]
    y = hkl[0] * recip[0, 1] + hkl[1] * recip[1, 1] + hkl[2] * recip[2, 1]
    z = hkl[0] * recip[0, 2] + hkl[1] * recip[1, 2] + hkl[2] * recip[2, 2]
    return x, y, z


@jit
def index_peak(axes: NDArray[np.float64], q: NDArray[np.float64], hkl: NDArray[np.float64]) -> float:
    """Write the nearest whole indices of a scattering vector; how far the farthest is off.

    Of a vector that is no number the indices are 0, and infinitely far off.
    """
    farthest = 0.0
    for i in range(3):
        exact = axes[i, 0] * q[0] + axes[i, 1] * q[1] + axes[i, 2] * q[2]
        if not math.isfinite(exact):
            hkl[:] = 0.0
            return math.inf
        hkl[i] = np.rint(exact)
        farthest = max(farthest, abs(exact - hkl[i]))
    return farthest


@jit
def _lowest_reflection(recip: NDArray[np.float64]) -> float:
    """Half the length of the shortest lattice vector with indices 0 to 3, Å⁻¹."""
    lowest = math.inf
    hkl = np.empty(3)
    for number in range(1, 64):
        hkl[0], hkl[1], hkl[2] = number // 16, number // 4 % 4, number % 4
        x, y, z = lattice_point(recip, hkl)
        lowest = min(lowest, math.sqrt(x * x + y * y + z * z))
    return 0.5 * lowest


@jit
def _ray(
    recip: NDArray[np.float64], hkl: NDArray[np.float64], wavenumber: float, spread: float
) -> tuple[float, float, float]:
    """Direction in which a reflection is seen."""
    x, y, z = lattice_point(recip, hkl)
    predicted, _, _ = reflect(x, y, z, wavenumber, FIRST_RADIUS, spread)
    return x, y, z + predicted


@jit
def _distance_on_sphere(
    ray: tuple[float, float, float], ahead: bool, wavenumber: float, q: NDArray[np.float64]
) -> float:
    """How far from a scattering vector the point of the Ewald sphere is where a ray meets a panel."""
    x, y, z = ray
    length = wavenumber / math.sqrt(x * x + y * y + z * z)
    if not ahead:
        length = -length
    return math.sqrt(
        (x * length - q[0]) ** 2 + (y * length - q[1]) ** 2 + (z * length - wavenumber - q[2]) ** 2
    )


@jit
def pair_peaks(peaks: Peaks, axes: NDArray[np.float64], recip: NDArray[np.float64]) -> Pairs:
    """Pair each peak with its nearest reflection, without those that look wrong.

    Parameters
    ----------
    peaks
        Of the frame.
    axes, recip : (3, xyz)
        The lattice, Å and Å⁻¹.
    """
    farthest = _lowest_reflection(recip) / 3.0
    q, panel, back = peaks.q, peaks.panel, peaks.back
    wavenumber, spread = peaks.wavenumber, peaks.spread
    peak = np.empty(len(q), np.int64)
    indices, error = np.empty((len(q), 3)), np.empty(len(q))
    number = 0
    for i in range(len(q)):
        hkl = indices[number]
        index_peak(axes, q[i], hkl)
        highest = max(abs(hkl[0]), abs(hkl[1]), abs(hkl[2]))
        if not 0.0 < highest <= HIGHEST_INDEX:
            continue
        ray = _ray(recip, hkl, wavenumber, spread)
        scale, _, _ = spot_on_panel(back[panel[i]], ray[0], ray[1], ray[2])
        if not _distance_on_sphere(ray, scale > 0.0, wavenumber, q[i]) <= farthest:
            continue
        x, y, z = lattice_point(recip, hkl)
        peak[number], error[number] = i, abs(excitation_error(x, y, z, wavenumber))
        number += 1
    order = np.argsort(error[:number])
    last = number
    if number >= FEWEST_PAIRS:
        limit = OUTLIER * error[order[number // 2]]
        last = number // 2
        while last < number and error[order[last]] <= limit:
            last += 1
    order = order[:last]
    return Pairs(peak[order], indices[order], error[order])


@jit
def residual(peaks: Peaks, pairs: Pairs, recip: NDArray[np.float64]) -> Residual:
    """Sums of squares over pairs: total, excitation errors (weighted), fs and ss of the positions (px)."""
    in_error, in_fs, in_ss = 0.0, 0.0, 0.0
    position_fs, position_ss, panel, back = peaks.fs, peaks.ss, peaks.panel, peaks.back
    wavenumber, spread, peak, indices = peaks.wavenumber, peaks.spread, pairs.peak, pairs.hkl
    for i in range(len(peak)):
        at = peak[i]
        ray = _ray(recip, indices[i], wavenumber, spread)
        _, fs, ss = spot_on_panel(back[panel[at]], ray[0], ray[1], ray[2])
        x, y, z = lattice_point(recip, indices[i])
        in_error += (ERROR_WEIGHT * excitation_error(x, y, z, wavenumber)) ** 2
        in_fs += (fs - position_fs[at]) ** 2
        in_ss += (ss - position_ss[at]) ** 2
    return in_error + in_fs + in_ss, in_error, in_fs, in_ss


def profile_radius(pairs: Pairs) -> float | None:
    """Excitation error at the 98 % place of the pairs, Å⁻¹; None if there are too few."""
    number = len(pairs.peak)
    if number < FEWEST_PAIRS:
        return None
    return float(pairs.error[max(2, number - 1 - number // 50)])


@jit
def explain(peaks: Peaks, axes: NDArray[np.float64], recip: NDArray[np.float64]) -> NDArray[np.float64]:
    """1/d (Å⁻¹) of the reflection that each peak is, NaN for a peak that the lattice does not explain."""
    q = peaks.q
    inv_d, hkl = np.full(len(q), np.nan), np.empty(3)
    for i in range(len(q)):
        if index_peak(axes, q[i], hkl) < CLOSE:
            x, y, z = lattice_point(recip, hkl)
            inv_d[i] = math.sqrt(x * x + y * y + z * z)
    return inv_d


@jit
def distances(peaks: Peaks, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each peak is from a lattice point, in units of the indices; inf for one that is no number."""
    q = peaks.q
    distance, hkl = np.empty(len(q)), np.empty(3)
    for i in range(len(q)):
        if index_peak(axes, q[i], hkl) == math.inf:
            distance[i] = math.inf
            continue
        square = 0.0
        for axis in range(3):
            exact = axes[axis, 0] * q[i, 0] + axes[axis, 1] * q[i, 1] + axes[axis, 2] * q[i, 2]
            square += (exact - hkl[axis]) ** 2
        distance[i] = math.sqrt(square)
    return distance


def resolution_limit(inv_d: NDArray[np.float64]) -> float | None:
    """1/d near the top of the explained peaks', Å⁻¹; None if there are too few.

    Parameters
    ----------
    inv_d : (peak,)
        As `explain` gives it.
    """
    explained = np.sort(inv_d[~np.isnan(inv_d)])
    number = len(explained)
    if number < FEWEST_PAIRS:
        return None
    return float(explained[number - 1 - max(2, number // 50)])
