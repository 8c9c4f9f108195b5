# SPDX-License-Identifier: GPL-3.0-or-later
"""Real frames: every list of peaks that CrystFEL's peakfinder8 made of them, to every printed digit."""

import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers HDF5 filters)
import numpy as np
import pytest
from backends.peakfinder8_frozen import printed
from backends.ways import WAYS, finder
from fabio.cbfimage import CbfImage
from thorough import thorough

from gpuidx.geometry import Geometry, Lookup, length_from, read_geometry, wavelength_from
from gpuidx.geometry.masks import Masks
from gpuidx.model import Frame
from gpuidx.options import PeakOptions

LISTS = [
    "cspad_thermolysin.A_asdf", "cspad_thermolysin.A_xgandalf", "cspad_thermolysin.peaks_B",
    "cspad_thermolysin.peaks_C", "eiger16m_therm.A_none", "eiger16m_therm.peaks_B", "jungfrau_module.A_none",
    "jungfrau_module.peaks_B", "p12m_i23.A_none", "p12m_i23.peaks_B", "rayonix.A_asdf", "rayonix.A_xgandalf",
    "rayonix.peaks_B", "rayonix.peaks_C", "sim_lysozyme_ed.A_asdf", "sim_lysozyme_ed.A_xgandalf",
    "sim_lysozyme_ed.peaks_B", "thau_3_2_0001.A_asdf", "thau_3_2_0001.A_xgandalf", "thaumatin_grid.A_asdf",
    "thaumatin_grid.A_xgandalf", "thaumatin_grid.peaks_B", "thaumatin_grid.peaks_C", "timepix512.A_none",
    "timepix512.peaks_B",
]  # fmt: skip

LONG = ("thaumatin_grid.peaks_B", "thaumatin_grid.peaks_C", "p12m_i23.peaks_B", "cspad_thermolysin.peaks_C")
"""With frames that other lists have, too."""

LONG_ON_DEVICE = ("eiger16m_therm.A_none", "eiger16m_therm.peaks_B", "p12m_i23.A_none")
"""Frames that the emulator needs long for; `scripts/gpu-check` compares such frames on a device."""


def read_frames(path: Path, geometry: Geometry) -> Iterator[tuple[str, np.ndarray, dict[str, float]]]:
    """Event, image and header values of each frame of an HDF5 or gzipped CBF file."""
    if path.name.endswith("cbf.gz"):
        image = CbfImage()
        image.read(io.BytesIO(gzip.decompress(path.read_bytes())))
        yield "//", np.ascontiguousarray(image.data), {}
        return
    with h5py.File(path) as file:
        data = file[geometry.panels[0].data]
        names = [look.header for look in (geometry.wavelength, geometry.clen) if look.header]
        for number in range(len(data)):
            yield f"//{number}", data[number], {name: float(file[name][number]) for name in names}


def value_of(look: Lookup, headers: dict[str, float]) -> float:
    return look.value if look.header is None else headers[look.header]


def as_frame(geometry: Geometry, image: np.ndarray, headers: dict[str, float]) -> Frame:
    wavelength = wavelength_from(
        geometry.wavelength_kind, value_of(geometry.wavelength, headers), geometry.wavelength.unit
    )
    clen = length_from(value_of(geometry.clen, headers), geometry.clen.unit)
    slab = np.zeros(geometry.slab_shape, image.dtype)
    slab[...] = image[: slab.shape[0], : slab.shape[1]]
    return Frame(
        serial=1, filename="", event="//", image=slab, wavelength=wavelength, photon_energy=1.0,
        detector=geometry.detector(clen),
    )  # fmt: skip


def options_of(command: str) -> PeakOptions:
    kinds = {"threshold": float, "min_snr": float, "min_pix_count": int, "max_pix_count": int,
             "local_bg_radius": int, "min_res": int, "max_res": int}  # fmt: skip
    given = {name.replace("-", "_"): text for name, text in re.findall(r"--([a-z-]+)=(\S+)", command)}
    return PeakOptions(peaks="peakfinder8", **{k: kind(given[k]) for k, kind in kinds.items() if k in given})


@pytest.mark.data
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=thorough if name in LONG else ()) for name in LISTS]
)
def test_real_frames_give_the_peaks_of_crystfel_in_all_ways(name: str, data_folder: Path) -> None:
    expected = json.loads(
        gzip.decompress((data_folder / "crystfel_reference" / f"{name}.json.gz").read_bytes())
    )
    path = data_folder / expected["image"]
    geometry = read_geometry(path.parent / expected["geometry"])
    masks = Masks(geometry)
    lists = {frame["event"]: frame for frame in expected["frames"]}
    options = options_of(expected["command"])
    ways = ("packed", "lanes") if name in LONG_ON_DEVICE else WAYS
    if name.replace("xgandalf", "asdf") in set(LISTS) - {name}:  # the same frames and options all over again
        ways = ("packed",)
    finders = [finder(way, geometry, options, masks) for way in ways]
    checked = 0
    for event, image, headers in read_frames(path, geometry):
        if event not in lists:
            continue
        frame = as_frame(geometry, image, headers)
        resolution = f"{lists[event]['peak_resolution_invnm']:f}"
        table = [f"{a:7.2f} {b:7.2f} {c:10.2f}  {d:10.2f}   {e}" for a, b, c, d, e in lists[event]["peaks"]]
        for find in finders:
            head, *lines = printed(geometry, frame, find(frame))
            assert lines == table
            assert head.split()[2] == resolution
        checked += 1
    assert checked == len(lists)


@pytest.mark.data
def test_all_lists_of_peakfinder8_are_tested(data_folder: Path) -> None:
    made = [
        path.name.removesuffix(".json.gz")
        for path in (data_folder / "crystfel_reference").glob("*.json.gz")
        if (run := json.loads(gzip.decompress(path.read_bytes()))).get("image")
        and "peakfinder8" in run["command"]
    ]
    assert sorted(made) == LISTS
