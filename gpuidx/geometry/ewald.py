# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the detector and reciprocal space, for compiled loops: peaks to q, lattice points to spots.

Nothing here knows of lattices or images.  `gpuidx.geometry.detector` has the same geometry as plain
NumPy; this module is for workers only, since it needs the compiler.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Detector
from gpuidx.jit import jit

SMALLEST = float(np.finfo(np.float64).tiny)
"""Ratio of weights below which CrystFEL leaves its general formula for the wavelength of a spot."""


@jit
def scattering_vectors(
    corner: NDArray[np.float64],
    fs_axis: NDArray[np.float64],
    ss_axis: NDArray[np.float64],
    offset: NDArray[np.float64],
    panel: NDArray[np.int32],
    fs: NDArray[np.float64],
    ss: NDArray[np.float64],
    wavenumber: float,
) -> NDArray[np.float64]:
    """Scattering vectors of peaks, with the detector moved.

    Parameters
    ----------
    corner, fs_axis, ss_axis : (panel, xyz)
        As in `Detector`.
    offset : (panel, xy)
        Shift of the detector in pixel widths of each panel.
    panel, fs, ss : (peak,)
        Peaks.
    wavenumber
        1/wavelength, Å⁻¹.

    Returns
    -------
    q : (peak, xyz)
        Å⁻¹; ``crystfel_geometry(5)``.
    """
    q = np.empty((len(fs), 3))
    for i in range(len(fs)):
        p = panel[i]
        x = corner[p, 0] + offset[p, 0] + fs[i] * fs_axis[p, 0] + ss[i] * ss_axis[p, 0]
        y = corner[p, 1] + offset[p, 1] + fs[i] * fs_axis[p, 1] + ss[i] * ss_axis[p, 1]
        z = corner[p, 2] + fs[i] * fs_axis[p, 2] + ss[i] * ss_axis[p, 2]
        scale = wavenumber / math.sqrt(x * x + y * y + z * z)
        q[i, 0], q[i, 1], q[i, 2] = x * scale, y * scale, z * scale - wavenumber
    return q


@jit
def rays(
    corner: NDArray[np.float64],
    fs_axis: NDArray[np.float64],
    ss_axis: NDArray[np.float64],
    panel: NDArray[np.int32],
    fs: NDArray[np.float64],
    ss: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Vectors from the sample to peaks, in pixel widths of their panels, (peak, xyz)."""
    ray = np.empty((len(fs), 3))
    for i in range(len(fs)):
        p = panel[i]
        for x in range(3):
            ray[i, x] = corner[p, x] + fs[i] * fs_axis[p, x] + ss[i] * ss_axis[p, x]
    return ray


@jit
def shifted_back(back: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """`Detector.back` of a detector that is moved, (panel, 3, 3).

    A change of one column of the inverted matrix is a change of rank one (Sherman and Morrison 1950).

    Parameters
    ----------
    back : (panel, 3, 3)
        As in `Detector`.
    offset : (panel, xy)
        Shift in pixel widths of each panel.
    """
    out = np.empty_like(back)
    for p in range(len(back)):
        first = back[p, 0]
        scale = 1.0 / (1.0 + first[0] * offset[p, 0] + first[1] * offset[p, 1])
        for row in range(3):
            moved = (back[p, row, 0] * offset[p, 0] + back[p, row, 1] * offset[p, 1]) * scale
            for x in range(3):
                out[p, row, x] = back[p, row, x] - moved * first[x]
    return out


@jit
def spot_on_panel(inverse: NDArray[np.float64], x: float, y: float, z: float) -> tuple[float, float, float]:
    """Where a ray from the sample meets the plane of a panel.

    Parameters
    ----------
    inverse : (3, 3)
        One panel of `Detector.back`.
    x, y, z
        Direction of the ray.

    Returns
    -------
    scale, fs, ss
        Position in px, perhaps off the panel; *scale* is negative for a ray that points away.
    """
    scale = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * z
    fs = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * z) / scale
    ss = (inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2] * z) / scale
    return scale, fs, ss


@jit
def excitation_error(x: float, y: float, z: float, wavenumber: float) -> float:
    """Signed distance of a lattice point inside the Ewald sphere, Å⁻¹."""
    along = z + wavenumber
    return wavenumber - math.sqrt(x * x + y * y + along * along)


@jit
def _half_wavenumber(x: float, y: float, z: float) -> float:
    """Wavenumber for which a lattice point lies on the Ewald sphere; NaN for one that never does."""
    if z > 0.0:
        return np.nan
    return -(x * x + y * y + z * z) / (2.0 * z)


@jit
def reflect(
    x: float, y: float, z: float, wavenumber: float, radius: float, spread: float
) -> tuple[float, float, float]:
    """How a lattice point meets the Ewald sphere of a beam with a Gaussian spectrum.

    CrystFEL 0.12, behaviour of its prediction, with its three branches: the general one, a beam
    without spread, and a profile far narrower than the spread.

    Parameters
    ----------
    x, y, z
        Lattice point, Å⁻¹.
    wavenumber, spread
        Mean and standard deviation of the spectrum, Å⁻¹.
    radius
        Profile radius, Å⁻¹.

    Returns
    -------
    predicted
        Wavenumber with which the spot is seen, Å⁻¹.
    error, width
        Squared distance from the sphere, and squared width of profile and sphere together, Å⁻².
        `error` is NaN for points that cannot reflect.
    """
    along = z + wavenumber
    length = math.sqrt(x * x + y * y + along * along)
    across = (1.0 - along / length) * spread
    weight, sphere_weight = 1.0 / (radius * radius), 1.0 / (across * across)
    width = radius * radius + across * across
    if math.isinf(weight) or weight / sphere_weight <= SMALLEST:
        off = wavenumber - _half_wavenumber(x, y, z)
        return wavenumber, off * off, width
    if sphere_weight / weight <= SMALLEST:
        half = _half_wavenumber(x, y, z)
        return half, (wavenumber - half) ** 2, width
    near = wavenumber / length
    near_x, near_y, near_z = x * near, y * near, along * near - wavenumber
    error = (near_x - x) ** 2 + (near_y - y) ** 2 + (near_z - z) ** 2
    total = weight + sphere_weight
    predicted = _half_wavenumber(
        (x * weight + near_x * sphere_weight) / total,
        (y * weight + near_y * sphere_weight) / total,
        (min(z, 0.0) * weight + near_z * sphere_weight) / total,
    )
    return predicted, error, width


def offset_of_shift(detector: Detector, shift: tuple[float, float]) -> NDArray[np.float64]:
    """A shift of the detector (m) in pixel widths of each panel, (panel, xy)."""
    offset: NDArray[np.float64] = np.array(shift) / detector.pitch[:, None]
    return offset
