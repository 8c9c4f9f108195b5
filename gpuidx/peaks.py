# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with lists of peaks, found or supplied: checking, resolution, hits, positions for the stream.

Nothing here looks for peaks: see `gpuidx.backends`.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.values import Rules, float32_rules, value_of
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


def validated(frame: Frame, geometry: Geometry, options: Options, masks: Masks) -> Frame:
    """The frame with its supplied peaks checked; unchanged if it has none."""
    if frame.peaks is None:
        return frame
    return dataclasses.replace(frame, peaks=validate(frame, frame.peaks, geometry, options, masks))


def validate(frame: Frame, peaks: PeakList, geometry: Geometry, options: Options, masks: Masks) -> PeakList:
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
    geometry, options, masks
        Of the run.
    """
    if frame.image is None or len(peaks) == 0:
        return peaks.select(np.zeros(0, np.intp))
    no_map = np.empty(0, np.float32)
    pixels = Pixels(
        frame.image.reshape(-1),
        masks.at(frame.detector, frame.wavelength).reshape(-1),
        float32_rules(masks.rules),
        masks.saturation,
        no_map if masks.saturation_map is None else masks.saturation_map.reshape(-1),
        frame.detector.rect,
        frame.image.shape[1],
    )
    peak, inner, outer = (int(radius) for radius in options.peak_radius or options.int_radius)
    min_snr = float(np.float32(options.min_snr)) if options.check_hdf5_snr else -np.inf
    demands = Demands(peak, inner, outer, min_snr, options.use_saturated)
    intensity, kept = np.zeros(len(peaks)), np.zeros(len(peaks), np.bool_)
    gain = geometry.gain(frame.photon_energy)
    _measure_all(pixels, peaks.fs, peaks.ss, peaks.panel, demands, gain, intensity, kept)
    return dataclasses.replace(peaks, intensity=intensity).select(kept)


class Pixels(NamedTuple):
    """A slab and what is known of its pixels, all flat; see `Frame`, `Masks` and `Detector.rect`.

    The saturation map may be empty.
    """

    image: NDArray[Any]
    bad: NDArray[np.bool_]
    rules: Rules
    saturation: NDArray[np.float64]
    saturation_map: NDArray[np.float32]
    rect: NDArray[np.int32]
    width: int


class Demands(NamedTuple):
    """Radii of the peak, and of the inner and outer edge of its background, whole px; what a peak must be."""

    peak: int
    inner: int
    outer: int
    min_snr: float
    use_saturated: bool


class Sums(NamedTuple):
    """Over some pixels: whether all can be used, number, sums of values and of squares, any saturated."""

    usable: bool
    n: int
    total: float
    total_sq: float
    saturated: bool


@jit
def _measure_all(
    pixels: Pixels,
    fs: NDArray[np.float64],
    ss: NDArray[np.float64],
    panel: NDArray[np.int32],
    demands: Demands,
    gain: NDArray[np.float64],
    intensity: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> None:
    """Write the intensity of each peak and whether it is kept; (peak,)."""
    for peak in range(len(fs)):
        number, pixel_fs, pixel_ss = panel[peak], int(fs[peak]), int(ss[peak])
        ring = _sum_disc(pixels, number, pixel_fs, pixel_ss, demands.inner, demands.outer, 0.0)
        if not ring.usable or ring.n == 0:
            continue
        background = ring.total / ring.n
        variance = ring.total_sq / ring.n - background * background
        disc = _sum_disc(pixels, number, pixel_fs, pixel_ss, 0, demands.peak, background)
        total_variance = disc.n * variance + gain[number] * disc.total
        if not disc.usable or disc.total == 0 or total_variance < 0:
            continue
        if (ring.saturated or disc.saturated) and not demands.use_saturated:
            continue
        if abs(disc.total) / np.sqrt(total_variance) < demands.min_snr:
            continue
        intensity[peak], kept[peak] = disc.total, True


@jit
def _sum_disc(pixels: Pixels, panel: int, fs: int, ss: int, inner: int, outer: int, offset: float) -> Sums:
    """Sums over the pixels between two radii; *offset* is taken off each value, but not in the squares."""
    rect = pixels.rect
    x0, y0, n_fs, n_ss = rect[panel, 0], rect[panel, 1], rect[panel, 2], rect[panel, 3]
    n, total, total_sq, saturated = 0, 0.0, 0.0, False
    for near_ss in range(ss - outer, ss + outer + 1):
        for near_fs in range(fs - outer, fs + outer + 1):
            distance_sq = (near_fs - fs) ** 2 + (near_ss - ss) ** 2
            if distance_sq < inner * inner or distance_sq > outer * outer:
                continue
            if near_fs < 0 or near_ss < 0 or near_fs >= n_fs or near_ss >= n_ss:
                return Sums(False, n, total, total_sq, saturated)
            pixel = (y0 + near_ss) * pixels.width + x0 + near_fs
            value = np.float64(value_of(pixels.image, pixel, pixels.rules))
            if pixels.bad[pixel] or np.isnan(value):
                return Sums(False, n, total, total_sq, saturated)
            saturated |= value > pixels.saturation[panel]
            if len(pixels.saturation_map):
                saturated |= value > pixels.saturation_map[pixel]
            n += 1
            total += value - offset
            total_sq += value * value
    return Sums(True, n, total, total_sq, saturated)
