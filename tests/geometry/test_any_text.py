# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a geometry file holds, it is understood or refused with file and line."""

import re

import pytest
from geometry.texts import ONE, TWO
from hypothesis import example, given
from hypothesis import strategies as st

from gpuidx.errors import GeometryError
from gpuidx.geometry import parse_geometry, read_geometry

KEYS = """
    min_fs max_fs min_ss max_ss corner_x corner_y fs ss res adu_per_eV adu_per_photon clen coffset data dim0
    dim1 dim2 dim16 mask mask_good mask0_data mask1_file mask9_file mask_edge_pixels saturation_map no_index
    flag_equal max_adu foo photon_energy wavelength electron_voltage peak_list_type bandwidth rigid_group_x
    group_a group_all detector_shift_x detector_shift_y min_x max_x min_y max_y panel
"""
VALUES = """
    0 1 -1 19 10.7 1e3 nan inf -inf 1e999 1e-999 9000_eV 0.1_m 80_mm /a/b /a/%/b_mm fs ss % x -x +0.5x-0.5z
    1e-3x --x y z a b a,b 999999999999 0x10 true p0 cxi 0xffffffff 200_kV
"""
LINE = st.builds(
    lambda owner, key, value: f"{owner}{key} = {value.replace('_', ' ')}",
    st.sampled_from(["", "p0/", "a/", "b/", "bad1/", "bad2/", "/"]),
    st.sampled_from(KEYS.split()),
    st.sampled_from([*VALUES.split(), ""]),
)
NOISE = st.text(st.characters(exclude_characters="\n"), max_size=30)


def check(text):
    """Nothing but a geometry, or a `GeometryError` whose every line says where."""
    refusal = ""
    try:
        geometry = parse_geometry(text, "t.geom")
    except GeometryError as error:
        refusal = str(error)
    if refusal:
        for line in refusal.split("\n"):
            assert re.match(r"t\.geom:[0-9]+: |and [0-9]+ more errors$", line), line
        count = len(re.split("\r\n|\r|\n", text))
        assert all(0 < int(n) <= count for n in re.findall(r"^t\.geom:([0-9]+)", refusal, re.MULTILINE))
    else:
        assert len(geometry.panels) > 0
        assert all(warning.startswith("t.geom") for warning in geometry.warnings)


@given(st.text())
@example("\0")
@example("\ud800 = 1\n" + ONE)
@example("p0/fs = " + "9" * 5000 + "x\ndim" + "9" * 5000 + " = 1\n" + ONE)
def test_any_text(text):
    check(text)


@given(st.lists(st.one_of(LINE, NOISE), max_size=12), st.integers(0, 20), st.sampled_from([ONE, TWO]))
def test_any_lines_within_a_geometry(lines, place, text):
    kept = text.split("\n")
    check("\n".join(kept[:place] + lines + kept[place:]))


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(VALUES.split())), max_size=4),
    st.sampled_from([ONE, TWO]),
)
def test_any_values_in_a_geometry(changes, text):
    lines = text.split("\n")
    for number, value in changes:
        if number < len(lines):
            lines[number] = lines[number].partition("=")[0] + "= " + value.replace("_", " ")
    check("\n".join(lines))


@given(st.binary())
def test_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.geom"
    path.write_bytes(data)
    with pytest.raises(GeometryError) as caught:  # no such chance that they are a geometry
        read_geometry(path)
    assert str(caught.value).startswith(str(path))
