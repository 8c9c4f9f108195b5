# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each value of a frame is said to come from."""

import pytest
from geometry.texts import ONE, TOP, TWO, panel, read

from gpuidx.geometry.origins import missing_files, origins


def rows(text):
    """What is said of each thing, by its name."""
    found = {}
    for what, said, line in origins(read(text)):
        found.setdefault(what, []).append((said, line))
    return found


def test_literals_and_headers_with_their_units_and_lines():
    found = rows(TWO)
    assert found["photon energy"] == [("9000 eV in the file, that is 1.3776 Å", 1)]
    assert found["camera length"] == [("0.08 m in the file", 2)]
    looked_up = "photon_energy = /e keV\nclen = /c\ndetector_shift_x = /x\ndetector_shift_y = 2 mm\n"
    found = rows(looked_up + TOP.partition("res")[1] + TWO.partition("res")[2])
    assert found["photon energy"] == [("header '/e' of each frame, in keV", 1)]
    assert found["camera length"] == [("header '/c' of each frame, in mm, since no unit is given", 2)]
    assert found["shift x"] == [("header '/x' of each frame, in m, since no unit is given", 3)]
    assert found["shift y"] == [("0.002 m in the file", 4)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wavelength = 1.5 A", "1.5 A in the file, that is 1.5 Å or 8265.61 eV"),
        ("wavelength = /l m", "header '/l' of each frame, in m"),
        ("electron_voltage = 200 kV", "200 kV in the file, that is 0.025079 Å"),
    ],
)
def test_other_ways_to_give_the_wavelength(line, expected):
    text = TWO.replace("photon_energy = 9000 eV", line)
    assert rows(text)[line.partition(" ")[0].replace("_", " ")] == [(expected, 1)]


def test_arrays_with_their_dimensions_and_panels():
    dims = "dim0 = %\ndim2 = ss\ndim3 = fs\n"
    found = rows(dims + TOP + panel("a", dim1=0) + panel("b", dim1=1) + panel("c", dim1=1, y=10))
    assert found["image"] == [
        ("'/data/data' (%, 0, ss, fs), at least 10 × 20 (ss × fs), panel a", None),
        ("'/data/data' (%, 1, ss, fs), at least 20 × 20 (ss × fs), 2 panels", None),
    ]


def test_many_rows_of_one_kind_are_cut_short():
    found = rows(TOP + "".join(panel(f"p{i}", data=f"/d{i}") for i in range(20)))
    assert len(found["image"]) == 7
    assert found["image"][-1] == ("and 14 more", None)


def test_masks_maps_and_bad_pixels(tmp_path):
    (tmp_path / "m.h5").touch()
    top = f"mask0_data = /m\nmask0_file = {tmp_path}/m.h5\nmask0_goodbits = 1\n"
    top += "mask1_data = /n\nmask1_badbits = 6\nsaturation_map = /s\nsaturation_map_file = nowhere.h5\n"
    top += "flag_lessthan = 0\nflag_equal = 7\n"
    end = "a/max_adu = 9000\nb/mask_edge_pixels = 2\nb/no_index = 1\nbad1/min_x = 1\nbad1/max_x = 2\n"
    end += (
        "bad1/min_y = 3\nbad1/max_y = 4\nbad2/min_fs = 1\nbad2/max_fs = 2\nbad2/min_ss = 3\nbad2/max_ss = 4\n"
    )
    found = rows(top + TWO + end + "bad2/panel = a\n")
    assert [said for said, _ in found["mask"]] == [
        f"'/m' in '{tmp_path}/m.h5' (there), good bits 0x1, bad bits 0x0, 2 panels",
        "'/n' in the file of each frame, good bits 0x0, bad bits 0x6, 2 panels",
    ]
    assert [said for said, _ in found["saturation"]] == [
        "max_adu 9000 ADU, panel a",
        "map '/s' in 'nowhere.h5' (MISSING), all panels",
    ]
    assert [said for said, _ in found["bad pixels"]] == [
        "region bad1: x 1 to 2, y 3 to 4 px of the laboratory",
        "region bad2: fs 1 to 2, ss 3 to 4 of panel a",
        "no_index: all pixels, panel b",
        "edges: 2 px, panel b",
        "values below 0, equal to 7, all panels",
    ]
    assert missing_files(read(top + TWO)) == [("saturation map", "nowhere.h5", 7)]


def test_gain_offsets_and_peaks():
    text = "peak_list = peaks\n" + TWO + "b/adu_per_eV = 0.1\nb/coffset = 0.58\n"
    found = rows(text)
    assert found["gain"] == [
        ("1 ADU per photon, panel a", 5),
        ("0.1 ADU per eV, by the photon energy of each frame, panel b", 22),
    ]
    assert found["+ coffset"] == [("0 to 0.58 m, by panel, in the file", 23)]
    assert found["peaks"] == [("'peaks' of each frame, type auto", None)]
    assert "peaks" not in rows(ONE)


def test_names_that_no_file_can_have_are_missing():
    text = "mask0_data = /m\nmask0_badbits = 1\nmask0_file = " + "x" * 5000 + "\n" + ONE
    ((kind, _, line),) = missing_files(read(text))
    assert (kind, line) == ("mask", 3)
