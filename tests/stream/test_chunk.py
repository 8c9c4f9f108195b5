# SPDX-License-Identifier: GPL-3.0-or-later
"""One chunk: CrystFEL's lines, and what is refused."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from gpuidx import __version__
from gpuidx.errors import Rejected
from gpuidx.options import OutputOptions
from gpuidx.stream.chunk import ChunkWriter


def lines_of(geometry, result, **options):
    buffer = bytearray(1 << 20)
    size = ChunkWriter(geometry, OutputOptions(**options), divergence=0.001).write(result, memoryview(buffer))
    return buffer[:size].decode().split("\n")


def test_lines_of_a_chunk_are_those_of_crystfel(geometry, make):
    lines = lines_of(geometry, make(1, n_peak=1, n_reflection=1))
    numbers = [line for line in lines if line[:1] in " 0123456789" and line[:1]]
    assert [line for line in lines if line not in numbers or line.startswith(("  fs", "   h"))][:21] == [
        "----- Begin chunk -----",
        "Image filename: ZMQdata",
        "Event: //7",
        "Image serial number: 7",
        "hit = 0",
        "indexed_by = file",
        "n_indexing_tries = 2",
        f"gpuidx/indexer = gpuidx {__version__}",
        "photon_energy_eV = 9537.240000",
        "beam_divergence = 1.00e-03 rad",
        "beam_bandwidth = 2.00e-03 (fraction)",
        "header/float/beam_energy = 9537.240000",
        "header/float/detector_distance = 104.000000",
        "header/int/frame_number = 12",
        "header/str/source = sim",
        "average_camera_length = 0.104000 m",
        "num_peaks = 1",
        lines[17],
        "Peaks from peak search",
        "  fs/px   ss/px (1/d)/nm^-1   Intensity  Panel",
        "End of peak list",
    ]


def test_crystal_ends_as_that_of_crystfel(geometry, make):
    lines = lines_of(geometry, make(2, n_reflection=2))
    crystal = lines[lines.index("--- Begin crystal") :]
    names = [line.split(" = ")[0] for line in crystal]
    assert names[1].startswith("Cell parameters ")
    assert names[2:16] == [
        "astar", "bstar", "cstar", "lattice_type", "centering", "unique_axis", "profile_radius",
        "predict_refine/initial_residual", "predict_refine/final_residual", crystal[11].split(" = ")[0],
        "gpuidx/score", "diffraction_resolution_limit", "num_reflections", "num_saturated_reflections",
    ]  # fmt: skip
    assert crystal[10] == "predict_refine/final_residual = 1.500000 (0.500000 0.625000 0.375000)"
    assert crystal[11].startswith("predict_refine/det_shift x = ")
    assert crystal[11].endswith("y = 0.000 mm")
    assert crystal[-4:] == ["End of reflections", "--- End crystal", "----- End chunk -----", ""]


def test_crystals_from_a_file_have_no_score_and_no_indexer(geometry, make):
    result = make(2, n_crystal=2)
    given = replace(result, crystals=tuple(replace(crystal, score=None) for crystal in result.crystals))
    found, there = (lines_of(geometry, one) for one in (result, given))
    left_out = [line for line in found if line.startswith(("gpuidx/indexer", "gpuidx/score"))]
    assert len(left_out) == 3
    assert there == [line for line in found if line not in left_out]
    assert "indexed_by = file" in there


def test_unindexed_frame_has_no_crystal_and_says_none(geometry, make):
    lines = lines_of(geometry, make(3, n_crystal=0))
    assert "indexed_by = none" in lines
    assert not any(line.startswith(("n_indexing_tries", "gpuidx/", "--- ")) for line in lines)


def test_positions_are_those_in_the_data_array(geometry, make):
    result = make(4, n_peak=3, n_reflection=3)
    lines = lines_of(geometry, result)
    peak = lines[lines.index("Peaks from peak search") + 2].split()
    panel = result.peaks.panel[0]
    assert float(peak[1]) == pytest.approx(result.peaks.ss[0] + 256 * panel, abs=0.005)
    assert peak[4] == ("p0", "q1a1")[panel]
    reflections = result.crystals[0].reflections
    line = lines[lines.index("Reflections measured after indexing") + 2].split()
    assert float(line[8]) == pytest.approx(reflections.ss[0] + 256 * reflections.panel[0], abs=0.05)


def test_resolution_column_is_that_of_the_peak(geometry, make):
    lines = lines_of(geometry, make(5, n_peak=20))
    start = lines.index("Peaks from peak search") + 2
    result = make(5, n_peak=20)
    for i, line in enumerate(lines[start : start + 20]):
        fs, ss, panel = result.peaks.fs[i], result.peaks.ss[i], geometry.panels[result.peaks.panel[i]]
        corner = np.array([panel.corner_x, panel.corner_y, result.frame.detector.clen * panel.res])
        r = corner + fs * np.array(panel.fs) + ss * np.array(panel.ss)
        two_theta = np.arccos(r[2] / np.linalg.norm(r))
        assert float(line.split()[2]) == pytest.approx(10 * 2 * np.sin(two_theta / 2) / 1.3, abs=0.006)


def test_no_image_data_is_told(geometry, make):
    assert "gpuidx/image_data = not read" in lines_of(geometry, make(image=False))


def test_lists_can_be_left_out(geometry, make):
    lines = lines_of(geometry, make(), peaks_in_stream=False, refls_in_stream=False)
    assert "Peaks from peak search" not in lines
    assert "num_peaks = 30" in lines
    assert "No integrated reflections." in lines
    assert not any(line.startswith(("num_refl", "diffraction")) for line in lines)


def test_crystal_without_reflections_says_so(geometry, make):
    assert "No integrated reflections." in lines_of(geometry, make(n_reflection=None))


def test_no_peaks_give_infinite_resolution(geometry, make):
    assert "peak_resolution = 0.000000 nm^-1 or inf A" in lines_of(geometry, make(n_peak=0, n_crystal=0))


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e15])
def test_numbers_that_the_kernel_refuses_are_written_all_the_same(geometry, make, value):
    result = make(n_reflection=3)
    result.crystals[0].reflections.intensity[1] = value
    result.peaks.intensity[2] = value
    lines = lines_of(geometry, result)
    assert sum(f"{value:10.2f}" in line for line in lines) == 2


def test_text_of_the_sender_cannot_break_a_line(geometry, make):
    name = "a\nb = c\r\n----- End chunk -----"
    lines = lines_of(geometry, make(filename=name, headers={"x y": "1\n2", "long": "å" * 3000}))
    assert "Image filename: a b = c ----- End chunk -----" in lines
    assert "header/str/x_y = 1 2" in lines
    assert max(len(line.encode()) for line in lines) <= 1022


def test_chunk_fits_exactly_or_is_rejected(geometry, make):
    writer = ChunkWriter(geometry, OutputOptions())
    result = make(n_peak=4, n_reflection=4)
    whole = bytearray(1 << 16)
    size = writer.write(result, memoryview(whole))
    exact = bytearray(size)
    assert writer.write(result, memoryview(exact)) == size
    assert exact == whole[:size]
    for room in range(0, size, 97):
        with pytest.raises(Rejected, match="chunk larger than its slot"):
            writer.write(result, memoryview(bytearray(room)))


def test_more_than_one_crystal(geometry, make):
    lines = lines_of(geometry, make(n_crystal=3))
    assert lines.count("--- Begin crystal") == lines.count("--- End crystal") == 3


def test_shift_is_written_in_mm_without_a_negative_zero(geometry, make):
    result = make()
    crystal = dataclasses.replace(result.crystals[0], shift=(-0.0, -1.25e-3))
    lines = lines_of(geometry, dataclasses.replace(result, crystals=(crystal,)))
    assert "predict_refine/det_shift x = 0.000 y = -1.250 mm" in lines
