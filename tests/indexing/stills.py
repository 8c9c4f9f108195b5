# SPDX-License-Identifier: GPL-3.0-or-later
"""Peaks of made-up still frames with known lattices, on a flat detector or on tilted panels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuidx.cell import UnitCell, real_axes
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.lattice import primitive_axes, reduce_axes
from gpuidx.model import Candidate, Frame, PeakList

WAVELENGTH = 1.3
CLEN = 0.15

FLAT = """\
wavelength = 1.3 A
clen = 0.15 m
bandwidth = {bandwidth}
res = 13333.333333
adu_per_photon = 1
data = data
dim0 = ss
dim1 = fs
p/min_fs = 0
p/max_fs = 2067
p/min_ss = 0
p/max_ss = 2163
p/corner_x = -1034
p/corner_y = -1082
p/fs = x
p/ss = y
"""

TILTED = """\
wavelength = 1.3 A
clen = 0.15 m
bandwidth = {bandwidth}
adu_per_photon = 1
data = data
dim0 = ss
dim1 = fs
res = 13333.333333
a/min_fs = 0
a/max_fs = 999
a/min_ss = 0
a/max_ss = 1999
a/corner_x = -1010
a/corner_y = -1020
a/fs = +0.995x -0.02y +0.09z
a/ss = +0.02x +0.99y
res = 10000
b/min_fs = 1000
b/max_fs = 1799
b/min_ss = 0
b/max_ss = 1499
b/corner_x = 790
b/corner_y = -760
b/coffset = -0.003
b/fs = -0.01x +0.98y -0.2z
b/ss = -1.0x -0.01y
c/min_fs = 1800
c/max_fs = 2599
c/min_ss = 0
c/max_ss = 1499
c/corner_x = 15
c/corner_y = 20
c/fs = x
c/ss = +0.97y +0.24z
"""


def geometry_of(text: str = FLAT, bandwidth: float = 1e-8) -> Geometry:
    return parse_geometry(text.format(bandwidth=bandwidth), "made.geom")


@dataclass(frozen=True)
class Still:
    """A frame without pixels, its peaks, and the truth.

    `axes` are the conventional real axes of the lattices, Å; `source` the lattice of each peak, −1 = none.
    """

    frame: Frame
    peaks: PeakList
    axes: list[Any]
    source: Any


def random_turn(rng: np.random.Generator) -> Any:
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))


def make_still(
    geometry: Geometry,
    cell: UnitCell,
    seed: int,
    *,
    n_peak: int = 60,
    n_lattice: int = 1,
    spurious: float = 0.0,
    noise: float = 0.3,
    radius: float = 0.001,
    strain: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    spread: float = 0.0,
) -> Still:
    """Peaks of random lattices.

    Parameters
    ----------
    n_peak
        Of each lattice; the strongest, with exponential intensities that fall off away from the sphere.
    spurious
        Share of peaks that belong to no lattice.
    noise
        Of positions, px.
    radius
        Profile radius, Å⁻¹.
    strain
        Each axis is off by up to this fraction, the same for equal axes.
    shift
        True position of the detector less that of the geometry, in pixels of 75 µm.
    spread
        Wavelengths differ by up to this fraction.
    """
    rng = np.random.default_rng(seed)
    detector = geometry.detector(CLEN)
    true_detector = geometry.detector(CLEN, *(np.array(shift) * 75e-6))
    wavenumber = 1 / WAVELENGTH
    parts, lattices = [], []
    for number in range(n_lattice):
        parameters = np.array(cell.parameters)
        factor = 1 + strain * rng.uniform(-1, 1, 3)
        for i, j in ((0, 1), (1, 2), (0, 2)):
            if parameters[i] == parameters[j]:
                factor[j] = factor[i]
        parameters[:3] *= factor
        axes = real_axes(tuple(parameters)) @ random_turn(rng)
        lattices.append(axes)
        primitive = primitive_axes(axes, cell.centering)
        q = _excited(np.linalg.inv(primitive).T, detector.max_q * wavenumber, wavenumber, radius, spread)
        wavelength_factor = 1 + spread * rng.uniform(-1, 1, len(q))
        ray = q + np.outer(wavenumber * wavelength_factor, (0, 0, 1))
        fs, ss, panel = _seen(true_detector, ray)
        off = (np.linalg.norm(ray, axis=1) / wavenumber - wavelength_factor) * wavenumber / radius
        intensity = (
            rng.exponential(size=len(q)) * np.exp(-10 * (q**2).sum(axis=1)) * np.maximum(1 - off**2, 0)
        )
        best = np.argsort(-np.where(panel >= 0, intensity, -1))[: min(n_peak, (panel >= 0).sum())]
        parts.append(
            np.column_stack(
                [
                    fs[best] + noise * rng.normal(size=len(best)),
                    ss[best] + noise * rng.normal(size=len(best)),
                    panel[best],
                    1000 * intensity[best],
                    np.full(len(best), number),
                ]
            )
        )
    n_good = sum(map(len, parts))
    n_spurious = round(n_good * spurious / (1 - spurious))
    panel = rng.integers(0, len(detector.rect), n_spurious)
    size = detector.rect[panel, 2:]
    parts.append(
        np.column_stack(
            [
                rng.random((n_spurious, 2)) * size,
                panel,
                1000 * rng.exponential(0.3, n_spurious),
                np.full(n_spurious, -1),
            ]
        )
    )
    table = rng.permutation(np.concatenate(parts))
    columns = np.ascontiguousarray(table.T)
    return Still(
        frame=Frame(
            serial=1,
            filename="made",
            event="//0",
            image=None,
            wavelength=WAVELENGTH,
            photon_energy=9537.0,
            detector=detector,
        ),
        peaks=PeakList(fs=columns[0], ss=columns[1], panel=columns[2].astype(np.int32), intensity=columns[3]),
        axes=lattices,
        source=columns[4].astype(int),
    )


def _excited(recip: Any, highest: float, k: float, radius: float, spread: float) -> Any:
    """Lattice points near the Ewald sphere."""
    limits = (highest * np.linalg.norm(np.linalg.inv(recip), axis=0)).astype(int)
    found = []
    plane = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in limits[1:]], indexing="ij"), axis=-1)
    plane = plane.reshape(-1, 2) @ recip[1:]
    for h in range(-limits[0], limits[0] + 1):
        q = plane + h * recip[0]
        square = (q**2).sum(axis=1)
        # (|q + k| - k)(|q + k| + k) = q² + 2 k q_z
        off = (square + 2 * k * q[:, 2]) / (2 * k)
        q = q[(square < highest**2) & (np.abs(off) < 2 * (radius + 2 * spread * k))]
        near = np.abs(np.linalg.norm(q + np.array((0, 0, k)), axis=1) - k) < radius + 2 * spread * k
        found.append(q[near & (q[:, 2] < -1e-9)])
    return np.concatenate(found)


def _seen(detector: Any, ray: Any) -> tuple[Any, Any, Any]:
    """fs, ss and panel of rays; panel −1 for those that miss the detector."""
    fs, ss, panel = np.zeros(len(ray)), np.zeros(len(ray)), np.full(len(ray), -1)
    for number, back in enumerate(detector.back):
        scaled = ray @ back.T
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = scaled[:, 1] / scaled[:, 0], scaled[:, 2] / scaled[:, 0]
        width, height = detector.rect[number, 2:]
        here = (scaled[:, 0] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height) & (panel < 0)
        fs[here], ss[here], panel[here] = x[here], y[here], number
    return fs, ss, panel


def candidate_of(axes: Any, centering: str, seed: int, amount: float = 1e-3) -> Candidate:
    """A lattice as the trials find it: the reduced primitive cell, a little turned and strained."""
    rng = np.random.default_rng(seed)
    found = primitive_axes(axes, centering) * (1 + amount * rng.normal(size=(3, 3)))
    found = found + np.cross(amount * rng.normal(size=3), found)
    return Candidate(axes=reduce_axes(found)[0], shift=np.zeros(2), score=100.0)
