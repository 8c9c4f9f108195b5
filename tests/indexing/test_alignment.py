# SPDX-License-Identifier: GPL-3.0-or-later
"""Records for alignment of the detector: CrystFEL's numbers, and derivatives that hold."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from indexing.stills import CLEN, TILTED, WAVELENGTH, geometry_of, make_still
from millepede import measurements

from gpuidx.cell import UnitCell
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.indexing import pairing
from gpuidx.indexing.alignment import AlignmentRecords
from gpuidx.indexing.observed import peaks_of
from gpuidx.indexing.solutions import lattice_of
from gpuidx.indexing.strain import Constraint, free_constraint
from gpuidx.model import Frame, PeakList

FROZEN = json.loads(gzip.decompress((Path(__file__).parents[1] / "data/mille_crystfel.json.gz").read_bytes()))
GROUPS = "group_right = b,c\ngroup_left = a\ngroup_all = left,right\n"
TYPE_OF_H = {"hPc": 2, "tPc": 2, "tPb": 1, "mCb": 1}


def frame_of(geometry: Geometry) -> Frame:
    return Frame(
        serial=1, filename="made", event="//", image=None, wavelength=WAVELENGTH, photon_energy=9537.0,
        detector=geometry.detector(CLEN),
    )  # fmt: skip


def constraint_of(symbol: str, axes) -> Constraint:
    cell = lattice_of(symbol)
    return replace(free_constraint(axes), lattice_type=cell.lattice_type, unique=TYPE_OF_H.get(symbol, 0))


def words(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Values and labels of the only record."""
    found = np.frombuffer(data, np.int32)
    n = found[0] // 2
    assert len(found) == 1 + 2 * n
    return found[1 : 1 + n].view(np.float32), found[1 + n :]


@pytest.mark.parametrize("case", FROZEN["cases"], ids=lambda case: case["lattice"])
def test_record_is_crystfels_for_the_same_lattice(case) -> None:
    geometry = parse_geometry(FROZEN["geometry"], "frozen.geom")
    frame = frame_of(geometry)
    panel = np.array(case["panel"], np.int32)
    origin = frame.detector.origin[panel]
    peaks = PeakList(
        fs=np.array(case["fs"]) - origin[:, 0], ss=np.array(case["ss"]) - origin[:, 1], panel=panel,
        intensity=np.ones(len(panel)),
    )  # fmt: skip
    given, refined = (np.array(case[name]).reshape(3, 3) / 10 for name in ("given", "refined"))
    axes = np.ascontiguousarray(np.linalg.inv(given).T)
    view = peaks_of(frame, peaks, geometry.bandwidth)
    pairs = pairing.pair_peaks(view, axes, given)
    records = AlignmentRecords(geometry, case["level"])
    value, label = words(
        records.record(frame.detector, view, pairs, refined, constraint_of(case["lattice"], axes))
    )
    np.testing.assert_array_equal(label, case["label"])
    # residuals in px and ERROR_WEIGHT Å⁻¹, derivatives of very different sizes
    theirs = np.array(case["value"])
    measured = np.flatnonzero(label == 0)
    np.testing.assert_allclose(value[measured], theirs[measured], rtol=0, atol=2e-3)
    np.testing.assert_allclose(value, theirs, rtol=2e-4, atol=2e-3)
    small = (np.abs(theirs) < 1e-3) & (label > 0)  # lengths of axes, per m⁻¹
    np.testing.assert_allclose(value[small], theirs[small], rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize("movement", [1, 2, 3])
def test_derivatives_of_a_shift_are_what_a_shift_does(movement: int) -> None:
    geometry = geometry_of(TILTED + GROUPS)
    still = make_still(geometry, UnitCell(parameters=(60.0, 70.0, 80.0, 85.0, 95.0, 100.0)), 1)
    recip = np.ascontiguousarray(np.linalg.inv(still.axes[0]).T)
    axes = np.ascontiguousarray(still.axes[0])
    step = np.zeros(3)
    step[movement - 1] = 1e-6
    spots = []
    for detector in (still.frame.detector, geometry.detector(CLEN + step[2], *step[:2])):
        view = peaks_of(replace(still.frame, detector=detector), still.peaks, 0.0)
        pairs = pairing.pair_peaks(peaks_of(still.frame, still.peaks, 0.0), axes, recip)
        data = AlignmentRecords(geometry, 0).record(detector, view, pairs, recip, free_constraint(axes))
        spots.append(table_of(data, movement))
    (before, slope), (after, _) = spots
    np.testing.assert_allclose((after - before) / 1e-6, slope, rtol=1e-3, atol=0.02 * np.abs(slope).max())


def table_of(data: bytes, label: int) -> np.ndarray:
    """Residuals in fs and ss, and their derivatives by one movement, (2, measurement)."""
    found = [one for one in measurements(data) if one.movement]
    return np.array([[one.value, one.movement.get(label, 0.0)] for one in found]).T


def test_crystals_whose_peaks_do_not_determine_them_have_no_record() -> None:
    geometry = geometry_of(TILTED + GROUPS)
    still = make_still(geometry, UnitCell(parameters=(60.0, 70.0, 80.0, 85.0, 95.0, 100.0)), 1)
    axes = np.ascontiguousarray(still.axes[0])
    recip = np.ascontiguousarray(np.linalg.inv(axes).T)
    records, view = AlignmentRecords(geometry, 0), peaks_of(still.frame, still.peaks, 0.0)
    pairs = pairing.pair_peaks(view, axes, recip)

    def record(chosen) -> bytes:
        some = pairing.Pairs(pairs.peak[chosen], pairs.hkl[chosen], pairs.error[chosen])
        return records.record(still.frame.detector, view, some, recip, free_constraint(axes))

    assert len(measurements(record(np.arange(5)))) == 15
    assert record(np.arange(4)) == b""
    assert record(np.zeros(20, int)) == b""
