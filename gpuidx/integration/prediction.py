# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the reflections of a lattice are to be seen.  CrystFEL 0.12, behaviour of its prediction.

No pixel values here; `rings` measures them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.ewald import reflect, spot_on_panel
from gpuidx.jit import jit

HIGHEST_INDEX = 511
WEAKEST = math.exp(-0.5 * 1.7**2)
"""Least overlap of profile and Ewald sphere: 1.7 standard deviations off for one wavelength."""

FAR = 1e10
"""Å⁻¹; stands for no limit of resolution."""

P, A, B, C, I, F, R, H = (ord(letter) for letter in "PABCIFRH")  # noqa: E741


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Predicted spots of one crystal, sorted by h, k, l.

    Attributes
    ----------
    hkl : (reflection, 3) int32
    fs, ss : (reflection,) float64
        Position within the panel, px.
    panel : (reflection,) int32
    """

    hkl: NDArray[np.int32]
    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    panel: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.hkl)


@jit
def is_absent(h: int, k: int, l: int, centering: int) -> bool:  # noqa: E741
    """Whether a centring (ordinal of its letter) makes a reflection systematically absent.

    International Tables for Crystallography A, table 1.6.4.1; H is the obverse rhombohedral setting.
    """
    if centering == I:
        return (h + k + l) % 2 != 0
    if centering == F:
        return (h + k) % 2 != 0 or (h + l) % 2 != 0
    if centering == A:
        return (k + l) % 2 != 0
    if centering == B:
        return (h + l) % 2 != 0
    if centering == C:
        return (h + k) % 2 != 0
    if centering == H:
        return (k + l - h) % 3 != 0
    return False


@jit
def highest_indices(recip: NDArray[np.float64], highest_q: float) -> tuple[int, int, int]:
    """Greatest h, k, l of lattice points no farther than *highest_q* (Å⁻¹) from the origin."""
    limit = np.empty(3, np.int64)
    a, b, c = recip[0], recip[1], recip[2]
    bc_x, bc_y, bc_z = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
    volume = abs(a[0] * bc_x + a[1] * bc_y + a[2] * bc_z)
    for axis in range(3):
        u, v = recip[(axis + 1) % 3], recip[(axis + 2) % 3]
        x, y, z = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
        length = math.sqrt(x * x + y * y + z * z) / volume
        limit[axis] = int(min(highest_q * length, float(HIGHEST_INDEX)))
    return limit[0], limit[1], limit[2]


class Beam(NamedTuple):
    """What decides whether a lattice point reflects.  All in Å⁻¹ but `gain`.

    Attributes
    ----------
    wavenumber, spread
        1/wavelength and its standard deviation.
    radius
        Profile radius.
    gain
        Factor on the overlap, so that a broad spectrum does not weaken all spots.
    reach
        How far from the Ewald sphere a predicted lattice point can be; never too small.
    limit_q
        Largest |q| wanted.
    """

    wavenumber: float
    spread: float
    radius: float
    gain: float
    reach: float
    limit_q: float


@jit
def _describe_beam(wavenumber: float, bandwidth: float, radius: float, limit_q: float) -> Beam:
    spread = bandwidth * wavenumber
    gain = math.sqrt((radius * radius + spread * spread) / (radius * radius))
    if spread == 0.0:
        # the error is then counted in wavenumbers, and |z| <= 2 k turns it into at most twice the distance
        reach = 2.0 * 1.7 * radius * 1.001 + 1e-9
    else:
        widest = math.sqrt(radius * radius + 4.0 * spread * spread)
        reach = widest * math.sqrt(2.0 * math.log(gain / WEAKEST)) * 1.0001 + 1e-9
    return Beam(wavenumber, spread, radius, gain, reach, limit_q)


@jit
def _column(x: float, y: float, z: float, c: NDArray[np.float64], beam: Beam) -> tuple[int, int, int, int]:
    """Range of l for which (x, y, z) + l c is near the Ewald sphere: first, last, and a gap within.

    Work then goes with the sphere's area, not with the volume.  The range is empty if last < first.
    The squared distance from any point is ``square l² + 2 along l + rest``.
    """
    wavenumber, reach, limit_q = beam.wavenumber, beam.reach, beam.limit_q
    square = c[0] * c[0] + c[1] * c[1] + c[2] * c[2]
    along_q = x * c[0] + y * c[1] + z * c[2]
    along = along_q + wavenumber * c[2]
    rest = x * x + y * y + (z + wavenumber) ** 2
    root = along * along - square * (rest - (wavenumber + reach) ** 2)
    if root < 0.0:
        return 1, 0, 0, 0
    root = math.sqrt(root)
    first, last = math.ceil((-along - root) / square), math.floor((-along + root) / square)
    if limit_q < FAR:
        root = along_q * along_q - square * (x * x + y * y + z * z - limit_q * limit_q)
        if root < 0.0:
            return 1, 0, 0, 0
        root = math.sqrt(root)
        first = max(first, math.floor((-along_q - root) / square))
        last = min(last, math.ceil((-along_q + root) / square))
    root = along * along - square * (rest - (wavenumber - reach) ** 2)
    if root < 0.0:
        return first, last, last + 1, last
    root = math.sqrt(root)
    return first, last, math.ceil((-along - root) / square), math.floor((-along + root) / square)


@jit
def _wavenumber_of_spot(x: float, y: float, z: float, beam: Beam) -> float:
    """Wavenumber with which a lattice point is seen, Å⁻¹; −1 if it is too far off or too weak."""
    if math.sqrt(x * x + y * y + z * z) > beam.limit_q:
        return -1.0
    predicted, error, width = reflect(x, y, z, beam.wavenumber, beam.radius, beam.spread)
    overlap = math.exp(-0.5 * error / width) * beam.radius / math.sqrt(width) * beam.gain
    return predicted if overlap >= WEAKEST else -1.0


@jit
def _find_panel(
    back: NDArray[np.float64], rect: NDArray[np.int32], x: float, y: float, z: float
) -> tuple[int, float, float]:
    """First panel that a ray meets, and where; -1 if there is none."""
    for panel in range(len(back)):
        scale, fs, ss = spot_on_panel(back[panel], x, y, z)
        if scale > 0.0 and 0.0 <= fs < rect[panel, 2] and 0.0 <= ss < rect[panel, 3]:
            return panel, fs, ss
    return -1, 0.0, 0.0


@jit
def predict(
    recip: NDArray[np.float64],
    centering: int,
    wavenumber: float,
    radius: float,
    bandwidth: float,
    detector_q: float,
    limit_q: float,
    back: NDArray[np.float64],
    rect: NDArray[np.int32],
    hkl: NDArray[np.int32],
    position: NDArray[np.float64],
    on_panel: NDArray[np.int32],
) -> int:
    """Spots of one lattice, in the order h, k, l.

    Parameters
    ----------
    recip : (abc*, xyz)
        Å⁻¹.
    centering
        Ordinal of the centring's letter.
    wavenumber, bandwidth
        1/wavelength, Å⁻¹; its relative standard deviation.
    radius
        Profile radius, Å⁻¹.
    detector_q, limit_q
        Largest |q| on the detector; largest |q| wanted, at most `FAR`.  Å⁻¹.
    back, rect
        As in `Detector`.
    hkl, position, on_panel : (capacity, 3), (capacity, 2), (capacity,)
        Written: indices, position fs and ss within the panel, panel.

    Returns
    -------
    found
        Number of spots; more than the capacity if some did not fit.
    """
    beam = _describe_beam(wavenumber, bandwidth, radius, limit_q)
    h_limit, k_limit, l_limit = highest_indices(recip, min(detector_q, limit_q))
    found = 0
    for h in range(-h_limit, h_limit + 1):
        for k in range(-k_limit, k_limit + 1):
            x0 = h * recip[0, 0] + k * recip[1, 0]
            y0 = h * recip[0, 1] + k * recip[1, 1]
            z0 = h * recip[0, 2] + k * recip[1, 2]
            first, last, gap_first, gap_last = _column(x0, y0, z0, recip[2], beam)
            l = max(first, -l_limit) - 1  # noqa: E741
            while l < min(last, l_limit):
                l += 1  # noqa: E741
                if gap_first <= l <= gap_last:
                    l = gap_last  # noqa: E741
                    continue
                if (h == 0 and k == 0 and l == 0) or is_absent(h, k, l, centering):
                    continue
                x, y, z = x0 + l * recip[2, 0], y0 + l * recip[2, 1], z0 + l * recip[2, 2]
                predicted = _wavenumber_of_spot(x, y, z, beam)
                if predicted < 0.0:
                    continue
                panel, fs, ss = _find_panel(back, rect, x, y, predicted + z)
                if panel < 0:
                    continue
                if found < len(hkl):
                    hkl[found, 0], hkl[found, 1], hkl[found, 2] = h, k, l
                    position[found, 0], position[found, 1] = fs, ss
                    on_panel[found] = panel
                found += 1
    return found
