# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak lists of still exposures with known truth, without images: for tests and benchmarks of the trials.

A flat detector, normal to the beam; lattice points within the profile radius of the Ewald sphere; exponential
intensities with a fall-off; the strongest on the detector are the peaks.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, real_axes
from gpuidx.lattice import primitive_axes
from gpuidx.simulation.crystal import excited, random_rotation

WIDTH, HEIGHT, PITCH = 2068, 2164, 75e-6
"""Of the detector, px, px, m."""

BEAM_STOP = 25.0
"""No peaks within this radius, px."""

_MOST_POINTS = 200_000


class Experiment(NamedTuple):
    """A crystal form, and how it is measured.

    Attributes
    ----------
    cell
        With parameters.
    distance
        m.
    wavelength
        Å.
    profile_radius
        Greatest distance of a lattice point from the Ewald sphere, Å⁻¹.
    b_factor
        Å²; intensities fall off with exp(-B q² / 2).
    """

    cell: UnitCell
    distance: float = 0.15
    wavelength: float = 1.3
    profile_radius: float = 0.0010
    b_factor: float = 20.0

    @property
    def shift_sigma(self) -> float:
        """What 1.5 px make of q, Å⁻¹."""
        return 1.5 * PITCH / (self.distance * self.wavelength)


def _cell(*parameters: float, centring: str = "P") -> UnitCell:
    a, b, c, al, be, ga = parameters
    return UnitCell(parameters=(a, b, c, al, be, ga), centering=centring)


EXPERIMENTS = {
    "lyso": Experiment(_cell(79.0, 79.0, 38.0, 90, 90, 90)),
    "thau": Experiment(_cell(58.5, 58.5, 151.5, 90, 90, 90)),
    "psi": Experiment(_cell(281.0, 281.0, 165.0, 90, 90, 120), 0.25, 1.3, 0.0006, 40.0),
    "insu": Experiment(_cell(78.9, 78.9, 78.9, 90, 90, 90, centring="I")),
    "mono": Experiment(_cell(90.5, 44.3, 64.2, 90, 107.5, 90, centring="C")),
    "p1": Experiment(_cell(60.0, 70.0, 80.0, 85, 95, 100)),
    "rhod": Experiment(_cell(61.0, 91.0, 151.0, 90, 90, 90), 0.20, 1.3, 0.0010, 30.0),
    "cys": Experiment(_cell(8.12, 12.19, 5.43, 90, 90, 90), 0.06, 0.80, 0.0060, 2.0),
    "ferr": Experiment(_cell(181.0, 181.0, 181.0, 90, 90, 90, centring="F"), 0.20, 1.3, 0.0008, 30.0),
    "rhom": Experiment(_cell(82.5, 82.5, 34.0, 90, 90, 120, centring="H")),
    "pseu": Experiment(_cell(50.2, 60.1, 50.9, 90, 90.4, 90), 0.15, 1.3, 0.0012),
    "long": Experiment(_cell(52.0, 60.0, 380.0, 90, 90, 90), 0.25, 1.3, 0.0007, 30.0),
}
"""Proteins of most lattice types, a large complex, an amino acid, a very long axis, a pseudo-symmetry."""


@dataclass(frozen=True, kw_only=True)
class PeakListSettings:
    """What one list holds.

    Attributes
    ----------
    n_peaks
        Of all lattices together; fewer if the crystal gives no more.
    spurious
        Share of spurious peaks in the list; 1: spurious peaks only.
    noise
        Standard error of each coordinate, px.
    cell_error
        Greatest relative error of the axes; equal axes stay equal.
    shift
        True beam centre minus the nominal one, px.
    distance_error
        Relative.
    bandwidth
        Half width, relative; each reflection takes the wavelength that suits it best.
    missing
        Share of the strongest reflections that were not found.
    n_lattices
        Crystals in the beam.
    """

    n_peaks: int = 60
    spurious: float = 0.0
    noise: float = 0.3
    cell_error: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    distance_error: float = 0.0
    bandwidth: float = 0.0
    missing: float = 0.0
    n_lattices: int = 1


@dataclass(frozen=True, eq=False)
class SimulatedPeaks:
    """One list, in random order.

    Attributes
    ----------
    xy : (peak, 2)
        Position, px.
    q : (peak, xyz)
        From the nominal geometry, Å⁻¹.
    source : (peak,)
        Number of the lattice; -1: spurious.
    truth : (lattice, row, xyz)
        Primitive rows in the lab frame, Å.
    """

    xy: NDArray[np.float64]
    q: NDArray[np.float64]
    source: NDArray[np.int64]
    truth: NDArray[np.float64]


