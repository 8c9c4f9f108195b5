# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with lists of peaks, found or supplied: checking, resolution, hits, positions for the stream.

Nothing here looks for peaks: see `gpuidx.backends`.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.discs import Pixels, Radii, measure, pixels_of
from gpuidx.backends.filters import NO_RULES, Filters
from gpuidx.backends.values import float32_rules
from gpuidx.geometry.detector import Detector, Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.jit import jit
from gpuidx.model import Frame, PeakList
from gpuidx.options import Options

OUTLIER_SHARE = 50
"""Of so many peaks, the one at the highest angle is taken for noise when the resolution is told."""


def stream_position(peaks: PeakList, detector: Detector) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions in the data array as CrystFEL prints them: rounded to float32 twice.

    First the position within the panel, then its sum with the panel's least fs or ss.  In double precision
    about 1 position in 3000 would differ in the second decimal.

    Returns
    -------
    fs, ss : (peak,)
        px, 0.0 = corner of the array's first pixel.
    """
    origin = detector.origin[peaks.panel].astype(np.float32)
    return peaks.fs.astype(np.float32) + origin[:, 0], peaks.ss.astype(np.float32) + origin[:, 1]


def one_over_d(peaks: PeakList, frame: Frame) -> NDArray[np.float64]:
    """1/d of each peak, Å⁻¹; (peak,)."""
    q = frame.detector.q(peaks.panel.astype(np.intp), peaks.fs, peaks.ss, frame.wavelength)
    inv_d: NDArray[np.float64] = np.sqrt((q * q).sum(axis=1))
    return inv_d


def peak_resolution(inv_d: NDArray[np.float64]) -> float:
    """1/d up to which there are peaks, Å⁻¹; 0 without peaks.

    The largest, but of 100 peaks and more one in 50 is left out; CrystFEL 0.12, behaviour of
    ``estimate_peak_resolution``.

    Parameters
    ----------
    inv_d : (peak,)
        1/d of each peak, Å⁻¹.
    """
    n = len(inv_d)
    if n == 0:
        return 0.0
    n_cut = n // OUTLIER_SHARE
    return float(np.sort(inv_d)[n - 1 - (n_cut if n_cut >= 2 else 0)])


def is_hit(peaks: PeakList, min_peaks: int) -> bool:
    """Whether a frame has at least ``--min-peaks`` peaks; with 0, the default, every frame is a hit."""
    return len(peaks) >= min_peaks


def validated(
    frame: Frame, geometry: Geometry, options: Options, masks: Masks, filters: Filters | None = None
) -> Frame:
    """The frame with its supplied peaks checked; unchanged if it has none."""
    if frame.peaks is None:
        return frame
    return dataclasses.replace(frame, peaks=validate(frame, frame.peaks, geometry, options, masks, filters))


def validate(
    frame: Frame,
    peaks: PeakList,
    geometry: Geometry,
    options: Options,
    masks: Masks,
    filters: Filters | None = None,
) -> PeakList:
    """Keep the supplied peaks that stand out from their background, with their intensity measured anew.

    A peak is dropped if its disc or background ring leaves the panel or holds a bad pixel, if its intensity
    is 0 or its variance negative, if it is saturated and ``--no-use-saturated``, or below ``--min-snr``
    with ``--check-hdf5-snr``.  Saturated means a pixel of disc or ring above ``max_adu`` or, other than in
    CrystFEL, above the saturation map.  The supplied position is kept.  A frame without pixels keeps no peak.

    Radii are those of ``--peak-radius``, else of ``--int-radius``, cut to whole pixels.  CrystFEL 0.12,
    behaviour of ``validate_peaks``.

    Parameters
    ----------
    frame
        With pixels as `Frame` promises them.
    peaks
        Positions within panels.
    geometry, options, masks, filters
        Of the run.
    """
    if frame.image is None or len(peaks) == 0:
        return peaks.select(np.zeros(0, np.intp))
    image, rules = frame.image, float32_rules(masks.rules)
    if filters is not None:
        image, rules = filters.image(image), NO_RULES
    bad = masks.at(frame.detector, frame.wavelength)
    pixels = pixels_of(image, bad, rules, masks, frame.detector.rect)
    radii = Radii(*(float(int(radius)) for radius in options.peak_radius or options.int_radius))
    min_snr = float(np.float32(options.min_snr)) if options.check_hdf5_snr else -np.inf
    intensity, kept = np.zeros(len(peaks)), np.zeros(len(peaks), np.bool_)
    _measure_all(
        pixels, peaks.fs, peaks.ss, peaks.panel, radii, Demands(min_snr, options.use_saturated),
        geometry.gain(frame.photon_energy), intensity, kept,
    )  # fmt: skip
    return dataclasses.replace(peaks, intensity=intensity).select(kept)


class Demands(NamedTuple):
    """What a supplied peak must be; *min_snr* is -inf where it does not count."""

    min_snr: float
    use_saturated: bool


@jit
def _measure_all(
    pixels: Pixels,
    fs: NDArray[np.float64],
    ss: NDArray[np.float64],
    panel: NDArray[np.int32],
    radii: Radii,
    demands: Demands,
    gain: NDArray[np.float64],
    intensity: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> None:
    """Write the intensity of each peak and whether it is kept; (peak,)."""
    for peak in range(len(fs)):
        number = panel[peak]
        found = measure(pixels, number, int(fs[peak]), int(ss[peak]), radii, gain[number])
        if not found.sure or (found.saturated and not demands.use_saturated):
            continue
        if abs(found.intensity) / np.sqrt(found.variance) < demands.min_snr:
            continue
        intensity[peak], kept[peak] = found.intensity, True
