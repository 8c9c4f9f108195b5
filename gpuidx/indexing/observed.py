# SPDX-License-Identifier: GPL-3.0-or-later
"""The peaks of a frame in the two forms that compiled loops want."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpuidx.geometry.ewald import offset_of_shift, rays, scattering_vectors, shifted_back
from gpuidx.indexing.normal_equations import Spots
from gpuidx.indexing.pairing import Peaks
from gpuidx.model import Frame, PeakList

NO_SHIFT = (0.0, 0.0)


def plain(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """The array itself, or a copy if it is read-only, strided or of another type.

    For each such kind of array Numba would compile all that it meets anew, in the middle of a run.
    """
    if array.flags.c_contiguous and array.flags.writeable and array.dtype == dtype:
        return array
    return np.array(array, dtype, order="C")


def peaks_of(frame: Frame, peaks: PeakList, bandwidth: float, shift: tuple[float, float] = NO_SHIFT) -> Peaks:
    """Peaks as scattering vectors, for pairing and checks.

    Parameters
    ----------
    frame, peaks
        With the detector and wavelength of this frame.
    bandwidth
        Relative standard deviation of the wavelength.
    shift
        By which the detector is moved, m.
    """
    detector, wavenumber = frame.detector, 1.0 / frame.wavelength
    offset = offset_of_shift(detector, shift)
    fs, ss, panel = plain(peaks.fs, np.float64), plain(peaks.ss, np.float64), plain(peaks.panel, np.int32)
    q = scattering_vectors(detector.corner, detector.fs, detector.ss, offset, panel, fs, ss, wavenumber)
    back = detector.back if shift == NO_SHIFT else shifted_back(detector.back, offset)
    return Peaks(q, fs, ss, panel, back, wavenumber, bandwidth * wavenumber)


def spots_of(frame: Frame, peaks: PeakList, bandwidth: float) -> Spots:
    """Peaks as rays from the sample, for refinement; arguments as of `peaks_of`."""
    detector = frame.detector
    fs, ss, panel = plain(peaks.fs, np.float64), plain(peaks.ss, np.float64), plain(peaks.panel, np.int32)
    ray = rays(detector.corner, detector.fs, detector.ss, panel, fs, ss)
    pixels = np.mean(detector.pitch) / detector.pitch
    return Spots(ray, fs, ss, panel, detector.back, pixels, 1.0 / frame.wavelength, bandwidth)