def simulate_peaks(
    experiment: Experiment, settings: PeakListSettings, rng: np.random.Generator
) -> SimulatedPeaks:
    """Make one list."""
    truth, positions, sources = [], [], []
    n_lattices = settings.n_lattices if settings.spurious < 1 else 0
    for lattice in range(n_lattices):
        share, rest = divmod(settings.n_peaks, n_lattices)
        rows = _random_rows(experiment.cell, settings.cell_error, rng)
        xy = _lattice_peaks(experiment, settings, rows, share + (lattice < rest), rng)
        truth.append(rows)
        positions.append(xy)
        sources.append(np.full(len(xy), lattice))
    n_good = sum(map(len, positions))
    n_spurious = settings.n_peaks
    if settings.spurious < 1:
        n_spurious = round(n_good * settings.spurious / (1 - settings.spurious))
    positions.append(_spurious_peaks(n_spurious, rng))
    sources.append(np.full(n_spurious, -1))
    order = rng.permutation(n_good + n_spurious)
    xy = np.concatenate(positions)[order]
    return SimulatedPeaks(
        xy=xy,
        q=scattering_vectors(xy, experiment),
        source=np.concatenate(sources)[order],
        truth=np.array(truth).reshape(-1, 3, 3),
    )


def scattering_vectors(xy: NDArray[np.float64], experiment: Experiment) -> NDArray[np.float64]:
    """Scattering vectors q (peak, xyz) of positions (peak, 2) in px, by the nominal geometry."""
    ray = np.empty((len(xy), 3))
    ray[:, :2] = (xy - (WIDTH / 2, HEIGHT / 2)) * PITCH
    ray[:, 2] = experiment.distance
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    ray[:, 2] -= 1.0
    return ray / experiment.wavelength


def _random_rows(cell: UnitCell, cell_error: float, rng: np.random.Generator) -> NDArray[np.float64]:
    assert cell.parameters is not None
    a, b, c, al, be, ga = cell.parameters
    scale = 1 + cell_error * rng.uniform(-1, 1, 3)
    if a == b:
        scale[1] = scale[0]
    if b == c:
        scale[2] = scale[1]
    axes = real_axes((a * scale[0], b * scale[1], c * scale[2], al, be, ga))
    return primitive_axes(axes, cell.centering) @ random_rotation(rng).T


def _lattice_peaks(
    experiment: Experiment,
    settings: PeakListSettings,
    rows: NDArray[np.float64],
    n_peaks: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Positions (peak, 2) of the strongest reflections of one lattice, px."""
    q, wavenumber, error = _excited(experiment, rows, settings.bandwidth)
    ray = q + np.stack([0 * wavenumber, 0 * wavenumber, wavenumber], axis=1)
    distance = experiment.distance * (1 + settings.distance_error)
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    xy = ray[:, :2] / ray[:, 2:] * (distance / PITCH) + centre + settings.shift
    seen = (xy > 0).all(1) & (xy[:, 0] < WIDTH) & (xy[:, 1] < HEIGHT)
    seen &= np.linalg.norm(xy - centre, axis=1) > BEAM_STOP
    intensity = rng.exponential(size=len(q)) * np.exp(-experiment.b_factor * (q**2).sum(1) / 2)
    intensity *= 1 - (error / experiment.profile_radius) ** 2
    n_strongest = min(int(n_peaks / (1 - settings.missing) + 0.5), int(seen.sum()))
    order: NDArray[np.intp] = np.argsort(-np.where(seen, intensity, -1.0), kind="stable")[:n_strongest]
    if settings.missing:
        order = rng.permutation(order)[:n_peaks]
    noise = settings.noise * rng.standard_normal((len(order), 2))
    return np.asarray(xy[order] + noise)


def _excited(
    experiment: Experiment, rows: NDArray[np.float64], bandwidth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lattice points in reach, the wavenumber that each takes, and its distance from that Ewald sphere."""
    wavenumber = 1 / experiment.wavelength
    half_diagonal = math.hypot(WIDTH, HEIGHT) / 2 * PITCH
    greatest_q = 2 * wavenumber * math.sin(0.5 * math.atan2(half_diagonal, experiment.distance))
    steepest = 0.5 * (greatest_q / wavenumber) ** 2
    reach = experiment.profile_radius + bandwidth * wavenumber * steepest
    found = np.empty((_MOST_POINTS, 7))
    limits = np.floor(greatest_q * np.linalg.norm(rows, axis=1)).astype(np.int64)
    recip = np.ascontiguousarray(np.linalg.inv(rows).T)
    count = excited(recip, limits, np.eye(3), wavenumber, greatest_q, reach, found)
    q = found[:count, 3:6]
    with np.errstate(divide="ignore"):
        exact = (q**2).sum(1) / (-2 * q[:, 2])
    wavenumbers = np.clip(
        np.where(q[:, 2] < -1e-9, exact, wavenumber),
        wavenumber * (1 - bandwidth),
        wavenumber * (1 + bandwidth),
    )
    error = np.sqrt(q[:, 0] ** 2 + q[:, 1] ** 2 + (q[:, 2] + wavenumbers) ** 2) - wavenumbers
    near = np.abs(error) < experiment.profile_radius
    return q[near], wavenumbers[near], error[near]


def _spurious_peaks(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions (peak, 2), even in a ring about the beam, px."""
    radius = np.sqrt(rng.uniform(0.005, 0.7, count)) * (0.55 * WIDTH)
    azimuth = rng.uniform(0, 2 * math.pi, count)
    return np.stack([WIDTH / 2 + radius * np.cos(azimuth), HEIGHT / 2 + radius * np.sin(azimuth)], axis=1)
