# SPDX-License-Identifier: GPL-3.0-or-later
"""Least squares of one lattice: residuals and derivatives of its peaks, added up for one cycle.

A spread of wavelengths moves a spot and its excitation error together; residuals lose weight in that
direction, in the measure of the bandwidth.  Peaks far from their spots count little: the weight is that of
Geman and McClure (1987), Bull. Int. Stat. Inst. 52, 5.  `refinement` has the cycles.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.ewald import excitation_error, shifted_back, spot_on_panel
from gpuidx.indexing.pairing import index_peak, lattice_point
from gpuidx.jit import jit
from gpuidx.smallmath import inv3

INDEX_TOLERANCE = 0.3
FIRST_SCALE = 9.0
"""Squared distance from its spot, in units of sigma, at which a peak's position counts a quarter at first."""
LATER_SCALE = 25.0
"""Squared distance with the excitation error, at which all of a peak counts a quarter later."""
POSITION_CUT = 3.0
"""px; peaks farther from their spots are left out."""
ERROR_CUT = 3.0
"""Times the sigma of excitation errors, likewise."""


class Cycle(NamedTuple):
    """How one cycle weighs peaks.

    Attributes
    ----------
    position_sigma, error_sigma
        Of positions, px, and of excitation errors, Å⁻¹.
    first
        Whether the lattice is still far off: then nothing is left out, and excitation errors count fully.
    """

    position_sigma: float
    error_sigma: float
    first: bool


class Spots(NamedTuple):
    """Peaks as refinement wants them.

    Attributes
    ----------
    ray : (peak, xyz)
        From the sample to the peak, in pixel widths of its panel.
    fs, ss, panel : (peak,)
        px within the panel; its number.
    back : (panel, 3, 3)
        As in `Detector`.
    pixels : (panel,)
        Pixel widths of each panel in one mean pixel width, the unit of shifts.
    wavenumber, bandwidth
        1/wavelength, Å⁻¹; its relative standard deviation.
    """

    ray: NDArray[np.float64]
    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    panel: NDArray[np.int32]
    back: NDArray[np.float64]
    pixels: NDArray[np.float64]
    wavenumber: float
    bandwidth: float


@jit
def scattering_vector(
    ray: NDArray[np.float64], off_x: float, off_y: float, wavenumber: float, q: NDArray[np.float64]
) -> None:
    """Write the scattering vector (Å⁻¹) of a ray, with its panel moved by so many pixel widths."""
    x, y = ray[0] + off_x, ray[1] + off_y
    scale = wavenumber / math.sqrt(x * x + y * y + ray[2] * ray[2])
    q[0], q[1], q[2] = x * scale, y * scale, ray[2] * scale - wavenumber


@jit
def derivatives(
    hkl: NDArray[np.float64],
    recip: NDArray[np.float64],
    slopes: NDArray[np.float64],
    inverse: NDArray[np.float64],
    pixels: float,
    wavenumber: float,
    J: NDArray[np.float64],
) -> None:
    """How the fs, ss (px) and length of the ray (Å⁻¹) of a reflection change with each unknown.

    Parameters
    ----------
    hkl : (3,)
        Its indices.
    recip, slopes
        The lattice, and how it changes with the strains.
    inverse : (3, 3)
        Of its panel, as in `Detector.back`, with the shift.
    pixels
        Pixel widths of the panel in one unit of shift.
    J : (unknown + 1, 3)
        Written: turn about x, y, z (rad), strains, shift in x and y if there is room for it; the last
        row is for the logarithm of the wavenumber.
    """
    x, y, z = lattice_point(recip, hkl)
    along = z + wavenumber
    length = math.sqrt(x * x + y * y + along * along)
    scale, fs, ss = spot_on_panel(inverse, x, y, along)
    last, n_strain = len(J) - 1, len(slopes)
    for unknown in range(last + 1):
        d_x, d_y, d_z, d_length = 0.0, 0.0, 0.0, 0.0
        if unknown == last:
            d_z, d_length = wavenumber, wavenumber
        elif unknown == 0:
            d_y, d_z = -z, y
        elif unknown == 1:
            d_x, d_z = z, -x
        elif unknown == 2:
            d_x, d_y = -y, x
        elif unknown < 3 + n_strain:
            d_x, d_y, d_z = lattice_point(slopes[unknown - 3], hkl)
        else:
            axis = unknown - 3 - n_strain
            J[unknown, 0] = pixels * (fs * inverse[0, axis] - inverse[1, axis])
            J[unknown, 1] = pixels * (ss * inverse[0, axis] - inverse[2, axis])
            J[unknown, 2] = 0.0
            continue
        d_scale = inverse[0, 0] * d_x + inverse[0, 1] * d_y + inverse[0, 2] * d_z
        d_fs = inverse[1, 0] * d_x + inverse[1, 1] * d_y + inverse[1, 2] * d_z
        d_ss = inverse[2, 0] * d_x + inverse[2, 1] * d_y + inverse[2, 2] * d_z
        J[unknown, 0] = (d_fs - fs * d_scale) / scale
        J[unknown, 1] = (d_ss - ss * d_scale) / scale
        J[unknown, 2] = (x * d_x + y * d_y + along * d_z) / length - d_length


