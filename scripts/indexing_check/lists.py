# SPDX-License-Identifier: GPL-3.0-or-later
"""Measured peak lists of the reference data folder, with the cells of their crystals."""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.known_cell import shift_sigma
from gpuidx.cell import UnitCell, read_cell
from gpuidx.geometry import Detector, Geometry, length_from, read_geometry
from gpuidx.indexing.lattices import Acceptance
from gpuidx.model import Candidate, Crystal, Frame, PeakList
from gpuidx.options import IndexOptions, IntegrationOptions
from gpuidx.units import energy_of_wavelength, wavelength_of_energy
from indexing_check.backends import NamedList

OTHER_CELLS = {
    "cunir_peaks": "peaklists/cunir.cell",
    "eiger16m_therm": "images/eiger16m_thermolysin/thermolysin.cell",
    "p12m_i23": "images/pilatus6m_thaumatin/thaumatin.cell",
    "jungfrau_module": "images/electron/lysozyme.cell",
    "message_image": "messages/lysozyme.cell",
    "message_om": "messages/thermolysin.cell",
}
"""Cells of lists that CrystFEL made without one, by the beginnings of their names."""

MESSAGE_GEOMETRIES = {
    "message_image": "messages/sim_lysozyme_msgpack.geom",
    "message_om": "messages/cspad_msgpack.geom",
}
ROUNDING = 0.02
"""1/nm between a list's own 1/d and ours, at most: it has two decimals, of positions that have two."""


@dataclass(frozen=True, eq=False)
class RealList(NamedList):
    """Peaks of a real frame, and what the checks of a lattice need.

    Attributes
    ----------
    geometry, detector, wavelength
        Of the frame; Å.
    panel, intensity
        Of each peak.
    """

    geometry: Geometry
    detector: Detector
    wavelength: float
    panel: NDArray[np.int32]
    intensity: NDArray[np.float64]

    def crystals(self, candidates: Sequence[Candidate]) -> tuple[Crystal, ...]:
        """What is left of candidates after refinement and all checks, with the default options.

        Peaks are where their q meet the planes of their panels, perhaps beside the panels.
        """
        ray = self.q + np.array([0.0, 0.0, 1 / self.wavelength])
        place = np.einsum("nij,nj->ni", self.detector.back[self.panel], ray)
        fs, ss = (np.ascontiguousarray(place[:, i] / place[:, 0]) for i in (1, 2))
        peaks = PeakList(fs=fs, ss=ss, panel=self.panel, intensity=self.intensity)
        frame = Frame(
            serial=0, filename=self.name, event="//", image=None, wavelength=self.wavelength,
            photon_energy=energy_of_wavelength(self.wavelength), detector=self.detector,
        )  # fmt: skip
        acceptance = Acceptance(self.geometry, self.cell, IndexOptions(), IntegrationOptions())
        return acceptance.crystals(frame, peaks, candidates)


def real_lists(data: Path) -> list[RealList]:
    """The peak lists that CrystFEL made, each once, of frames whose cell is known; strongest peaks first."""
    lists: dict[bytes, RealList] = {}
    for path in sorted((data / "crystfel_reference").glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            run = json.load(file)
        for one in _of_run(data, path.name.removesuffix(".json.gz"), run):
            lists.setdefault(one.q.tobytes(), one)
    return list(lists.values())


def real_frames(data: Path) -> list[RealList]:
    """Those of real frames with the options that suit them, one list each."""
    chosen = [one for one in real_lists(data) if ".A_" in one.name]
    return [one for one in chosen if not one.name.startswith("message")]


def measured_lysozyme(data: Path) -> list[NamedList]:
    """The thirty lists of ``indexing/real_lysozyme.npz``."""
    with np.load(data / "indexing" / "real_lysozyme.npz") as file:
        z = {name: file[name] for name in file.files}
    a, b, c, al, be, ga = map(float, z["cell"])
    cell = UnitCell(parameters=(a, b, c, al, be, ga))
    parts = np.split(z["q"].astype(float), z["offset"][1:-1])
    return [NamedList(str(name), cell, q, 5e-4) for name, q in zip(z["name"], parts, strict=True)]


def _of_run(data: Path, name: str, run: dict[str, Any]) -> Iterator[RealList]:
    cell, geometry = _cell(data, name, run), _geometry(data, name, run)
    if cell is None:
        return
    for number, frame in enumerate(run["frames"]):
        peaks = frame["peaks"]
        wavelength = wavelength_of_energy(frame["photon_energy_eV"])
        detector = geometry.detector(_clen(data, name, run, geometry, number))
        number_of = {panel.name: i for i, panel in enumerate(geometry.panels)}
        panel = np.array([number_of[peak[4]] for peak in peaks], np.int32)
        position = np.array([peak[:2] for peak in peaks], float).reshape(-1, 2) - detector.origin[panel]
        q = detector.q(panel.astype(np.intp), position[:, 0].copy(), position[:, 1].copy(), wavelength)
        expected = np.array([peak[2] for peak in peaks])
        if len(peaks) and np.abs(10 * np.linalg.norm(q, axis=1) - expected).max() > ROUNDING:
            raise ValueError(f"{name}, {frame['event']}: these are not the resolutions of the list")
        intensity = np.array([peak[3] for peak in peaks], float)
        order = np.argsort(-intensity, kind="stable")
        yield RealList(
            f"{name} {frame['event']}", cell, q[order], shift_sigma(detector, wavelength), geometry, detector,
            wavelength, panel[order], intensity[order],
        )  # fmt: skip


def _by_start(names: dict[str, str], name: str) -> str | None:
    return next((value for start, value in names.items() if name.startswith(start)), None)


def _cell(data: Path, name: str, run: dict[str, Any]) -> UnitCell | None:
    if run.get("cell"):
        return read_cell((data / run["image"]).parent / run["cell"])
    beside = name.split(".")[0]
    with_cell = next((data / "crystfel_reference").glob(f"{beside}.A_xgandalf.json.gz"), None)
    if with_cell:  # the same frames with other options for the peaks
        with gzip.open(with_cell, "rt") as file:
            return _cell(data, name, json.load(file))
    path = _by_start(OTHER_CELLS, name)
    return read_cell(data / path) if path else None


def _geometry(data: Path, name: str, run: dict[str, Any]) -> Geometry:
    if run.get("image"):
        return read_geometry((data / run["image"]).parent / run["geometry"])
    return read_geometry(data / (_by_start(MESSAGE_GEOMETRIES, name) or run["geometry"]))


def _clen(data: Path, name: str, run: dict[str, Any], geometry: Geometry, number: int) -> float:
    look = geometry.clen
    if look.header is None:
        return length_from(look.value, look.unit)
    if run.get("image"):
        with h5py.File(data / run["image"]) as file:
            return length_from(float(file[look.header][number]), look.unit)
    packed = (data / "messages" / f"{name.removeprefix('message_')}.msgpack.gz").read_bytes()
    message = msgpack.unpackb(gzip.decompress(packed))
    values = message[0] if isinstance(message, list) else message
    return length_from(values[look.header], look.unit)
