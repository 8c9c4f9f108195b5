# SPDX-License-Identifier: GPL-3.0-or-later
"""The peaks of a frame in the two forms that compiled loops want."""

import numpy as np

from gpuidx.geometry.ewald import offset_of_shift, rays, scattering_vectors, shifted_back
from gpuidx.indexing.normal_equations import Spots
from gpuidx.indexing.pairing import Peaks
from gpuidx.model import Frame, PeakList

NO_SHIFT = (0.0, 0.0)


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
    q = scattering_vectors(
        detector.corner, detector.fs, detector.ss, offset, peaks.panel, peaks.fs, peaks.ss, wavenumber
    )
    back = detector.back if shift == NO_SHIFT else shifted_back(detector.back, offset)
    return Peaks(q, peaks.fs, peaks.ss, peaks.panel, back, wavenumber, bandwidth * wavenumber)


def spots_of(frame: Frame, peaks: PeakList, bandwidth: float) -> Spots:
    """Peaks as rays from the sample, for refinement; arguments as of `peaks_of`."""
    detector, panel = frame.detector, peaks.panel
    ray = rays(detector.corner, detector.fs, detector.ss, panel, peaks.fs, peaks.ss)
    pixels = np.mean(detector.pitch) / detector.pitch
    return Spots(ray, peaks.fs, peaks.ss, panel, detector.back, pixels, 1.0 / frame.wavelength, bandwidth)
