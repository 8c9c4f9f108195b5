# SPDX-License-Identifier: GPL-3.0-or-later
"""Physical constants and the conversions done at the edges.

Inside gpuidx: Å, Å⁻¹ (no 2π), eV, m, ADU.  nm⁻¹, mm and degrees appear only where a file wants them.
The constants are CrystFEL's, so that the photon energies in a stream agree to the last digit.
"""

import math

PLANCK = 6.62606896e-34  # J s
LIGHT_SPEED = 299792458.0  # m/s
ELECTRON_CHARGE = 1.6021773e-19  # C
ELECTRON_MASS = 9.1093837015e-31  # kg
ANGSTROM = 1e-10  # m
HC = PLANCK * LIGHT_SPEED / ELECTRON_CHARGE / ANGSTROM  # eV Å


def wavelength_of_energy(photon_energy: float) -> float:
    """Wavelength in Å of a photon energy in eV."""
    return HC / photon_energy


def energy_of_wavelength(wavelength: float) -> float:
    """Photon energy in eV of a wavelength in Å."""
    return HC / wavelength


def wavelength_of_voltage(voltage: float) -> float:
    """Relativistic de Broglie wavelength in Å of electrons accelerated by a voltage in V."""
    energy = ELECTRON_CHARGE * voltage
    relativistic = voltage * (1 + energy / (2 * ELECTRON_MASS * LIGHT_SPEED**2))
    return PLANCK / math.sqrt(2 * ELECTRON_MASS * ELECTRON_CHARGE * relativistic) / ANGSTROM
