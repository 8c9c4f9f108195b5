# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up detectors whose frames were given to CrystFEL 0.12: texts of geometries, and header values."""

import math
from typing import Any

GRID = 64
"""Pixels of a small panel along both sides."""

RES = 10000


def _panel(name: str, **fields: Any) -> str:
    return "".join(f"{name}/{key} = {value}\n" for key, value in fields.items())


def _turned(angle: float, tilt: float = 0.0) -> dict[str, str]:
    """Directions turned about the beam, the fast one then tilted out of the plane."""
    c, s = math.cos(angle), math.sin(angle)
    return {
        "fs": f"{c * math.cos(tilt):+.8f}x {s * math.cos(tilt):+.8f}y {math.sin(tilt):+.8f}z",
        "ss": f"{-s:+.8f}x {c:+.8f}y",
    }


def _quadrants(top: str) -> str:
    """Four panels about the beam in one array, each turned, tilted and set back by itself."""
    text = f"adu_per_photon = 10\nres = {RES}\n{top}"
    for number, (angle, tilt, offset) in enumerate(
        ((0.1, 0.02, 0.0), (1.6, -0.03, 0.0012), (3.05, 0.0, -0.002), (-1.5, 0.01, 0.0004))
    ):
        x, y = 300 * math.cos(angle + 0.8), 300 * math.sin(angle + 0.8)
        text += _panel(
            f"q{number}", min_fs=250 * (number % 2), max_fs=250 * (number % 2) + 249,
            min_ss=220 * (number // 2), max_ss=220 * (number // 2) + 219,
            corner_x=f"{x - 100:.3f}", corner_y=f"{y - 100:.3f}", coffset=offset, **_turned(angle, tilt),
        )  # fmt: skip
    return text


def _modules(top: str) -> str:
    """Eight panels in a stack of modules, two in each: ``dim1`` says which."""
    text = f"res = {RES}\ndim0 = %\ndim2 = ss\ndim3 = fs\ndata = /entry/stack\n{top}"
    for number in range(8):
        angle = math.pi / 4 * number
        text += _panel(
            f"m{number}", dim1=number // 2, min_fs=0, max_fs=GRID - 1, min_ss=GRID * (number % 2),
            max_ss=GRID * (number % 2) + GRID - 1, corner_x=f"{150 * math.cos(angle):.2f}",
            corner_y=f"{150 * math.sin(angle):.2f}", **_turned(angle + 0.3, 0.05 * (number - 4)),
        )  # fmt: skip
    return text


def _barrel(top: str) -> str:
    """Five flat panels around an axis across the beam, up to 100° from it."""
    text = f"adu_per_photon = 1\nres = 2000\n{top}"
    for number in range(5):
        angle = math.radians(25 * number)
        c, s = math.cos(angle), math.sin(angle)
        radius = 400.0  # pixels
        corner_y, corner_z = radius * s - 80 * c, radius * c + 80 * s
        text += _panel(
            f"b{number}", min_fs=0, max_fs=299, min_ss=160 * number, max_ss=160 * number + 159,
            corner_x=-150.5, corner_y=f"{corner_y:.4f}", coffset=f"{corner_z / 2000:.7f}",
            fs="x", ss=f"{c:+.8f}y {-s:+.8f}z",
        )  # fmt: skip
    return text


CASES: dict[str, tuple[str, dict[str, float]]] = {
    "literals, offsets and tilts": (_quadrants("photon_energy = 9.5 keV\nclen = 83 mm\n"), {}),
    "headers without units": (_quadrants("photon_energy = /e\nclen = /c\n"), {"/e": 8123.5, "/c": 91.25}),
    "headers in keV and m, shifts in mm": (
        _quadrants(
            "photon_energy = /e keV\nclen = /c m\ndetector_shift_x = /x mm\ndetector_shift_y = /y mm\n"
        ),
        {"/e": 12.4, "/c": 0.1005, "/x": 1.75, "/y": -2.5},
    ),
    "wavelength header in Å, shifts without units": (
        _quadrants("wavelength = /l A\nclen = /c mm\ndetector_shift_x = /x\ndetector_shift_y = 0.0003\n"),
        {"/l": 1.7321, "/c": 60.0, "/x": -0.0011},
    ),
    "wavelength in m": (_quadrants("wavelength = 2.5e-10 m\nclen = 0.07\n"), {}),
    "electrons": (_quadrants("electron_voltage = 200 kV\nclen = /c m\n"), {"/c": 2.2}),
    "modules of a stack": (_modules("photon_energy = 7000\nadu_per_eV = 0.01\nclen = /c mm\n"), {"/c": 55.5}),
    "barrel": (_barrel("photon_energy = 9000 eV\nclen = 0\n"), {}),
    "large shift and negative camera length": (
        _quadrants(
            "photon_energy = 9000 eV\nclen = /c mm\ndetector_shift_x = 5 mm\ndetector_shift_y = /y m\n"
        )
        .replace("/coffset = 0.0\n", "/coffset = 0.5\n")
        .replace("/coffset = 0.00", "/coffset = 0.50")
        .replace("/coffset = -0.002", "/coffset = 0.498"),
        {"/c": -420.0, "/y": 0.003},
    ),
    "one panel, mirrored": (
        f"photon_energy = 6000 eV\nclen = 0.05 m\nadu_per_photon = 1\nres = {RES}\n"
        + _panel(
            "p", min_fs=7, max_fs=406, min_ss=3, max_ss=352, corner_x=180.25, corner_y=-170.5, fs="-x", ss="y"
        ),
        {},
    ),
}  # fmt: skip
"""By what they show: geometry and header values."""
