# SPDX-License-Identifier: GPL-3.0-or-later
"""What a geometry file means: panels, defaults, top-level lines, and every error with its line."""

import math

import pytest
from geometry.texts import ONE, TOP, TWO, panel, read, refusal, warnings_of

from gpuidx.errors import GeometryError
from gpuidx.geometry import FlagRule, MaskSource, read_geometry
from gpuidx.geometry.parser import MOST_ERRORS


def only_panel(text):
    (found,) = read(text).panels
    return found


def test_panel_says_what_the_file_says():
    fields = {
        "fs": "-0.5x +0.1z",
        "ss": "y",
        "coffset": "0.001",
        "adu_per_eV": "0.01",
        "max_adu": "14000",
        "data": "/x",
        "mask_edge_pixels": "2",
        "no_index": "1",
    }
    found = only_panel(TOP + panel(x=3, y=4, width=7, height=5, **fields))
    assert (found.min_fs, found.max_fs, found.min_ss, found.max_ss) == (3, 9, 4, 8)
    assert (found.width, found.height) == (7, 5)
    assert (found.corner_x, found.corner_y, found.coffset, found.res) == (-5.5, -3.5, 0.001, 10000)
    assert (found.fs, found.ss) == ((-0.5, 0, 0.1), (0, 1, 0))
    assert (found.adu_per_photon, found.adu_per_ev, found.max_adu) == (None, 0.01, 14000)
    assert (found.data, found.mask_edge_pixels, found.no_index) == ("/x", 2, True)


def test_defaults_are_those_of_crystfel():
    geometry = read(ONE)
    (found,) = geometry.panels
    assert (found.data, found.dims) == ("/data/data", ("ss", "fs"))
    assert (found.coffset, found.max_adu, found.mask_edge_pixels) == (0, math.inf, 0)
    assert (found.masks, found.flags, found.no_index) == ((), (), False)
    assert (geometry.bandwidth, geometry.peak_list, geometry.peak_list_type) == (1e-8, None, "auto")
    assert (geometry.shift_x, geometry.shift_y, geometry.bad_regions) == (None, None, ())
    assert geometry.warnings == ()


def test_last_gain_wins():
    found = only_panel(ONE + "p0/adu_per_eV = 3\np0/adu_per_photon = 5\n")
    assert (found.adu_per_photon, found.adu_per_ev) == (5, None)
    geometry = read(ONE + "p0/adu_per_photon = 5\np0/adu_per_eV = 3\n")
    assert geometry.gain(9000.0).tolist() == [27000.0]


def test_defaults_hold_for_panels_that_begin_after_them():
    text = TOP + panel("a") + "res = 5000\nflag_equal = 7\n" + panel("b", y=10) + "a/coffset = 1\n"
    first, second = read(text).panels
    assert (first.res, second.res) == (10000, 5000)
    assert (first.flags, second.flags) == ((), (FlagRule("equal", 7.0),))
    assert (first.coffset, second.coffset) == (1.0, 0.0)


def test_flags_add_up_with_the_defaults():
    text = "flag_lessthan = -3\n" + ONE + "p0/flag_morethan = 9\np0/flag_equal = 2\n"
    assert only_panel(text).flags == (
        FlagRule("lessthan", -3.0),
        FlagRule("morethan", 9.0),
        FlagRule("equal", 2.0),
    )


def test_flags_are_cut_to_integers_as_in_crystfel():
    text = ONE + "p0/flag_lessthan = -0.5\np0/flag_morethan = 65535.7\np0/flag_equal = 4294967295\n"
    values = [flag.value for flag in only_panel(text).flags]
    assert values == [0.0, 65535.0, 4294967296.0]
    assert "t.geom:13: p0/flag_lessthan = '-0.5' is cut to 0" in warnings_of(text)


def test_seventeen_flags_are_too_many():
    assert len(only_panel(ONE + "p0/flag_equal = 1\n" * 16).flags) == 16
    assert "t.geom:29: p0/flag_equal = '1' is one flag too many" in refusal(ONE + "p0/flag_equal = 1\n" * 17)


