# SPDX-License-Identifier: GPL-3.0-or-later
"""Background of simulated frames: its mean over the detector, and fast Poisson numbers about it.

The mean is rounded to a few hundred levels, each with its own table, so that a number costs some
nanoseconds; the distribution about the rounded mean is exact.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Detector
from gpuidx.jit import jit
from gpuidx.simulation.structure import mixed

N_LEVEL = 512
GUIDE_BITS = 8
UNIFORM_BITS = 53

WATER_Q = 0.31
"""Position of the first ring of water, Å⁻¹."""

WATER_WIDTH = 0.045
DARK = 1e-6
"""Square root of a mean that is as good as none."""

FALL = 0.35
"""The background has fallen by exp(-½) at this share of the largest q."""


def mean_background(
    detector: Detector,
    shape: tuple[int, int],
    wavelength: float,
    background: tuple[float, ...],
    water_ring: float,
) -> NDArray[np.float32]:
    """Mean photons of each pixel of the slab, radially symmetric about the beam; 0 outside all panels.

    Parameters
    ----------
    detector, shape, wavelength
        Detector, (ss, fs) of the slab, Å.
    background
        At the largest q and at the beam, photons.
    water_ring
        On top of the ring, photons.
    """
    low, high = background
    mean = np.zeros(shape, np.float32)
    largest = detector.max_q / wavelength
    for panel, (x0, y0, width, height) in enumerate(detector.rect):
        fs, ss = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        q = detector.q(np.full(fs.size, panel), fs.ravel(), ss.ravel(), wavelength)
        q_length = np.linalg.norm(q, axis=1).reshape(fs.shape)
        value = low + (high - low) * np.exp(-0.5 * (q_length / (FALL * largest)) ** 2)
        value += water_ring * np.exp(-0.5 * ((q_length - WATER_Q) / WATER_WIDTH) ** 2)
        mean[y0 : y0 + height, x0 : x0 + width] = value
    return mean


class PoissonImage:
    """Draws images of Poisson numbers about a fixed mean.

    Parameters
    ----------
    mean : (ss, fs)
        Photons; kept as the nearest of `N_LEVEL` levels, evenly spaced in its square root.

    Attributes
    ----------
    mean : (ss, fs) float32
        What the numbers are really drawn about.
    """

    def __init__(self, mean: NDArray[np.float32]) -> None:
        root = np.sqrt(mean)
        step = max(float(root.max()), DARK) / (N_LEVEL - 1)
        self._level = np.rint(root / step).astype(np.uint16)
        levels: NDArray[np.float64] = (step * np.arange(N_LEVEL, dtype=np.float64)) ** 2
        self.mean = levels.astype(np.float32)[self._level]
        self._cumulative, self._guide = poisson_tables(levels)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """An image of counts, (ss, fs)."""
        counts = np.empty(self._level.shape, np.int32)
        seed = rng.integers(0, 1 << 64, dtype=np.uint64)
        draw_counts(self._level.reshape(-1), self._cumulative, self._guide, seed, counts.reshape(-1))
        return counts


def poisson_tables(levels: NDArray[np.float64]) -> tuple[NDArray[np.uint64], NDArray[np.uint16]]:
    """Cumulative Poisson distributions of some means, and where to begin in them.

    Returns
    -------
    cumulative : (level, count) uint64
        2⁵³ times the probability of at most so many counts; the last entry of a row is 2⁵³.
    guide : (level, 256) uint16
        Smallest count whose entry lies above the smallest 53-bit number with these first 8 bits.
    """
    greatest = float(levels.max())
    n_count = math.ceil(greatest + 9 * math.sqrt(greatest) + 20)
    counts = np.arange(n_count)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n_count)))])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = counts * np.log(levels)[:, None] - levels[:, None] - log_factorial
    log_p[levels == 0] = np.where(counts == 0, 0.0, -np.inf)
    total = np.minimum(np.cumsum(np.exp(log_p), axis=1), 1.0)
    cumulative = np.rint(total * 2.0**UNIFORM_BITS).astype(np.uint64)
    cumulative[:, -1] = 1 << UNIFORM_BITS
    starts = (np.arange(1 << GUIDE_BITS, dtype=np.uint64)) << np.uint64(UNIFORM_BITS - GUIDE_BITS)
    guide = np.array([np.searchsorted(row, starts, side="right") for row in cumulative], np.uint16)
    return cumulative, guide


@jit
def draw_counts(level: Any, cumulative: Any, guide: Any, seed: Any, counts: Any) -> None:
    """Draw a Poisson number for each pixel by inversion; SplitMix64 gives the uniform numbers.

    Parameters
    ----------
    level : (pixel,) uint16
        Row of the tables for each pixel.
    cumulative, guide
        Of `poisson_tables`.
    seed
        uint64.
    counts : (pixel,) int32
        Filled.
    """
    state = seed
    for pixel in range(len(level)):
        state += np.uint64(0x9E3779B97F4A7C15)
        uniform = mixed(state) >> np.uint64(64 - UNIFORM_BITS)
        row = level[pixel]
        count = guide[row, uniform >> np.uint64(UNIFORM_BITS - GUIDE_BITS)]
        while uniform >= cumulative[row, count]:
            count += np.uint16(1)
        counts[pixel] = count
