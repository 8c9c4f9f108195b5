# SPDX-License-Identifier: GPL-3.0-or-later
"""peakfinder8 step by step in NumPy and plain Python, float32: slow, to be compared with."""

import numpy as np

from gpuidx.geometry.detector import Detector
from gpuidx.geometry.masks import ValueRules
from gpuidx.options import PeakOptions

F = np.float32


def usable_pixels(image: np.ndarray, bad: np.ndarray, rules: ValueRules) -> np.ndarray:
    value = image.astype(F)
    by_value = (value < F(rules.lessthan)) | (value > F(rules.morethan)) | (np.rint(value) == F(rules.equal))
    return ~(bad | by_value) & np.isfinite(value)


def panel_radii(detector: Detector, panel: int) -> np.ndarray:
    n_fs, n_ss = detector.rect[panel, 2:]
    ss, fs = np.mgrid[:n_ss, :n_fs]
    corner, along_fs, along_ss = detector.corner[panel], detector.fs[panel], detector.ss[panel]
    x = (corner[0] + fs * along_fs[0] + ss * along_ss[0]).astype(int)
    y = (corner[1] + fs * along_fs[1] + ss * along_ss[1]).astype(int)
    return np.sqrt((x * x + y * y).astype(float)).astype(F)


def ring_statistics(
    value: np.ndarray, ring: np.ndarray, n_ring: int, options: PeakOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and upper limit of each ring; values and rings in CrystFEL's order, only usable pixels."""
    upper, lower = np.full(n_ring, 1e9, F), np.full(n_ring, -1e9, F)
    snr = F(options.min_snr)
    for _ in range(5):
        inside = (value < upper[ring]) & (value > lower[ring])
        total, total_sq, n = np.zeros(n_ring, F), np.zeros(n_ring, F), np.zeros(n_ring, np.int32)
        np.add.at(total, ring[inside], value[inside])  # adds one after the other
        np.add.at(total_sq, ring[inside], value[inside] * value[inside])
        np.add.at(n, ring[inside], 1)
        with np.errstate(all="ignore"):
            mean = total / n.astype(F)
            sigma = total_sq / n.astype(F) - mean * mean
            sigma = np.where(sigma >= 0, np.sqrt(sigma), sigma)
            upper = np.maximum(mean + snr * sigma, F(options.threshold))
            lower = mean - snr * sigma
        empty = n == 0
        mean[empty], upper[empty], lower[empty] = 0, np.finfo(F).max, np.finfo(F).tiny
    return mean, upper


def peaks_of_panel(
    value: np.ndarray, usable: np.ndarray, mean: np.ndarray, upper: np.ndarray, options: PeakOptions
) -> list[tuple[np.float32, np.float32, np.float32, np.float32]]:
    """fs, ss, intensity, highest of each peak; *mean* and *upper* are those of each pixel's ring."""
    height, width = value.shape
    bright, taken, peaks = usable & (value > upper), np.zeros(value.shape, bool), []
    for ss0, fs0 in np.argwhere(bright[1:-1, 1:-1]) + 1:
        if taken[ss0, fs0]:
            continue
        members, taken[ss0, fs0] = [(ss0, fs0)], True
        for ss, fs in members:  # grows as it is read
            for near_ss in range(max(ss - 1, 0), min(ss + 2, height)):
                for near_fs in range(max(fs - 1, 0), min(fs + 2, width)):
                    if bright[near_ss, near_fs] and not taken[near_ss, near_fs]:
                        taken[near_ss, near_fs] = True
                        members.append((near_ss, near_fs))
        if options.min_pix_count <= len(members) <= options.max_pix_count:
            peaks += _peak(value, usable, taken, mean, upper, members, options)
    return peaks


def _peak(value, usable, taken, mean, upper, members, options):
    """The peak of some pixels as a list of one, or of none."""
    height, width = value.shape
    total = sum_fs = sum_ss = F(0)
    for at in members:
        weight = abs(value[at] - mean[at])
        total, sum_fs, sum_ss = total + weight, sum_fs + weight * F(at[1]), sum_ss + weight * F(at[0])
    if total < 1e-10:
        return []
    fs, ss = int(np.rint(sum_fs / total)), int(np.rint(sum_ss / total))
    reach, n = 2 * options.local_bg_radius, 0
    background = background_sq = brightest = F(0)
    for near_ss in range(max(ss - reach, 0), min(ss + reach, height)):
        for near_fs in range(max(fs - reach, 0), min(fs + reach, width)):
            at = near_ss, near_fs
            in_disc = (near_ss - ss) ** 2 + (near_fs - fs) ** 2 <= reach**2
            if in_disc and usable[at] and not taken[at] and value[at] < upper[at]:
                background, background_sq = background + value[at], background_sq + value[at] * value[at]
                brightest, n = max(brightest, value[at]), n + 1
    offset, sigma = mean[ss, fs], F(0.01)
    if n:
        offset = background / F(n)
        variance = background_sq / F(n) - offset * offset
        sigma = np.sqrt(variance) if variance >= 0 else F(0.01)
    intensity = raw = sum_fs = sum_ss = highest = F(0)
    for at in members:
        intensity, raw = intensity + (value[at] - offset), raw + value[at]
        sum_fs, sum_ss = sum_fs + value[at] * F(at[1]), sum_ss + value[at] * F(at[0])
        highest = max(highest, value[at] - offset)
    if abs(raw) < 1e-10:
        return []
    fs, ss = sum_fs / abs(raw), sum_ss / abs(raw)
    snr = intensity / sigma if sigma > 1e-10 else F(0)
    if snr < F(options.min_snr) or highest < brightest - offset:
        return []
    if not (0 <= fs <= width - 1 and 0 <= ss <= height - 1):
        return []
    return [(fs, ss, intensity, highest)]


def search(image: np.ndarray, detector: Detector, bad: np.ndarray, rules: ValueRules, options: PeakOptions):
    """Mean and upper limit of each ring, and (panel, fs, ss, intensity, highest) of each peak."""
    usable = usable_pixels(image, bad, rules)
    value = np.where(usable, image, 0).astype(F)
    parts = []
    for panel, (x0, y0, n_fs, n_ss) in enumerate(detector.rect):
        box = slice(y0, y0 + n_ss), slice(x0, x0 + n_fs)
        radius = panel_radii(detector, panel)
        within = (radius > options.min_res) & ((options.max_res == 0) | (radius < options.max_res))
        parts.append((value[box], usable[box] & within, np.rint(radius).astype(int), radius.max()))
    n_ring = int(np.ceil(max(part[3] for part in parts))) + 1
    values = np.concatenate([value[good] for value, good, _, _ in parts])
    rings = np.concatenate([ring[good] for _, good, ring, _ in parts])
    mean, upper = ring_statistics(values, rings, n_ring, options)
    peaks = []
    for panel, (value, good, ring, _) in enumerate(parts):
        found = peaks_of_panel(value, good, mean[ring], upper[ring], options)
        peaks += [(panel, *peak) for peak in found]
    return mean, upper, peaks