@pytest.mark.parametrize("line", ["coffset = 0.1", "flag_equal = 3", "fs = x", "unknown = 3", "dim0 = ss"])
def test_defaults_after_the_last_panel_are_refused(line):
    assert f"{line.split(' = ')[0]} = '" in refusal(ONE + line)
    assert "t.geom:13: " in refusal(ONE + line)


@pytest.mark.parametrize("line", ["clen = 0.09", "peak_list = /p", "bandwidth = 0.01", "rigid_group_x = p0"])
def test_other_top_level_lines_may_stand_at_the_end(line):
    read(ONE + line)


def test_clen_within_a_panel_is_refused():
    assert refusal(ONE + "p0/clen = 0.1\n").startswith("t.geom:13: p0/clen = '0.1'")


def test_detector_shift():
    geometry = read(ONE + "detector_shift_x = 0.1 mm\ndetector_shift_y = /shift\n")
    assert (geometry.shift_x.value, geometry.shift_x.unit) == (0.1, "mm")
    assert geometry.shift_y.header == "/shift"
    text = "t.geom:13: detector_shift_x without detector_shift_y"
    assert text in refusal(ONE + "detector_shift_x = 0.1\n")
    lonely = ONE + "detector_shift_y = 0.1\n"
    assert read(lonely).shift_y is None
    assert "t.geom:13: detector_shift_y without detector_shift_x" in warnings_of(lonely)


def test_peak_list_and_bandwidth():
    geometry = read(ONE + "peak_list = peaks\npeak_list_type = list3\nbandwidth = 0.005\n")
    assert (geometry.peak_list, geometry.peak_list_type, geometry.bandwidth) == ("peaks", "list3", 0.005)
    assert "t.geom:13: peak_list_type = 'hdf5' is not known" in refusal(ONE + "peak_list_type = hdf5\n")


@pytest.mark.parametrize("value", ["1 %", "", "nan", "-0.1", "5"])
def test_bad_bandwidth_is_a_warning(value):
    text = ONE + f"bandwidth = {value}\n"
    assert read(text).bandwidth == 1e-8
    assert "t.geom:13: bandwidth" in warnings_of(text)


@pytest.mark.parametrize(
    ("lines", "dims"),
    [
        ("dim0 = %\ndim1 = ss\ndim2 = fs\n", ("%", "ss", "fs")),
        ("dim0 = %\ndim1 = 7\ndim2 = ss\ndim3 = fs\n", ("%", 7, "ss", "fs")),
        ("dim2 =\n", ("ss", "fs", 0)),
    ],
)
def test_dimensions(lines, dims):
    assert only_panel(lines + ONE).dims == dims


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("dim1 = ss\ndim0 = fs\n", "fs has a lower dimension than ss"),
        ("dim0 = %\n", "its dimensions lack fs or ss"),
        ("dim3 = 1\n", "dim3 is given but dim2 is not"),
        ("dim2 = -1\n", "t.geom:1: dim2 = '-1' is no index"),
        ("dim2 = 99999999999\n", "t.geom:1: dim2 = '99999999999' is no index"),
    ],
)
def test_useless_dimensions_are_refused(lines, text):
    assert text in refusal(lines + ONE)


@pytest.mark.parametrize("line", ["dim = ss", "dim16 = 1", "dim2 = x", "dim2 = 1.5", "dimension = 3"])
def test_odd_dimension_lines_have_no_effect(line):
    text = line + "\n" + ONE
    assert only_panel(text).dims == ("ss", "fs")
    assert "t.geom:1: " in warnings_of(text)


