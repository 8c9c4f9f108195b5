# SPDX-License-Identifier: GPL-3.0-or-later
"""Spots onto pixels, and photons to detector units."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Detector
from gpuidx.jit import jit
from gpuidx.simulation.crystal import Spots

SPOT_REACH = 4.5
"""Sigmas from its centre to which a spot is drawn; 1e-5 of the photons lie beyond."""


def add_spots(
    photons: NDArray[np.int32],
    spots: Spots,
    detector: Detector,
    sigma: float,
    rng: np.random.Generator,
) -> None:
    """Draw the photons of Gaussian spots and add them to an image; `Spots.counts` is filled.

    A sum of Poisson numbers is one about the sum of the means, so spots may be drawn apart from
    the background.

    Parameters
    ----------
    photons : (ss, fs)
        The slab; changed.
    spots
        Their positions and expected photons.
    detector
        Of this frame.
    sigma
        Of the spots, px.
    rng
        Source of the numbers.
    """
    side = 2 * math.ceil(SPOT_REACH * sigma) + 1
    room = len(spots) * side * side
    pixel, spot = np.empty(room, np.int64), np.empty(room, np.int32)
    mean = np.empty(room)
    n_pixel = spot_pixels(
        spots.fs,
        spots.ss,
        spots.panel,
        spots.photons,
        detector.rect,
        photons.shape[1],
        sigma,
        pixel,
        spot,
        mean,
    )
    counts = rng.poisson(mean[:n_pixel])
    add_counts(photons.reshape(-1), pixel[:n_pixel], spot[:n_pixel], counts, spots.counts)


@jit
def spot_pixels(
    fs: Any,
    ss: Any,
    panel: Any,
    photons: Any,
    rect: Any,
    stride: int,
    sigma: float,
    pixel: Any,
    spot: Any,
    mean: Any,
) -> int:
    """List the pixels of all spots with the photons expected from each.

    Pixels off the spot's panel are left out.

    Parameters
    ----------
    fs, ss, panel, photons : (spot,)
        Of `Spots`.
    rect : (panel, 4)
        Of `Detector`.
    stride
        Pixels in a row of the slab.
    sigma
        px.
    pixel, spot, mean : (entry,)
        Filled: pixel of the slab, number of the spot, photons.

    Returns
    -------
    count
        Entries that were filled.
    """
    half = math.ceil(SPOT_REACH * sigma)
    along_fs = np.empty(2 * half + 1)
    along_ss = np.empty(2 * half + 1)
    count = 0
    for i in range(len(fs)):
        x0, y0, width, height = rect[panel[i]]
        first_fs, first_ss = int(fs[i]) - half, int(ss[i]) - half
        gaussian_shares(fs[i] - first_fs, sigma, along_fs)
        gaussian_shares(ss[i] - first_ss, sigma, along_ss)
        for row in range(max(0, -first_ss), min(2 * half + 1, height - first_ss)):
            for column in range(max(0, -first_fs), min(2 * half + 1, width - first_fs)):
                pixel[count] = (y0 + first_ss + row) * stride + x0 + first_fs + column
                spot[count] = i
                mean[count] = photons[i] * along_ss[row] * along_fs[column]
                count += 1
    return count


@jit
def gaussian_shares(centre: float, sigma: float, shares: Any) -> None:
    """Share of a Gaussian in each pixel of a row; *centre* is measured from the row's beginning, px."""
    scale = 1.0 / (sigma * math.sqrt(2.0))
    before = math.erf(-centre * scale)
    for i in range(len(shares)):
        behind = math.erf((i + 1 - centre) * scale)
        shares[i] = 0.5 * (behind - before)
        before = behind


@jit
def add_counts(photons: Any, pixel: Any, spot: Any, counts: Any, total: Any) -> None:
    """Add counts to pixels of an image and to the totals of the spots."""
    for i in range(len(counts)):
        photons[pixel[i]] += counts[i]
        total[spot[i]] += counts[i]


def digitised(
    photons: NDArray[np.int32],
    gain: NDArray[np.float64],
    rect: NDArray[np.int32],
    read_noise: float,
    dtype: np.dtype[Any],
    rng: np.random.Generator,
) -> NDArray[Any]:
    """Photons to ADU: gain of each panel, Gaussian noise, cut to the range of the pixel type.

    Parameters
    ----------
    photons : (ss, fs)
        The slab.
    gain : (panel,)
        ADU per photon.
    rect : (panel, 4)
        Of `Detector`.
    read_noise
        Sigma, ADU.
    dtype
        Pixel type of the image that is returned.
    rng
        Source of the noise.
    """
    if read_noise == 0 and np.all(gain == 1.0):
        if dtype.kind == "f" or np.iinfo(dtype).max >= np.iinfo(photons.dtype).max:
            return photons.astype(dtype)
        return np.minimum(photons, np.iinfo(dtype).max).astype(dtype)
    adu: NDArray[Any] = photons.astype(np.float64 if dtype.itemsize == 8 else np.float32)
    for (x0, y0, width, height), factor in zip(rect, gain, strict=True):
        adu[y0 : y0 + height, x0 : x0 + width] *= factor
    if read_noise > 0:
        adu += np.float32(read_noise) * rng.standard_normal(adu.shape, np.float32)
    return cut(adu, dtype)


def cut(adu: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values as a pixel type: rounded and cut to its range if it is of whole numbers."""
    if dtype.kind == "f":
        return np.asarray(adu).astype(dtype)
    limits = np.iinfo(dtype)
    # The greatest float32 below 2³² or 2³¹ is less than the limit itself, which would round up and wrap.
    most = np.nextafter(np.float32(limits.max), np.float32(0)) if dtype.itemsize == 4 else limits.max
    values: NDArray[Any] = np.clip(np.rint(adu), limits.min, most).astype(dtype)
    return values
