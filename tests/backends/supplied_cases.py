# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of `peakfinder8_cases` with peaks supplied, good and bad ones."""

import dataclasses

import numpy as np
from backends.peakfinder8_cases import Case, Numbers, small_case

from gpuidx.model import PeakList
from gpuidx.options import Options

RADII = ((3.0, 4.0, 5.0), (4.0, 5.0, 7.0), (2.0, 3.0, 6.0), (2.9, 2.9, 4.5))


@dataclasses.dataclass
class SuppliedCase:
    case: Case
    options: Options
    sent: np.ndarray
    """fs, ss in the data array without the half pixel, intensity; (peak, 3)."""
    peaks: PeakList


def supplied_case(number: int) -> SuppliedCase:
    """Bright pixels, and positions anywhere, in eighths of a pixel (exact in float32)."""
    case = small_case(number)
    numbers = Numbers(5000 + number)
    rows = []
    for index, panel in enumerate(case.geometry.panels):
        part = case.image[panel.slab_y :, panel.slab_x :][: panel.height, : panel.width]
        bright = np.argsort(-np.nan_to_num(part.astype(float)), axis=None, kind="stable")[:40]
        for k in range(40):
            if k % 2:
                fs, ss = numbers.between(0, 8 * panel.width - 1), numbers.between(0, 8 * panel.height - 1)
            else:
                fs = 8 * int(bright[k] % panel.width) + numbers.between(0, 7)
                ss = 8 * int(bright[k] // panel.width) + numbers.between(0, 7)
            rows.append((index, fs / 8, ss / 8, float(numbers.between(1, 999))))
    panel_of, fs, ss, intensity = (np.array(column) for column in zip(*rows, strict=True))
    origin = case.frame.detector.origin[panel_of]
    radii = numbers.one_of(RADII)
    options = Options(
        geometry="case.geom", output="case.stream", input="case.lst", indexing="none", peaks="peakfinder8",
        peak_radius=radii if numbers.chance(70) else None,
        int_radius=numbers.one_of(RADII[:3]),
        min_snr=numbers.one_of((1.0, 3.0, 4.7)),
        check_hdf5_snr=numbers.chance(50),
        use_saturated=numbers.chance(50),
    )  # fmt: skip
    peaks = PeakList(fs=fs, ss=ss, panel=panel_of.astype(np.int32), intensity=intensity)
    sent = np.column_stack([fs + origin[:, 0] - 0.5, ss + origin[:, 1] - 0.5, intensity])
    return SuppliedCase(case, options, sent, peaks)