def test_masks_by_new_and_old_names():
    lines = "mask = /m\nmask_good = 0x1\nmask_bad = 0xfffe\nmask3_data = /n\nmask3_file = n.h5\n"
    found = only_panel(lines + "mask3_badbits = 8\n" + ONE)
    assert found.masks == (MaskSource("/m", None, 1, 0xFFFE), MaskSource("/n", "n.h5", 0, 8))
    assert [mask.line for mask in found.masks] == [3, 6]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("mask0_data = m\n", "t.geom:1: mask0_data = 'm' is no path"),
        ("mask8_data = /m\n", "t.geom:1: 'mask8_data' is not understood"),
        ("mask_data = /m\n", "t.geom:1: 'mask_data' is not understood"),
        ("mask0_goodbits = x\n", "t.geom:1: mask0_goodbits = 'x' is no number"),
        ("mask0_file = m.h5\n", "t.geom:1: panel p0: mask0_file without mask0_data"),
        ("mask_good = 1\n", "t.geom:1: panel p0: good or bad bits for mask0, but no mask0_data"),
        ("mask0_data = /m/%\n", "mask0_data '/m/%' has more % than data '/data/data'"),
        ("saturation_map = /m/%\n", "saturation_map '/m/%' has more % than data"),
    ],
)
def test_useless_masks_are_refused(lines, text):
    assert text in refusal(lines + ONE)


@pytest.mark.parametrize("line", ["mask = m", "mask_good = x"])
def test_masks_by_old_names_are_not_refused(line):
    text = line + "\n" + ONE
    assert only_panel(text).masks == ()
    assert "the line has no effect" in warnings_of(text)


def test_numbers_are_read_as_c_reads_them_with_a_warning():
    text = TOP + panel(corner_x="$ORGX", corner_y="12.5px", min_fs="1.7", res="0x2710")
    found = only_panel(text)
    assert (found.corner_x, found.corner_y, found.min_fs, found.res) == (0.0, 12.5, 1, 10000)
    said = warnings_of(text)
    assert "t.geom:5: p0/min_fs = '1.7' is cut to 1" in said
    assert "t.geom:9: p0/corner_x = '$ORGX' is read as 0" in said
    assert "t.geom:10: p0/corner_y = '12.5px' is read as 12.5" in said


@pytest.mark.parametrize(
    ("word", "is_bad"),
    [("true", True), ("FALSE", False), ("1", True), ("0", False), ("yes", False), ("2x", True)],
)
def test_no_index(word, is_bad):
    assert only_panel(ONE + f"p0/no_index = {word}\n").no_index is is_bad


def test_unknown_fields_are_warnings_counted_by_kind():
    text = (
        "rail_x = 3\nrail_x = 4\n"
        + ONE
        + "p0/badrow_direction = x\np0/foo/bar = 1\nbad1/min_x = 1\nbad1/q = 2\n"
    )
    said = warnings_of(text)
    assert "t.geom:1: unknown field 'rail_x' has no effect (and 1 more like this)" in said
    assert "t.geom:15: badrow_direction has no effect" in said
    assert "t.geom:16: unknown field 'foo/bar' has no effect" in said
    assert "t.geom:18: unknown field 'q' has no effect" in said


@pytest.mark.parametrize(
    "field", ["min_fs", "max_fs", "min_ss", "max_ss", "corner_x", "corner_y", "fs", "ss"]
)
def test_missing_field_is_named_with_the_line_of_its_panel(field):
    text = refusal(TOP + panel(**{field: None}))
    assert text.startswith(f"t.geom:5: panel p0: no {field}")


@pytest.mark.parametrize(
    ("top", "text"),
    [
        (TOP.replace("photon_energy = 9000 eV", ""), "t.geom:12: no wavelength"),
        (TOP.replace("clen = 0.08", ""), "t.geom:12: no camera length"),
        (TOP.replace("res = 10000", ""), "t.geom:5: panel p0: no res"),
        (TOP.replace("adu_per_photon = 1", ""), "t.geom:5: panel p0: no adu_per_photon or adu_per_eV"),
    ],
)
def test_missing_top_level_line(top, text):
    assert refusal(top + panel()).startswith(text)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"min_fs": -1}, "t.geom:5: panel p0: min_fs is -1"),
        ({"max_ss": "1e30"}, "t.geom:8: p0/max_ss = '1e30' is no pixel number"),
        ({"min_fs": 21}, "t.geom:6: panel p0: max_fs 19 is below min_fs 21"),
        ({"corner_x": "nan"}, "t.geom:9: panel p0: corner_x is nan"),
        ({"fs": "+0.0z", "ss": "+1.0z"}, "t.geom:12: panel p0: fs and ss are parallel"),
        ({"fs": "1e3x"}, "t.geom:11: p0/fs = '1e3x': 'e' cannot stand in a direction"),
        ({"fs": "+1.0"}, "t.geom:11: p0/fs = '+1.0': '+1.0' has no x, y or z part"),
        ({"fs": "+1.0y"}, "t.geom:12: panel p0: fs and ss are parallel"),
        ({"fs": "9" * 400 + "x"}, "t.geom:12: panel p0: fs and ss are parallel"),
        ({"res": "0"}, "t.geom:13: panel p0: res is 0"),
        ({"res": "none"}, "t.geom:13: panel p0: res is 0"),
        ({"coffset": "inf"}, "t.geom:13: panel p0: coffset is inf"),
        ({"mask_edge_pixels": "2px"}, "t.geom:13: p0/mask_edge_pixels = '2px' is no integer"),
        ({"coffset": "-0.08"}, "t.geom:2: clen: the plane of panel p0 passes 0 m from the sample"),
        ({"corner_x": "1e300"}, "t.geom:2: clen: positions of panels are too large"),
    ],
)
def test_useless_panel_is_refused_with_its_line(fields, text):
    assert refusal(TOP + panel(**fields)).startswith(text)


