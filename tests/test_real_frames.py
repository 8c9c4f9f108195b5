# SPDX-License-Identifier: GPL-3.0-or-later
"""Real frames give what CrystFEL gives: lattices, explained peaks, intensities."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from reference import (
    PEAK_OPTIONS,
    best_setting,
    correlation,
    crystal_of,
    lab,
    load,
    panel_numbers,
    shares,
)

from gpuidx.arguments import parse
from gpuidx.cell import read_cell
from gpuidx.geometry import Geometry, read_geometry
from gpuidx.model import Message, Result
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline
from gpuidx.stream.reader import read_stream


class Case(NamedTuple):
    """Frames of one file."""

    name: str
    files: str
    geometry: str
    cell: str
    n_frame: int
    engines: tuple[str, ...]


INDEXED = [
    Case("cspad_thermolysin", "cspad_thermolysin/cspad_thermolysin", "cspad_thermolysin/cspad_thermolysin",
         "cspad_thermolysin/thermolysin", 2, ("asdf", "xgandalf")),
    Case("thaumatin_grid", "pilatus6m_thaumatin/thaumatin_grid", "pilatus6m_thaumatin/thaumatin_h5",
         "pilatus6m_thaumatin/thaumatin", 2, ("asdf", "xgandalf")),
    Case("rayonix", "rayonix_mx340/rayonix", "rayonix_mx340/rayonix", "rayonix_mx340/rayonix", 1,
         ("xgandalf",)),
    Case("sim_lysozyme_ed", "electron/sim_lysozyme_ed", "electron/sim_lysozyme_ed", "electron/lysozyme", 1,
         ("xgandalf",)),
]  # fmt: skip
NOT_INDEXED = [
    Case("timepix512", "electron/timepix512", "electron/timepix512", "electron/lysozyme", 1, ()),
    Case("jungfrau_module", "jungfrau_module/jungfrau_module", "jungfrau_module/jungfrau_module",
         "electron/lysozyme", 2, ()),
]  # fmt: skip
FRAMES = [pytest.param(case, n, id=f"{case.name}-{n}") for case in INDEXED for n in range(case.n_frame)]
OTHERS = [pytest.param(case, n, id=f"{case.name}-{n}") for case in NOT_INDEXED for n in range(case.n_frame)]


@cache
def processed(folder: Path, case: Case, number: int, *more: str) -> tuple[Geometry, Result]:
    """One frame on its whole way, with the options that the reference used, and *more*."""
    images = folder / "images"
    words = [
        "-g",
        f"{images / case.geometry}.geom",
        "-p",
        f"{images / case.cell}.cell",
        "-i",
        "list",
        "-o",
        "out",
    ]
    words += ["--peaks=peakfinder8", "--int-radius=3,4,5", *PEAK_OPTIONS[case.name].split(), *more]
    options = parse(Options, words, "test", "")
    geometry = read_geometry(options.geometry)
    pipeline = Pipeline(options, geometry, read_cell(str(options.pdb)))
    message = Message(
        serial=1, filename=f"{images / case.files}.h5", event=f"//{number}", data=memoryview(b"")
    )
    return geometry, pipeline.process(message, memoryview(bytearray(4 << 20))).result


@pytest.mark.parametrize(("case", "number"), FRAMES)
def test_frame_indexes_with_crystfels_cell_and_orientation(
    data_folder: Path, case: Case, number: int
) -> None:
    _, result = processed(data_folder, case, number)
    assert len(result.crystals) == 1
    ours = result.crystals[0].recip
    angles, differences = [], []
    for engine in case.engines:
        theirs = crystal_of(load(data_folder, f"{case.name}.A_{engine}")["frames"][number])
        assert theirs is not None
        M, angle = best_setting(ours, theirs.recip)
        lengths = np.linalg.norm(np.linalg.inv(M @ ours), axis=0)
        angles.append(angle)
        differences.append(np.abs(lengths / theirs.lengths - 1).max())
    assert min(differences) <= 0.003
    assert min(angles) <= 0.15


@pytest.mark.parametrize(("case", "number"), FRAMES)
def test_predictions_explain_as_many_peaks_as_crystfels(data_folder: Path, case: Case, number: int) -> None:
    geometry, result = processed(data_folder, case, number)
    spots = result.crystals[0].reflections
    assert spots is not None
    detector, peaks = result.frame.detector, result.peaks
    found = lab(detector, peaks.fs, peaks.ss, peaks.panel)
    ours, chance = shares(found, lab(detector, spots.fs, spots.ss, spots.panel))
    with read_stream(data_folder / "streams/from_frames" / f"{case.name}.stream.gz") as stream:
        chunk = list(stream.chunks)[number]
    reflections = chunk.crystals[0].reflections
    assert reflections is not None
    panel = panel_numbers(reflections["panel"], [p.name for p in geometry.panels])
    origin = detector.origin[panel]
    theirs, their_chance = shares(
        found, lab(detector, reflections["fs"] - origin[:, 0], reflections["ss"] - origin[:, 1], panel)
    )
    assert ours >= theirs - 2
    # electrons: the Ewald sphere is nearly flat, so g and -g reflect together, in CrystFEL's result too
    assert chance <= (2 if case.name != "sim_lysozyme_ed" else their_chance + 2)


@pytest.mark.parametrize(("case", "number"), FRAMES)
def test_intensities_correlate_with_crystfels(data_folder: Path, case: Case, number: int) -> None:
    _, result = processed(data_folder, case, number)
    crystal = result.crystals[0]
    assert crystal.reflections is not None
    values = []
    for engine in case.engines:
        theirs = crystal_of(load(data_folder, f"{case.name}.A_{engine}")["frames"][number])
        assert theirs is not None
        value, n_common = correlation(
            crystal.reflections.hkl, crystal.reflections.intensity, crystal.recip, theirs
        )
        assert n_common > 0.7 * len(theirs.intensity)
        values.append(value)
    assert max(values) >= 0.99


@pytest.mark.parametrize(("case", "number"), FRAMES)
def test_given_orientation_gives_crystfels_reflections(
    data_folder: Path, tmp_path: Path, case: Case, number: int
) -> None:
    theirs = load(data_folder, f"{case.name}.A_{case.engines[0]}")["frames"][number]["crystals"][0]
    axes = " ".join(f"{x:.7f}" for name in ("astar", "bstar", "cstar") for x in theirs[name])
    cell = read_cell(data_folder / "images" / f"{case.cell}.cell")
    symbol = cell.lattice_type[0] + cell.centering + cell.unique_axis.strip("*")
    name = data_folder / "images" / f"{case.files}.h5"
    (tmp_path / "given").write_text(f"{name} //{number} {axes} 0 0 {symbol}\n")
    given = ("--indexing=file", f"--fromfile-input-file={tmp_path}/given", "--no-refine")
    _, result = processed(data_folder, case, number, *given)
    crystal, reference = result.crystals[0], crystal_of({"crystals": [theirs]})
    assert reference is not None
    assert crystal.reflections is not None
    np.testing.assert_allclose(crystal.recip, reference.recip, rtol=0, atol=1e-9)
    ours = dict(zip(map(tuple, crystal.reflections.hkl.tolist()), crystal.reflections.intensity, strict=True))
    assert len(ours) == pytest.approx(theirs["num_reflections"], rel=0.01)
    common = ours.keys() & reference.intensity.keys()
    assert len(common) >= 0.98 * len(reference.intensity)
    same = [abs(ours[hkl] - reference.intensity[hkl]) < 0.006 for hkl in common]
