# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad regions and resolution limits drawn into arrays of pixels, panel by panel.

A pixel is tested at its corner (whole fs, ss), as in CrystFEL 0.12.  What is bad for other reasons is in
`gpuidx.geometry.masks`.
"""

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.description import BadRegion
from gpuidx.geometry.detector import Detector

BLOCK = 65536
"""Pixels that are worked on at a time, so that intermediate results stay in the cache."""

_MARGIN = 2
"""Pixels around a computed outline that are tested as well, against rounding."""


def draw_region(bad: NDArray[np.bool_], region: BadRegion, detector: Detector, panel: int) -> None:
    """Mark the pixels of a panel that lie strictly within an x/y region; NaN limits hold nothing.

    Parameters
    ----------
    bad : (ss, fs)
        The part of the mask that is the panel's; written.
    region
        One with lab limits, px of the panel.
    detector, panel
        Where the panel is; detector shift included.
    """
    low = np.array((region.min_x, region.min_y))
    high = np.array((region.max_x, region.max_y))
    first_ss, last_ss, first_fs, last_fs = _outline(low, high, detector, panel)
    if first_ss > last_ss or first_fs > last_fs:
        return
    fs = np.arange(first_fs, last_fs + 1, dtype=float)
    rows = max(1, BLOCK // len(fs))
    for start in range(first_ss, last_ss + 1, rows):
        ss = np.arange(start, min(start + rows, last_ss + 1), dtype=float)
        inside = np.ones((len(ss), len(fs)), bool)
        for axis in (0, 1):
            # The order of the sum is CrystFEL's; it decides for pixels on the very edge.
            lab = fs * detector.fs[panel, axis] + (ss * detector.ss[panel, axis])[:, None]
            lab += detector.corner[panel, axis]
            inside &= (lab > low[axis]) & (lab < high[axis])
        bad[start : start + len(ss), first_fs : last_fs + 1] |= inside


def _outline(
    low: NDArray[np.float64], high: NDArray[np.float64], detector: Detector, panel: int
) -> tuple[int, int, int, int]:
    """First and last ss and fs, px, beyond which no pixel can lie within the limits."""
    width, height = (int(n) for n in detector.rect[panel, 2:])
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
    steps = np.stack([detector.fs[panel, :2], detector.ss[panel, :2]])
    lab = corners @ steps + detector.corner[panel, :2]
    low = np.maximum(low, lab.min(axis=0) - 1)
    high = np.minimum(high, lab.max(axis=0) + 1)
    if not np.all(low < high):  # also for NaN
        return 0, -1, 0, -1
    if abs(np.linalg.det(steps)) < 1e-3:  # the panel is seen edge-on
        return 0, height - 1, 0, width - 1
    limits = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])])
    pixels = (limits - detector.corner[panel, :2]) @ np.linalg.inv(steps)
    first_fs, first_ss = np.floor(pixels.min(axis=0)).astype(int) - _MARGIN
    last_fs, last_ss = np.ceil(pixels.max(axis=0)).astype(int) + _MARGIN
    return max(0, first_ss), min(height - 1, last_ss), max(0, first_fs), min(width - 1, last_fs)


def draw_beyond(bad: NDArray[np.bool_], detector: Detector, panel: int, limit: float) -> None:
    """Mark the pixels of a panel with ``|q| >= limit``.

    With 2θ the angle to the beam, |q| λ = 2 sin θ, so (|q| λ)² = 2 (1 − cos 2θ) and no q is needed.

    Parameters
    ----------
    bad : (ss, fs)
        The part of the mask that is the panel's; written.
    limit
        |q| for a wavelength of 1 Å, that is wavelength divided by resolution; 1.
    """
    least_cosine = 1 - limit * limit / 2
    if least_cosine < -1:
        return
    height, width = bad.shape
    corner, along_fs, along_ss = detector.corner[panel], detector.fs[panel], detector.ss[panel]
    rows = max(1, BLOCK // width)
    fs_part = corner[:, None] + np.arange(width) * along_fs[:, None]
    for start in range(0, height, rows):
        ss = np.arange(start, min(start + rows, height), dtype=float)[:, None]
        distance = np.zeros((len(ss), width))
        for axis in (0, 1, 2):
            lab = fs_part[axis] + ss * along_ss[axis]
            distance += lab * lab
        np.sqrt(distance, out=distance)
        distance *= least_cosine
        bad[start : start + len(ss)] |= lab <= distance


def draw_edges(bad: NDArray[np.bool_], width: int) -> None:
    """Mark a border of *width* pixels of a panel; all of it if the border is wide enough."""
    if width > 0:
        bad[:width] = bad[-width:] = True
        bad[:, :width] = bad[:, -width:] = True
