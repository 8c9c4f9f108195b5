# SPDX-License-Identifier: GPL-3.0-or-later
"""Values with units, literal or looked up in each frame, turned into Å and m.

Where header values come from is not known here.
"""

import math
from collections.abc import Sequence

from gpuidx.geometry.description import Lookup
from gpuidx.geometry.lexer import Statement, literal
from gpuidx.units import ANGSTROM, wavelength_of_energy, wavelength_of_voltage

WAVELENGTH_UNITS = {
    "photon_energy": ("", "eV", "keV"),
    "wavelength": ("m", "A"),
    "electron_voltage": ("V", "kV"),
}
"""Units that each of the three ways to give the wavelength allows; ``""`` where none need be given."""

LENGTH_UNITS = {"m": 1.0, "mm": 1e-3}

_KILO = ("keV", "kV")


def wavelength_from(kind: str, value: float, unit: str) -> float:
    """Wavelength in Å from a value as it stands in a geometry file or header.

    Parameters
    ----------
    kind
        ``"photon_energy"``, ``"wavelength"`` or ``"electron_voltage"``.
    value
        In *unit*.
    unit
        One of `WAVELENGTH_UNITS`; a photon energy without unit is in eV.

    Raises
    ------
    ValueError
        If the value is not a finite number above 0, or kind or unit are not known.
    """
    units = WAVELENGTH_UNITS.get(kind)
    if units is None:
        raise ValueError(f"'{kind}' does not give a wavelength; expected {_listed(list(WAVELENGTH_UNITS))}")
    if unit not in units:
        raise ValueError(f"unit '{unit}' does not suit {kind}; expected {_listed(units)}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{kind} is {value:g}; expected a finite number above 0")
    if unit in _KILO:
        value *= 1e3
    try:
        if kind == "wavelength":
            return value if unit == "A" else value / ANGSTROM
        return wavelength_of_energy(value) if kind == "photon_energy" else wavelength_of_voltage(value)
    except ZeroDivisionError:
        return math.inf


def length_from(value: float, unit: str, default_unit: str = "m") -> float:
    """Length in m from a value as it stands in a geometry file or header.

    Parameters
    ----------
    value
        In *unit*.
    unit
        ``"m"``, ``"mm"`` or ``""``.
    default_unit
        Unit that is meant by ``""``: for ``clen`` m in the file, but mm in a header; for shifts always m.

    Raises
    ------
    ValueError
        If the value is not finite or the unit not known.
    """
    if (unit or default_unit) not in LENGTH_UNITS:
        raise ValueError(f"unit '{unit}' is no length; expected m or mm")
    if not math.isfinite(value):
        raise ValueError(f"length is {value:g}; expected a finite number")
    return value * LENGTH_UNITS[unit or default_unit]


def parse_lookup(statement: Statement, units: Sequence[str]) -> Lookup:
    """A value or the name of a header, then perhaps one blank and a unit.

    Raises
    ------
    ValueError
        If the unit is missing or not one of *units*.
    """
    text = statement.value or ""
    word, blank, unit = text.partition(" ")
    if "\t" in word:
        raise ValueError(f"'{text}' holds a tab; expected exactly one blank between value and unit")
    if unit not in units:
        expected = f"expected {_listed(units)} after exactly one blank"
        problem = f"has the unit '{unit}'" if blank else "has no unit"
        raise ValueError(f"'{text}' {problem}; {expected}")
    value = literal(word)
    return Lookup(value, word if value is None else None, unit, statement.line)


def _listed(units: Sequence[str]) -> str:
    return " or ".join(unit for unit in units if unit)
