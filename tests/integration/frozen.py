# SPDX-License-Identifier: GPL-3.0-or-later
"""A small frame on two panels, and what CrystFEL measured on it in many ways (frozen)."""

import gzip
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Crystal, Frame, PeakList, Reflections
from gpuidx.options import IntegrationOptions
from gpuidx.units import wavelength_of_energy

DATA = Path(__file__).parents[1] / "data"
WIDTH = 180  # of each panel
ENERGY = 9500.0
CLEN = 0.05


@cache
def load() -> dict[str, Any]:
    """Everything that was frozen, but the frame."""
    return json.loads(gzip.decompress((DATA / "integration_crystfel.json.gz").read_bytes()))


@cache
def pixels_and_peaks() -> tuple[Any, Any]:
    with np.load(DATA / "integration_frame.npz") as file:
        return file["image"], file["peaks"].astype(float)


@cache
def profile_cases() -> dict[str, Any]:
    """What was frozen for prof2d, measured on `low_frame_of`."""
    text = gzip.decompress((DATA / "prof2d_crystfel.json.gz").read_bytes())
    return {f"prof2d_{name}": case for name, case in json.loads(text)["cases"].items()}


def saturation_map(file: str, data: str) -> Any:
    assert (file, data) == ("sat.h5", "/sat")
    return (np.arange(200 * 360).reshape(200, 360) % 97 + 20).astype(np.float32)


def geometry_of(bandwidth: str = "1e-8", before: str = "") -> Geometry:
    return parse_geometry(before + load()["geometry"].format(bandwidth=bandwidth), "frozen.geom")


def frame_of(geometry: Geometry, dtype: str = "u2") -> Frame:
    image, _ = pixels_and_peaks()
    return Frame(
        serial=1,
        filename="frozen",
        event="//0",
        image=image.astype(dtype),
        wavelength=wavelength_of_energy(ENERGY),
        photon_energy=ENERGY,
        detector=geometry.detector(CLEN),
    )


def low_frame_of(geometry: Geometry) -> Frame:
    """The same with less background; doubled, so that no pixel has the value that means a bad one."""
    frame = frame_of(geometry, "i4")
    low = np.where(frame.image > 60000, frame.image, 2 * np.maximum(frame.image - 18, 0))
    return replace(frame, image=low.astype("u2"))


def peaks() -> PeakList:
    _, table = pixels_and_peaks()
    panel = (table[:, 0] >= WIDTH).astype(np.int32)
    return PeakList(
        fs=table[:, 0] - WIDTH * panel, ss=table[:, 1].copy(), panel=panel, intensity=table[:, 2].copy()
    )


def recip_of(numbers: Any) -> Any:
    """Reciprocal axes in Å⁻¹ of nine numbers in nm⁻¹, as CrystFEL read them (float32)."""
    return np.array(numbers, np.float32).reshape(3, 3).astype(float) / 10


@dataclass(frozen=True)
class Case:
    """One run of CrystFEL."""

    name: str
    geometry: Geometry
    masks: Masks
    options: IntegrationOptions
    shift: tuple[float, float]
    centering: list[str]
    recip: list[Any]
    expected: list[dict[str, Any]]

    def crystals(self) -> list[Crystal]:
        """The lattices with the profile radius and resolution limit that CrystFEL printed."""
        return [
            made_crystal(
                recip,
                centering=centering,
                shift=self.shift,
                profile_radius=float(expected["radius"]) / 10,
                resolution_limit=float(expected["limit"]) / 10,
            )
            for recip, centering, expected in zip(self.recip, self.centering, self.expected, strict=True)
        ]


def made_crystal(recip: Any, **values: Any) -> Crystal:
    given = {
        "lattice_type": "triclinic",
        "centering": "P",
        "unique_axis": "*",
        "score": 0.0,
        "shift": (0.0, 0.0),
        "profile_radius": 0.002,
        "resolution_limit": 0.5,
        "residuals": {},
    }
    return Crystal(recip=recip, **(given | values))


def options_of(text: str) -> IntegrationOptions:
    values: dict[str, Any] = {}
    for word in text.split():
        name, _, value = word[2:].partition("=")
        key = name.replace("-", "_")
        if key == "integration":
            values[key] = value
        elif not value:
            values[key] = True
        elif "," in value:
            values[key] = tuple(map(float, value.split(",")))
        else:
            values[key] = float(value)
    return IntegrationOptions(**values)


def names() -> list[str]:
    return list(load()["cases"])


def case_of(name: str) -> Case:
    case = (load()["cases"] | profile_cases())[name]
    geometry = geometry_of(case["bandwidth"], case["geometry"])
    x, y = (float(np.float32(value)) * 1e-3 for value in case["shift"])
    return Case(
        name=name,
        geometry=geometry,
        masks=Masks(geometry, reader=saturation_map),
        options=options_of(case["options"]),
        shift=(x, y),
        centering=[lattice[0] for lattice in case["lattices"]],
        recip=[recip_of(lattice[1:]) for lattice in case["lattices"]],
        expected=case["crystals"],
    )


def lines(reflections: Reflections) -> list[str]:
    """As the stream has them."""
    names = ("left", "right")
    return [
        f"{h[0]:4d} {h[1]:4d} {h[2]:4d} {i:10.2f} {s:10.2f} {p:10.2f} {b:10.2f} "
        f"{fs + WIDTH * panel:6.1f} {ss:6.1f} {names[panel]}"
        for h, i, s, p, b, fs, ss, panel in zip(
            reflections.hkl.tolist(),
            reflections.intensity,
            reflections.sigma,
            reflections.peak,
            reflections.background,
            reflections.fs,
            reflections.ss,
            reflections.panel.tolist(),
            strict=True,
        )
    ]
