# SPDX-License-Identifier: GPL-3.0-or-later
"""Which reflections of a crystal a still exposure excites, where they hit the detector, and how strongly.

Written apart from the prediction in `gpuidx.integration`, so that each can be checked by the other.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, real_axes
from gpuidx.errors import CellFileError
from gpuidx.geometry.detector import Detector
from gpuidx.jit import jit
from gpuidx.lattice import PRIMITIVE
from gpuidx.simulation.settings import CrystalSettings
from gpuidx.simulation.structure import operators_of, structure_factors

GAUSSIAN_CUT = 3.0
"""Profile radii beyond which a Gaussian reciprocal-lattice point gives nothing."""

SPOT_LIMIT = 50000
"""Reflections of one crystal in one frame; more are an error in the settings."""


@dataclass(frozen=True, eq=False)
class Spots:
    """Reflections of one crystal on one frame, in order of h, k, l.

    Attributes
    ----------
    hkl : (spot, 3) int32
    panel : (spot,) int32
    fs, ss : (spot,) float64
        Within the panel, px, 0.0 = corner of the first pixel.
    photons : (spot,) float64
        Expected number, on and off the panel.
    partiality : (spot,) float64
        Share of the whole reflection.
    counts : (spot,) int64
        Photons that were drawn, on the panel.
    """

    hkl: NDArray[np.int32]
    panel: NDArray[np.int32]
    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    photons: NDArray[np.float64]
    partiality: NDArray[np.float64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.panel)


@jit
def excited(
    recip: Any, limits: Any, primitive: Any, wavenumber: float, greatest_q: float, reach: float, found: Any
) -> int:
    """List lattice points near the Ewald sphere.

    Parameters
    ----------
    recip : (abc*, xyz)
        Å⁻¹.
    limits : (3,)
        Largest |h|, |k|, |l|.
    primitive : (3, 3)
        Indices on a primitive cell = this matrix times hkl; whole for reflections that the centring allows.
    wavenumber, greatest_q, reach
        1/wavelength, largest |q|, largest distance from the sphere, Å⁻¹.
    found : (spot, 7) float64
        Filled with h, k, l, q, excitation error.

    Returns
    -------
    count
        Number found; only as many as *found* has room for are listed.
    """
    count = 0
    inner, outer = (wavenumber - reach) ** 2, (wavenumber + reach) ** 2
    for h in range(-limits[0], limits[0] + 1):
        for k in range(-limits[1], limits[1] + 1):
            x = h * recip[0, 0] + k * recip[1, 0]
            y = h * recip[0, 1] + k * recip[1, 1]
            z = h * recip[0, 2] + k * recip[1, 2]
            for ell in range(-limits[2], limits[2] + 1):
                qx, qy = x + ell * recip[2, 0], y + ell * recip[2, 1]
                qz = z + ell * recip[2, 2]
                along = qz + wavenumber
                length2 = qx * qx + qy * qy + along * along
                if length2 < inner or length2 > outer or along <= 0.0:
                    continue
                if qx * qx + qy * qy + qz * qz > greatest_q * greatest_q or (h == 0 and k == 0 and ell == 0):
                    continue
                if not allowed(h, k, ell, primitive):
                    continue
                if count < len(found):
                    row = found[count]
                    row[0], row[1], row[2] = h, k, ell
                    row[3], row[4], row[5] = qx, qy, qz
                    row[6] = wavenumber - math.sqrt(length2)
                count += 1
    return count


@jit
def allowed(h: int, k: int, ell: int, primitive: Any) -> bool:
    """Whether the centring allows a reflection: its indices on the primitive cell are whole numbers."""
    for row in range(3):
        index = primitive[row, 0] * h + primitive[row, 1] * k + primitive[row, 2] * ell
        if abs(index - np.rint(index)) > 0.01:
            return False
    return True


class Crystals:
    """Everything about a crystal form that no frame changes.

    Parameters
    ----------
    cell
        With parameters.
    settings
        Of the crystals.

    Raises
    ------
    CellFileError
        If the cell has no parameters.
    """

    def __init__(self, cell: UnitCell, settings: CrystalSettings) -> None:
        if cell.parameters is None:
            raise CellFileError("unit cell", None, "simulated crystals need cell parameters")
        self._settings = settings
        self._axes = real_axes(cell.parameters)
        self._primitive = np.ascontiguousarray(PRIMITIVE[cell.centering], np.float64)
        self._operators = operators_of(self._axes, settings.symmetry)
        self._seed = np.uint64(settings.structure_seed)

    def random(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Reciprocal axes (abc*, xyz), Å⁻¹, of a crystal in a random orientation."""
        recip = np.asarray(np.linalg.inv(self._axes @ random_rotation(rng).T).T, np.float64)
        spread = self._settings.cell_spread
        return recip / (1.0 + spread * rng.standard_normal()) if spread else recip

    def intensities(self, hkl: NDArray[np.int32]) -> NDArray[np.float64]:
        """Mean photons of whole reflections of a crystal of scale 1; (spot,).

        Parameters
        ----------
        hkl : (spot, 3)
        """
        q = hkl @ np.linalg.inv(self._axes).T
        fall = np.exp(-0.5 * self._settings.b_factor * (q**2).sum(axis=1))
        factors = structure_factors(hkl, self._operators, self._seed)
        return np.asarray(self._settings.photons * factors * fall, np.float64)

    def spots(
        self,
        recip: NDArray[np.float64],
        detector: Detector,
        wavelength: float,
        bandwidth: float,
        scale: float,
    ) -> Spots:
        """Reflections that are excited and fall on a panel.

        The spectrum is Gaussian.  A point at a distance e from the mean Ewald sphere is seen with the
        wavenumber at which point and spectrum together are strongest, to first order in the bandwidth.

        Parameters
        ----------
        recip : (abc*, xyz)
            Å⁻¹.
        detector
            Of this frame.
        wavelength
            Å.
        bandwidth
            δE/E, sigma.
        scale
            Of this crystal.
        """
        s = self._settings
        greatest = detector.max_q / wavelength
        if s.resolution > 0:
            greatest = min(greatest, 1.0 / s.resolution)
        found = self._excited(recip, 1.0 / wavelength, greatest, bandwidth)
        q, error = found[:, 3:6], found[:, 6]
        ray = q + np.array([0.0, 0.0, 1.0 / wavelength])
        sigma_k = bandwidth / wavelength
        across = 1.0 - ray[:, 2] / np.linalg.norm(ray, axis=1)
        width2 = s.profile_radius**2 + (across * sigma_k) ** 2
        ray[:, 2] -= error * across * sigma_k**2 / width2
        partiality = s.profile_radius / np.sqrt(width2)
        if s.profile == "gaussian":
            partiality *= np.exp(-0.5 * error**2 / width2)
        else:
            partiality *= np.maximum(0.0, 1.0 - error**2 / width2)
        panel, fs, ss = on_panels(ray, detector)
        seen = (panel >= 0) & (partiality > 0.0)
        hkl = found[seen, :3].astype(np.int32)
        return Spots(
            hkl=hkl,
            panel=panel[seen],
            fs=fs[seen],
            ss=ss[seen],
            photons=scale * self.intensities(hkl) * partiality[seen],
            partiality=partiality[seen],
            counts=np.zeros(len(hkl), np.int64),
        )

    def _excited(
        self, recip: NDArray[np.float64], wavenumber: float, greatest_q: float, bandwidth: float
    ) -> NDArray[np.float64]:
        s = self._settings
        steepest = 0.5 * (greatest_q / wavenumber) ** 2  # 1 - cos 2θ at the edge
        width = math.hypot(s.profile_radius, steepest * bandwidth * wavenumber)
        reach = width * (GAUSSIAN_CUT if s.profile == "gaussian" else 1.0)
        lengths = np.linalg.norm(np.linalg.inv(recip), axis=0)
        limits = np.minimum(np.floor(greatest_q * lengths).astype(np.int64), 2047)
        found = np.empty((SPOT_LIMIT, 7))
        count = excited(
            np.ascontiguousarray(recip, np.float64),
            limits,
            self._primitive,
            wavenumber,
            greatest_q,
            reach,
            found,
        )
        return found[: min(count, SPOT_LIMIT)]


def on_panels(
    ray: NDArray[np.float64], detector: Detector
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Where rays from the sample meet the detector: panel (-1: nowhere), fs, ss; (ray,) each.

    The first panel that is met counts, as in ``crystfel_geometry(5)``.
    """
    panel = np.full(len(ray), -1, np.int32)
    fs, ss = np.zeros(len(ray)), np.zeros(len(ray))
    for number, (back, (_, _, width, height)) in enumerate(zip(detector.back, detector.rect, strict=True)):
        scale, along_fs, along_ss = back @ ray.T
        with np.errstate(divide="ignore", invalid="ignore"):
            along_fs, along_ss = along_fs / scale, along_ss / scale
        here = (scale > 0) & (along_fs >= 0) & (along_fs < width) & (along_ss >= 0) & (along_ss < height)
        here &= panel < 0
        panel[here] = number
        fs[here], ss[here] = along_fs[here], along_ss[here]
    return panel, fs, ss


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation from the uniform distribution (a random unit quaternion; Shoemake 1992)."""
    w, x, y, z = (lambda v: v / np.linalg.norm(v))(rng.standard_normal(4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