@jit
def _ignore_wavelength(J: NDArray[np.float64], rest: NDArray[np.float64], bandwidth: float) -> None:
    """Take from scaled residuals and derivatives what a wrong wavelength explains.

    The direction is the last row of J; along it the standard deviation is 1 and the bandwidth's together.
    """
    last = len(J) - 1
    e_fs, e_ss, e_length = J[last, 0], J[last, 1], J[last, 2]
    square = e_fs * e_fs + e_ss * e_ss + e_length * e_length
    if not square * bandwidth * bandwidth > 1e-12:
        return
    share = (1.0 - 1.0 / math.sqrt(1.0 + bandwidth * bandwidth * square)) / square
    along = share * (rest[0] * e_fs + rest[1] * e_ss + rest[2] * e_length)
    rest[0], rest[1], rest[2] = rest[0] - along * e_fs, rest[1] - along * e_ss, rest[2] - along * e_length
    for unknown in range(last):
        row = J[unknown]
        along = share * (row[0] * e_fs + row[1] * e_ss + row[2] * e_length)
        row[0], row[1], row[2] = row[0] - along * e_fs, row[1] - along * e_ss, row[2] - along * e_length


@jit
def _scale(J: NDArray[np.float64], rest: NDArray[np.float64], position: float, error: float) -> None:
    """Divide derivatives and residuals by their sigmas."""
    for unknown in range(len(J)):
        J[unknown, 0] /= position
        J[unknown, 1] /= position
        J[unknown, 2] /= error
    rest[0], rest[1], rest[2] = rest[0] / position, rest[1] / position, rest[2] / error


@jit
def _add_peak(
    J: NDArray[np.float64],
    rest: NDArray[np.float64],
    position_weight: float,
    error_weight: float,
    M: NDArray[np.float64],
    b: NDArray[np.float64],
) -> None:
    """Add one peak to the lower triangle of the normal equations."""
    for row in range(len(b)):
        in_fs, in_ss, in_length = (
            position_weight * J[row, 0],
            position_weight * J[row, 1],
            error_weight * J[row, 2],
        )
        b[row] -= in_fs * rest[0] + in_ss * rest[1] + in_length * rest[2]
        for column in range(row + 1):
            M[row, column] += in_fs * J[column, 0] + in_ss * J[column, 1] + in_length * J[column, 2]


@jit
def gather(
    spots: Spots,
    recip: NDArray[np.float64],
    slopes: NDArray[np.float64],
    shift: NDArray[np.float64],
    cycle: Cycle,
    M: NDArray[np.float64],
    b: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> tuple[int, float]:
    """Write the normal equations of one cycle, and the sizes of the excitation errors.

    Parameters
    ----------
    spots
        Peaks of the frame.
    recip, slopes : (3, xyz), (strain, 3, xyz)
        The lattice, Å⁻¹, and how it changes with each strain.
    shift : (xy,)
        Of the detector, in mean pixel widths.
    cycle
        Weights.
    M, b : (unknown, unknown), (unknown,)
        Written; of M the lower triangle.
    errors : (peak,)
        Written as far as peaks are used.

    Returns
    -------
    used, squares
        Number of peaks used; sum of their squared distances from the predicted positions, px².
    """
    ray, panel, pixels = spots.ray, spots.panel, spots.pixels
    position_fs, position_ss, wavenumber, bandwidth = spots.fs, spots.ss, spots.wavenumber, spots.bandwidth
    offset = np.outer(pixels, shift)
    back, axes = shifted_back(spots.back, offset), inv3(recip).T
    J, hkl, q, rest = np.empty((len(b) + 1, 3)), np.empty(3), np.empty(3), np.empty(3)
    M[:], b[:] = 0.0, 0.0
    used, squares = 0, 0.0
    for i in range(len(ray)):
        p = panel[i]
        scattering_vector(ray[i], offset[p, 0], offset[p, 1], wavenumber, q)
        off = index_peak(axes, q, hkl)
        if not off <= INDEX_TOLERANCE or (hkl[0] == 0.0 and hkl[1] == 0.0 and hkl[2] == 0.0):
            continue
        x, y, z = lattice_point(recip, hkl)
        _, fs, ss = spot_on_panel(back[p], x, y, z + wavenumber)
        rest[0], rest[1] = fs - position_fs[i], ss - position_ss[i]
        rest[2] = error = -excitation_error(x, y, z, wavenumber)
        derivatives(hkl, recip, slopes, back[p], pixels[p], wavenumber, J)
        _scale(J, rest, cycle.position_sigma, cycle.error_sigma)
        _ignore_wavelength(J, rest, bandwidth)
        distance = rest[0] * rest[0] + rest[1] * rest[1]
        square = distance * cycle.position_sigma * cycle.position_sigma
        if cycle.first:
            _add_peak(J, rest, 1.0 / (1.0 + distance / FIRST_SCALE) ** 2, 1.0, M, b)
        elif square > POSITION_CUT * POSITION_CUT or abs(rest[2]) > ERROR_CUT:
            continue
        else:
            weight = 1.0 / (1.0 + (distance + rest[2] * rest[2]) / LATER_SCALE) ** 2
            _add_peak(J, rest, weight, weight, M, b)
        errors[used] = abs(error)
        squares += square
        used += 1
    return used, squares
