# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolutions of peaks and places of reflections, to half a unit of the last digit that CrystFEL prints."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from geometry.crystfel_cases import CASES
from geometry.texts import read

from gpuidx.formats.lookup import HeaderLookup
from gpuidx.geometry import read_geometry

FROZEN = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "data" / "geometry_crystfel.json.gz").read_bytes())
)
RECIP = np.array(FROZEN["recip"])

POSITION = 0.005
"""Half of the last digit of a peak's position, px; its 1/d is of the position before rounding."""

ROUNDING = 1e-9


def agree(ours, printed):
    """Whether numbers round to what is printed, within half a unit of the last digit."""
    unit = 10.0 ** -len(printed.partition(".")[2])
    return abs(ours - float(printed)) <= 0.5 * unit * (1 + 1e-6) + ROUNDING


def check(geometry, expected):
    """Compare everything that CrystFEL printed of one frame."""
    values = HeaderLookup(geometry, (), Counter()).read(expected["headers"].__getitem__)
    detector, wavelength = values.detector, values.wavelength
    assert agree(values.photon_energy, expected["photon_energy"])
    assert agree(detector.clen, expected["clen"])
    numbers = {panel.name: number for number, panel in enumerate(geometry.panels)}

    fs, ss = (np.array([float(peak[i]) for peak in expected["peaks"]]) for i in (0, 1))
    panel = np.array([numbers[peak[3]] for peak in expected["peaks"]])
    fs, ss = fs - detector.origin[panel, 0], ss - detector.origin[panel, 1]
    inv_d = 10 * np.linalg.norm(detector.q(panel, fs, ss, wavelength), axis=1)  # nm⁻¹, as printed
    about = np.zeros(len(fs))
    for d_fs, d_ss in ((POSITION, 0.0), (0.0, POSITION)):
        moved = detector.q(panel, fs + d_fs, ss + d_ss, wavelength)
        about += np.abs(10 * np.linalg.norm(moved, axis=1) - inv_d)
    theirs = np.array([float(peak[2]) for peak in expected["peaks"]])
    assert np.all(np.abs(inv_d - theirs) <= 0.005 + about + ROUNDING)

    for *hkl, at_fs, at_ss, name in expected["reflections"]:
        ray = np.array(hkl) @ RECIP + (0.0, 0.0, 1 / wavelength)
        mu, mu_fs, mu_ss = detector.back[numbers[name]] @ ray
        assert mu > 0
        ours = np.array([mu_fs, mu_ss]) / mu + detector.origin[numbers[name]]
        assert agree(ours[0], at_fs), (hkl, ours, at_fs)
        assert agree(ours[1], at_ss), (hkl, ours, at_ss)
    return len(expected["peaks"]), len(expected["reflections"])


@pytest.mark.parametrize("name", CASES)
def test_made_up_detectors_are_where_crystfel_has_them(name):
    text, headers = CASES[name]
    assert headers == FROZEN["made up"][name]["headers"]
    n_peak, n_reflection = check(read(text), FROZEN["made up"][name])
    assert n_peak >= 30
    assert n_reflection >= 40


@pytest.mark.parametrize("name", FROZEN["files"])
def test_real_detectors_are_where_crystfel_has_them(data_folder, name):
    n_peak, n_reflection = check(read_geometry(data_folder / "geoms" / name), FROZEN["files"][name])
    assert n_peak >= 10
    assert n_reflection >= 40


def test_ten_real_detectors_were_compared():
    assert len(FROZEN["files"]) >= 10
