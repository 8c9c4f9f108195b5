# SPDX-License-Identifier: GPL-3.0-or-later
"""Real frames give what CrystFEL gives: lattices, explained peaks, intensities."""

import gzip
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgpack
import numpy as np
import pytest
from live import Done, Server, finish, start
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
from thorough import sample

from gpuidx.arguments import parse
from gpuidx.cell import UnitCell, parse_cell, read_cell
from gpuidx.geometry import Geometry, parse_geometry, read_geometry
from gpuidx.lattice import primitive_axes, same_lattice
from gpuidx.model import Message, Result
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline
from gpuidx.stream.reader import read_stream
from gpuidx.stream.records import StreamChunk


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
    assert np.mean(same) > 0.98


@pytest.mark.parametrize(("case", "number"), OTHERS)
def test_frame_that_does_not_index_is_unindexed_or_half_explained(
    data_folder: Path, case: Case, number: int
) -> None:
    _, result = processed(data_folder, case, number)
    for crystal in result.crystals:
        peaks = result.peaks
        q = result.frame.detector.q(peaks.panel, peaks.fs, peaks.ss, result.frame.wavelength)
        rest = q @ np.linalg.inv(crystal.recip)
        assert np.mean(np.abs(rest - np.rint(rest)).max(axis=1) < 0.25) >= 0.5


PF8 = ["--peaks=peakfinder8", *PEAK_OPTIONS["sim_lysozyme_ed"].split()]
MESSAGES = {
    "image_f4_array_of_one_map": ["--peaks=msgpack"],
    "image_i4_msgpack_numpy": ["--peaks=msgpack", "--no-revalidate"],
    "image_i4_strkeys": PF8,
    "image_u2_strkeys": ["--peaks=msgpack", "--no-revalidate"],
}
"""Messages and the options of the reference."""


def live(
    folder: Path, data: Path, kind: str, names: list[str], geometry: str, cell: str, *words: str
) -> Done:
    """Messages of the reference data through the whole program."""
    messages = [gzip.decompress((data / "messages" / f"{name}.msgpack.gz").read_bytes()) for name in names]
    for name, target in ((geometry, "test.geom"), (cell, "test.cell")):
        (folder / target).write_bytes((data / "messages" / name).read_bytes())
    with Server(kind, messages) as server:
        source = ["--zmq-subscribe="] if kind == "pub" else ["--zmq-request=next", "--zmq-requests=1"]
        return finish(
            start(folder, f"--zmq-input={server.address}", *source, f"--max-frames={len(messages)}", *words),
            folder,
        )


def check_lattice(chunk: StreamChunk, frame: dict) -> None:
    theirs = crystal_of(frame)
    assert theirs is not None
    assert len(chunk.crystals) == 1
    assert chunk.crystals[0].recip is not None
    _, angle = best_setting(chunk.crystals[0].recip, theirs.recip)
    assert angle <= 0.15


@pytest.mark.parametrize(
    ("kind", "name"),
    sample(
        [*(("rep", name) for name in MESSAGES), ("router", "image_i4_strkeys"), ("pub", "image_i4_strkeys")],
        3,
    ),
)
def test_served_image_message_gives_crystfels_peaks_and_lattice(
    data_folder: Path, tmp_path: Path, kind: str, name: str
) -> None:
    done = live(
        tmp_path,
        data_folder,
        kind,
        [name],
        "sim_lysozyme_msgpack.geom",
        "lysozyme.cell",
        *MESSAGES[name],
    )
    assert done.code == 0, done.log
    (chunk,) = done.chunks
    frame = load(data_folder, f"message_{name}")["frames"][0]
    theirs = np.array([row[:4] for row in frame["peaks"]])
    peaks = chunk.peaks
    ours = np.stack([peaks["fs"], peaks["ss"], 10 * peaks["inv_d"], peaks["intensity"]], axis=1)
    np.testing.assert_allclose(ours[:, [0, 1, 3]], theirs[:, [0, 1, 3]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=0, atol=0.0101)
    check_lattice(chunk, frame)
    # the u2 image reads as zero in CrystFEL: the intensities are those of the same image as i4
    from_pixels = crystal_of(load(data_folder, "message_image_i4_strkeys")["frames"][0])
    table, recip = chunk.crystals[0].reflections, chunk.crystals[0].recip
    assert from_pixels is not None
    assert table is not None
    assert recip is not None
    hkl = np.stack([table["h"], table["k"], table["l"]], axis=1)
    value, n_common = correlation(hkl, table["intensity"], recip, from_pixels)
    assert value >= 0.99
    assert n_common > 350


@pytest.mark.parametrize("kind", sample(["rep", "router", "pub"], 3))
def test_served_peak_messages_of_om_index_without_reflections(
    data_folder: Path, tmp_path: Path, kind: str
) -> None:
    names = ["om_peaks_cspad_0", "om_peaks_cspad_1"]
    done = live(
        tmp_path,
        data_folder,
        kind,
        names,
        "cspad_msgpack.geom",
        "thermolysin.cell",
        "--peaks=msgpack",
        "--no-image-data",
        "--no-revalidate",
    )
    assert done.code == 0, done.log
    first, second = sorted(done.chunks, key=lambda c: c.serial)
    check_lattice(first, load(data_folder, "message_om_peaks_cspad_0")["frames"][0])
    assert len(second.peaks) == 94
    assert all(crystal.reflections is None for chunk in done.chunks for crystal in chunk.crystals)


def test_crystals_of_a_real_stream_index_again_from_its_peaks(data_folder: Path, tmp_path: Path) -> None:
    with read_stream(data_folder / "streams/crystfel_tests_5HT2B_xgandalf_0.9.1.stream.gz") as stream:
        chunks = [chunk for chunk in stream.chunks if chunk.crystals]
        geometry_text, cell_text = stream.geometry, stream.cell
    (tmp_path / "test.geom").write_text(geometry_text)
    (tmp_path / "test.cell").write_text(cell_text)
    geometry, cell = parse_geometry(geometry_text, "test.geom"), parse_cell(cell_text, "test.cell")
    messages = [msgpack.packb(_peak_message(chunk, geometry)) for chunk in chunks]
    with Server("rep", messages) as server:
        done = finish(
            start(
                tmp_path,
                *server.request,
                "--zmq-requests=1",
                f"--max-frames={len(messages)}",
                "--peaks=msgpack",
                "--no-image-data",
                "--no-revalidate",
                "--no-mask-data",
                "--no-half-pixel-shift",
            ),
            tmp_path,
        )
    assert done.code == 0, done.log
    again = sum(
        _same(old, new, cell)
        for old, new in zip(chunks, sorted(done.chunks, key=lambda c: c.serial), strict=True)
    )
    assert len(chunks) == 25
    assert again >= 24


def _peak_message(chunk: StreamChunk, geometry: Geometry) -> dict:
    peaks = {name: chunk.peaks[name].tolist() for name in ("fs", "ss", "intensity")}
    clen = chunk.camera_length - geometry.panels[0].coffset
    return {
        str(geometry.wavelength.header): chunk.photon_energy,
        str(geometry.clen.header): 1e3 * clen,
        str(geometry.peak_list): peaks,
    }


def _same(old: StreamChunk, new: StreamChunk, cell: UnitCell) -> bool:
    if not new.crystals:
        return False
    pair = (new.crystals[0].recip, old.crystals[0].recip)
    axes = [primitive_axes(np.linalg.inv(recip).T, cell.centering) for recip in pair if recip is not None]
    found, angle = same_lattice(*axes)
    return found or angle < 1.2
