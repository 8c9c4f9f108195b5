# SPDX-License-Identifier: GPL-3.0-or-later
"""The beam and the camera length of simulated frames, and how the geometry's headers tell them.

The inverse of what decoders do: here a value is known and is put into the unit in which the geometry
looks it up (``crystfel_geometry(5)``).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from gpuidx.errors import GeometryError, OptionError
from gpuidx.geometry.detector import Detector, Geometry
from gpuidx.geometry.lookup import length_from, wavelength_from
from gpuidx.model import HeaderValue
from gpuidx.simulation.settings import DetectorSettings
from gpuidx.units import energy_of_wavelength, wavelength_of_energy

EDGE_RESOLUTION = 2.2
"""Å, at the nearest edge of the detector, if nobody says how far away it is."""


@dataclass(frozen=True, slots=True)
class Beam:
    """Photon energy (eV), camera length and detector shift (m) of one frame."""

    photon_energy: float
    clen: float
    shift_x: float
    shift_y: float

    def detector(self, geometry: Geometry) -> Detector:
        """The panels of this frame."""
        return geometry.detector(self.clen, self.shift_x, self.shift_y)

    def varied(self, rng: np.random.Generator, settings: DetectorSettings) -> "Beam":
        """The same with the spreads of the settings."""
        energy, clen = self.photon_energy, self.clen
        if settings.energy_spread:
            energy *= 1.0 + settings.energy_spread * rng.standard_normal()
        if settings.clen_spread:
            clen += settings.clen_spread * rng.standard_normal()
        return replace(self, photon_energy=energy, clen=clen)


def beam_of(geometry: Geometry, settings: DetectorSettings) -> Beam:
    """The mean beam: what the geometry fixes, else what the settings say.

    Raises
    ------
    OptionError
        If a spread is asked of a value that the geometry fixes.
    """
    for lookup, spread, option in (
        (geometry.wavelength, settings.energy_spread, "--energy-spread"),
        (geometry.clen, settings.clen_spread, "--clen-spread"),
    ):
        if spread and lookup.header is None:
            raise OptionError(f"{option} needs a geometry that looks the value up in a header")
    return Beam(_photon_energy(geometry, settings), _camera_length(geometry, settings), *_shift(geometry))


def headers_of(geometry: Geometry, beam: Beam) -> dict[str, HeaderValue]:
    """What the geometry's look-ups find, by name, in their units."""
    headers: dict[str, HeaderValue] = {}
    lookup = geometry.wavelength
    if lookup.header is not None:
        headers[lookup.header] = _told_energy(geometry, beam.photon_energy)
    for length, value, default in (
        (geometry.clen, beam.clen, "mm"),
        (geometry.shift_x, beam.shift_x, "m"),
        (geometry.shift_y, beam.shift_y, "m"),
    ):
        if length is not None and length.header is not None:
            headers[length.header] = value / length_from(1.0, length.unit, default)
    return headers


def _photon_energy(geometry: Geometry, settings: DetectorSettings) -> float:
    lookup = geometry.wavelength
    if lookup.value is None:
        return settings.photon_energy
    return energy_of_wavelength(wavelength_from(geometry.wavelength_kind, lookup.value, lookup.unit))


def _told_energy(geometry: Geometry, photon_energy: float) -> float:
    """A photon energy as the value of the header that gives the wavelength."""
    kind, lookup = geometry.wavelength_kind, geometry.wavelength
    if kind == "electron_voltage":
        raise GeometryError(geometry.file, lookup.line, "simulation needs electron_voltage as a number")
    unit = wavelength_from(kind, 1.0, lookup.unit)  # of one unit of the header, Å
    wavelength = wavelength_of_energy(photon_energy)
    return wavelength / unit if kind == "wavelength" else unit / wavelength


def _camera_length(geometry: Geometry, settings: DetectorSettings) -> float:
    lookup = geometry.clen
    if lookup.value is not None:
        return length_from(lookup.value, lookup.unit)
    if settings.clen > 0:
        return settings.clen
    at = geometry.detector(1.0)
    size = at.rect[:, 2:].astype(float)
    corners = [
        (at.corner + i * size[:, :1] * at.fs + j * size[:, 1:] * at.ss)[:, :2] * at.pitch[:, None]
        for i in (0, 1)
        for j in (0, 1)
    ]
    half = float(np.abs(np.concatenate(corners)).max(axis=0).min())
    wavelength = wavelength_of_energy(_photon_energy(geometry, settings))
    angle = 2 * math.asin(min(0.7, wavelength / (2 * EDGE_RESOLUTION)))
    mean_offset = float(np.mean([p.coffset for p in geometry.panels]))
    return half / math.tan(angle) - mean_offset


def _shift(geometry: Geometry) -> tuple[float, float]:
    """The shift that the geometry fixes, m; one that is looked up is 0."""
    x, y = (
        0.0 if s is None or s.value is None else length_from(s.value, s.unit)
        for s in (geometry.shift_x, geometry.shift_y)
    )
    return x, y
