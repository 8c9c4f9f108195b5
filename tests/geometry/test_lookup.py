# SPDX-License-Identifier: GPL-3.0-or-later
"""Values with units: what counts as a literal, which units hold, what is refused."""

import math

import pytest
from geometry.texts import ONE, TOP, panel, read, refusal

from gpuidx.geometry import length_from, wavelength_from


def with_top(line):
    """A file in which *line* replaces all of what TOP says of the beam."""
    return line + "\n" + TOP.split("\n", 1)[1] + panel()


@pytest.mark.parametrize(
    ("line", "wavelength"),
    [
        ("photon_energy = 9000", 1.37760138),
        ("photon_energy = 9000 eV", 1.37760138),
        ("photon_energy = 9 keV", 1.37760138),
        ("wavelength = 1.125 A", 1.125),
        ("wavelength = 1.125e-10 m", 1.125),
        ("electron_voltage = 300 kV", 0.01968749),
        ("electron_voltage = 300000 V", 0.01968749),
        ("photon_energy = 0x2328", 1.37760138),
    ],
)
def test_wavelength(line, wavelength):
    geometry = read(with_top(line))
    lookup = geometry.wavelength
    assert lookup.header is None
    assert lookup.line == 1
    found = wavelength_from(geometry.wavelength_kind, lookup.value, lookup.unit)
    assert found == pytest.approx(wavelength, rel=1e-6)


@pytest.mark.parametrize(
    ("line", "header", "unit"),
    [
        ("photon_energy = /LCLS/photon_energy_eV", "/LCLS/photon_energy_eV", ""),
        ("photon_energy = beam_energy keV", "beam_energy", "keV"),
        ("wavelength = wave A", "wave", "A"),
        ("electron_voltage = 300kV kV", "300kV", "kV"),
    ],
)
def test_header(line, header, unit):
    lookup = read(with_top(line)).wavelength
    assert (lookup.value, lookup.header, lookup.unit) == (None, header, unit)


@pytest.mark.parametrize(
    "line",
    [
        "photon_energy = 9000 J",
        "photon_energy = 9000  eV",
        "photon_energy = 9000\teV",
        "wavelength = 1.125",
        "wavelength = 1.125 nm",
        "electron_voltage = 300000",
        "photon_energy = nan",
        "photon_energy = -9000 eV",
        "photon_energy =",
        "wavelength = inf A",
    ],
)
def test_useless_wavelength_is_refused_with_its_line(line):
    assert refusal(with_top(line)).startswith("t.geom:1: ")


def test_last_wavelength_wins():
    geometry = read(ONE + "wavelength = lambda m\n")
    assert geometry.wavelength_kind == "wavelength"
    assert geometry.wavelength.header == "lambda"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.08", (0.08, None, "")),
        ("80 mm", (80, None, "mm")),
        ("/a/clen", (None, "/a/clen", "")),
        ("dist m", (None, "dist", "m")),
    ],
)
def test_camera_length(text, expected):
    lookup = read(ONE.replace("0.08", text)).clen
    assert (lookup.value, lookup.header, lookup.unit) == expected
    assert lookup.line == 2


@pytest.mark.parametrize("text", ["80 cm", "80  mm", "80\tmm", "nan", "inf m", "dist ft"])
def test_useless_camera_length_is_refused_with_its_line(text):
    assert refusal(ONE.replace("0.08", text)).startswith("t.geom:2: clen")


@pytest.mark.parametrize(
    ("value", "unit", "default", "metres"),
    [(80.0, "mm", "m", 0.08), (80.0, "", "mm", 0.08), (0.08, "", "m", 0.08), (0.08, "m", "mm", 0.08)],
)
def test_length_in_metres(value, unit, default, metres):
    assert length_from(value, unit, default) == metres


def test_length_without_unit_is_in_metres_by_default():
    assert length_from(2.0, "") == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_endless_values_are_errors(value):
    with pytest.raises(ValueError, match="finite"):
        length_from(value, "m")
    with pytest.raises(ValueError, match=r"photon_energy is .*above 0"):
        wavelength_from("photon_energy", value, "eV")


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_wavelength_needs_a_number_above_zero(value):
    with pytest.raises(ValueError, match="above 0"):
        wavelength_from("electron_voltage", value, "V")


@pytest.mark.parametrize(
    ("kind", "unit", "text"),
    [
        ("energy", "eV", "'energy' does not give a wavelength"),
        ("wavelength", "", "unit '' does not suit wavelength; expected m or A"),
        ("photon_energy", "A", "unit 'A' does not suit photon_energy; expected eV or keV"),
    ],
)
def test_unknown_kind_or_unit(kind, unit, text):
    with pytest.raises(ValueError, match=text):
        wavelength_from(kind, 1.0, unit)


def test_unknown_length_unit():
    with pytest.raises(ValueError, match="unit 'cm' is no length; expected m or mm"):
        length_from(1.0, "cm")


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e308])
@pytest.mark.parametrize("kind", [("photon_energy", "keV"), ("electron_voltage", "kV"), ("wavelength", "m")])
def test_absurd_numbers_give_absurd_wavelengths_not_crashes(kind, value):
    assert wavelength_from(kind[0], value, kind[1]) >= 0
