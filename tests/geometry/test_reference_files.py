# SPDX-License-Identifier: GPL-3.0-or-later
"""Real geometry files: what CrystFEL 0.12 makes of each, and what we make of it."""

import contextlib
import csv
import gzip
import math
import re
import time

import numpy as np
import pytest

from gpuidx.errors import GeometryError
from gpuidx.geometry import length_from, parse_geometry, read_geometry, wavelength_from
from gpuidx.geometry.masks import Masks


def verdicts(folder):
    with (folder / "geoms" / "crystfel_verdicts.tsv").open(newline="") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def loaded(folder):
    """Verdict and geometry of every file that loads."""
    for row in verdicts(folder):
        if row["verdict"] == "loads":
            yield row, read_geometry(folder / "geoms" / row["file"])


def test_there_are_verdicts_of_all_files(data_folder):
    assert sorted(row["file"] for row in verdicts(data_folder)) == sorted(
        path.name for path in (data_folder / "geoms").glob("*.geom")
    )


def test_files_load_or_are_refused_as_by_crystfel(data_folder):
    different = []
    for row in verdicts(data_folder):
        try:
            read_geometry(data_folder / "geoms" / row["file"])
            verdict = "loads"
        except GeometryError:
            verdict = "refused"
        if verdict != row["verdict"]:
            different.append((row["file"], verdict))
    assert different == []


REASONS = {
    "must specify the wavelength": "no wavelength; give",
    "must specify the camera length": "no camera length; give",
    "Please specify either adu_per_eV": "no adu_per_photon or adu_per_eV",
    "Please specify the pixel size": "no res; expected",
    "good/bad bits for mask": "good or bad bits for mask0",
    "Panel not specified for bad region": "names no panel; give its panel",
    "No panel X in geometry file": "no panels; expected",
    "'clen' is a top-level property": "clen holds for the whole detector",
    "statements at the end": "stands after the last panel",
    "does not have dimensions": "its dimensions lack fs or ss",
}


def test_refusals_name_the_same_reasons(data_folder):
    for row in verdicts(data_folder):
        if row["verdict"] == "loads":
            continue
        path = data_folder / "geoms" / row["file"]
        with pytest.raises(GeometryError) as caught:
            read_geometry(path)
        text = str(caught.value)
        assert re.match(rf"{re.escape(str(path))}:[0-9]+: ", text)
        for theirs, ours in REASONS.items():
            if theirs in row["distinct_messages"] or theirs in row["first_warning_line"]:
                assert ours in text, (row["file"], theirs)


def test_no_file_takes_a_second(data_folder):
    for row in verdicts(data_folder):
        begin = time.process_time()
        with contextlib.suppress(GeometryError):
            read_geometry(data_folder / "geoms" / row["file"])
        assert time.process_time() - begin < 1.0, row["file"]


def test_panels_wavelength_and_camera_length_are_those_of_crystfel(data_folder):
    checked = 0
    for row, geometry in loaded(data_folder):
        assert len(geometry.panels) == int(row["panels"])
        lookup = geometry.wavelength
        wavelength = math.nan
        if lookup.value is not None:
            wavelength = wavelength_from(geometry.wavelength_kind, lookup.value, lookup.unit)
        assert wavelength * 1e-10 == pytest.approx(float(row["wavelength_m"]), rel=1e-5, nan_ok=True), row[
            "file"
        ]
        if not math.isnan(float(row["clen_m"])):
            clen = length_from(geometry.clen.value, geometry.clen.unit)
            assert geometry.detector(clen).clen == pytest.approx(float(row["clen_m"]), abs=1e-6), row["file"]
            checked += 1
    assert checked > 40


def test_slabs_are_those_of_crystfel(data_folder):
    compared = 0
    for row, geometry in loaded(data_folder):
        if row["slab_fs_x_ss"] != "not-slab" and len(geometry.arrays) == 1:
            width, height = map(int, row["slab_fs_x_ss"].split("x"))
            assert geometry.slab_shape == (height, width), row["file"]
            compared += 1
    assert compared >= 15


def test_every_panel_has_its_own_part_of_the_slab(data_folder):
    for row, geometry in loaded(data_folder):
        used = np.zeros(geometry.slab_shape, np.uint8)
        for p in geometry.panels:
            used[p.slab_y : p.slab_y + p.height, p.slab_x : p.slab_x + p.width] += 1
        assert used.max() == 1, row["file"]


def test_masks_can_be_drawn_for_every_file(data_folder):
    for row, geometry in loaded(data_folder):
        detector = geometry.detector(0.123 - np.mean([p.coffset for p in geometry.panels]))
        used = ~Masks(geometry, 1.5, read_masks=False).at(detector, 1.2)
        assert used.any(), row["file"]
        ss, fs = (index[:: max(1, len(index) // 2000)] for index in np.nonzero(used))
        x0, y0, width, height = detector.rect.T
        inside = (fs >= x0[:, None]) & (fs < (x0 + width)[:, None])
        inside &= (ss >= y0[:, None]) & (ss < (y0 + height)[:, None])
        number = inside.argmax(axis=0)
        assert inside.any(axis=0).all()
        q = detector.q(number, (fs - x0[number]).astype(float), (ss - y0[number]).astype(float), 1.2)
        assert np.linalg.norm(q, axis=1).max() < 1 / 1.5


@pytest.mark.parametrize("folder", ["images/*", "messages", "peaklists"])
def test_geometries_of_frames_load(data_folder, folder):
    paths = sorted(data_folder.glob(folder + "/*.geom"))
    assert paths
    for path in paths:
        geometry = read_geometry(path)
        assert geometry.text == path.read_text(), path
        assert not [warning for warning in geometry.warnings if "unknown field" in warning], path


def test_geometries_within_streams_load(data_folder):
    paths = sorted(data_folder.glob("streams/**/*.stream.gz"))
    assert len(paths) >= 9
    for path in paths:
        with gzip.open(path, "rt") as stream:
            head = stream.read(2**20)
        text = head.partition("----- Begin geometry file -----\n")[2].partition("----- End geometry")[0]
        geometry = parse_geometry(text, path.name)
        panels = {line.split()[-1] for line in head.split("\n") if line.count(".") == 4 and "=" not in line}
        assert geometry.panels
        assert panels & {p.name for p in geometry.panels}, path