def test_all_errors_are_shown():
    text = refusal("junk\n" + TWO + "a/fs = w\nb/clen = 3\n").split("\n")
    assert text == [
        "t.geom:1: 'junk' has no '='; expected key = value",
        "t.geom:22: a/fs = 'w': 'w' cannot stand in a direction; expected for instance '+1.0x -0.002y'",
        "t.geom:23: b/clen = '3': clen holds for the whole detector; give it without a panel",
    ]


def test_errors_of_one_kind_are_counted():
    text = refusal("".join(panel(f"p{i}", y=10 * i) for i in range(128)))
    assert text.startswith(
        "t.geom:1: panel p0: no res; expected pixels per metre, for instance res = 13333.3 (and 127"
    )
    assert len(text.split("\n")) == 4


def test_many_errors_are_cut():
    text = refusal(ONE + "".join(f"junk{i}\n" for i in range(50))).split("\n")
    assert len(text) == MOST_ERRORS + 1
    assert text[-1] == "and 30 more errors"


def test_no_panels():
    assert (
        refusal("photon_energy = 9000\nclen = 1\n")
        == "t.geom:2: no panels; expected lines such as p0/min_fs = 0"
    )
    assert "no panels" in refusal("")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_matter(end):
    text = TWO.replace("\n", end)
    geometry = read(text)
    assert geometry.panels == read(TWO).panels
    assert geometry.text == text
    assert refusal(text + "x").startswith("t.geom:21: ")


def test_text_ends_at_a_nul():
    geometry = read(ONE + "\0" + "junk")
    assert geometry.text == ONE
    assert geometry.warnings == ("t.geom:13: the file is read up to the NUL byte in this line",)


def test_what_readers_of_streams_cannot_take_is_a_warning():
    said = warnings_of(ONE + "; " + "å" * 600 + "\n" + "; comment\n" * 110000)
    assert "t.geom:13: the line has over 1022 bytes" in said
    assert "t.geom: the file is over 1 MiB" in said


@pytest.mark.parametrize("name", ["", "p0 ", " "])
def test_odd_panel_names_are_a_warning(name):
    text = TOP + panel(name)
    assert "blanks at its ends, which count" in warnings_of(text)


def test_file_that_is_not_utf8_is_kept_byte_for_byte(tmp_path):
    path = tmp_path / "x.geom"
    path.write_bytes(b"; Gr\xf6\xdfe\n" + ONE.encode())
    geometry = read_geometry(path)
    assert geometry.text.encode("utf-8", "surrogateescape") == path.read_bytes()
    assert geometry.file == str(path)


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(GeometryError, match=r"none\.geom: cannot be read: No such file"):
        read_geometry(tmp_path / "none.geom")
    with pytest.raises(GeometryError, match="cannot be read"):
        read_geometry(tmp_path)
    with pytest.raises(GeometryError, match="cannot be read"):
        read_geometry("a\0b")


def test_file_that_is_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "big.h5"
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(GeometryError, match="too large to be a geometry file"):
        read_geometry(path)
