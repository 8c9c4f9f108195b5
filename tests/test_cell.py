# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit-cell files: what they mean, and which are refused."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuidx.cell import (
    CENTERINGS,
    FIRST_LINE,
    LATTICE_TYPES,
    UnitCell,
    cell_parameters,
    cell_text,
    parse_cell,
    read_cell,
    real_axes,
)
from gpuidx.errors import CellFileError

HEAD = FIRST_LINE + "\n\n"
TETRAGONAL = """lattice_type = tetragonal
unique_axis = c
centering = I
a = 79.1 A
b = 7.91 nm
c = 37.9 A
al = 90.0 deg
be = 1.5707963267948966 rad
ga = 90 deg
"""


def read(text):
    return parse_cell(text, "x.cell")


def refusal(text):
    with pytest.raises(CellFileError) as caught:
        read(text)
    return str(caught.value)


def test_cell_file():
    cell = read(HEAD + TETRAGONAL)
    assert cell.parameters == pytest.approx((79.1, 79.1, 37.9, 90, 90, 90), rel=1e-12)
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == ("tetragonal", "I", "c")
    assert cell.warnings == ()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_matter(end):
    assert read((HEAD + TETRAGONAL).replace("\n", end)) == read(HEAD + TETRAGONAL)
    assert refusal((HEAD + "centering = x").replace("\n", end)).startswith("x.cell:3: ")


def test_defaults():
    assert read(HEAD) == UnitCell(parameters=None, lattice_type="triclinic", centering="P", unique_axis="*")


def test_cell_without_parameters_is_legal():
    cell = read(HEAD + "lattice_type = monoclinic\nunique_axis = b\ncentering = C\n")
    assert cell == UnitCell(parameters=None, lattice_type="monoclinic", centering="C", unique_axis="b")


def test_comments_and_the_block_of_a_stream():
    text = HEAD + "; a remark = here\n\t;another one here\n" + TETRAGONAL + "; Please note: this is\n"
    assert read(text) == read(HEAD + TETRAGONAL)


def test_blanks_around_the_equals_sign_are_needed():
    cell = read(HEAD + "centering=I\nfoo = bar\n")
    assert cell.centering == "P"
    assert cell.warnings == (
        "x.cell:3: 'centering=I' has no effect; expected three words such as centering = P",
        "x.cell:4: unknown field 'foo' has no effect",
    )


@pytest.mark.parametrize("axis", ["*", "?"])
def test_no_unique_axis(axis):
    assert read(HEAD + f"unique_axis = {axis}\n").unique_axis == "*"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("lattice_type = tetragnal\n", "x.cell:3: lattice_type 'tetragnal' is not known; expected triclinic"),
        ("centering = Q\n", "x.cell:3: centering 'Q' is not known; expected P, A, B, C, I, F, R, H"),
        ("unique_axis = d\n", "x.cell:3: unique_axis 'd' is not known"),
        ("a = 79.1\n", "x.cell:3: a has no unit; expected for instance a = 79.1 A"),
        ("b = 79.1 m\n", "x.cell:3: b has the unit 'm'; expected for instance b = 79.1 A"),
        ("al = 90 A\n", "x.cell:3: al has the unit 'A'; expected for instance al = 90 deg"),
        ("a = 7_9 A\n", "x.cell:3: a = '7_9' is no number"),
        ("a = x A\n", "x.cell:3: a = 'x' is no number"),
        ("a = 1 A\nb = 1 A\n", "x.cell:4: c, al, be, ga missing; give all of a, b, c, al, be, ga, or none"),
        ("lattice_type = hexagonal\n", "x.cell:3: a hexagonal lattice needs unique_axis"),
    ],
)
def test_useless_line_is_refused(lines, text):
    assert refusal(HEAD + lines).startswith(text)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a = 0 A", "x.cell:12: the lengths of the cell must be finite and above 0"),
        ("a = -79.1 A", "x.cell:12: the lengths"),
        ("a = nan A", "x.cell:12: the lengths"),
        ("a = inf A", "x.cell:12: the lengths"),
        ("a = 1e9 A", "x.cell:12: one axis of the cell is over 10⁶ times another"),
        ("al = 181 deg", "x.cell:12: no cell can have the angles 181, 90, 90 degrees"),
        ("al = nan deg", "x.cell:12: no cell can have the angles"),
        ("al = 0 deg", "x.cell:12: no cell can have the angles"),
        ("al = 5 deg", "x.cell:12: an angle of the cell is below 10 degrees"),
    ],
)
def test_impossible_cell_is_refused(line, text):
    assert refusal(HEAD + TETRAGONAL + line).startswith(text)


def test_centering_on_the_unique_axis_of_a_monoclinic_cell_is_refused():
    text = HEAD + "lattice_type = monoclinic\nunique_axis = b\ncentering = B\n"
    assert refusal(text).startswith("x.cell:5: centering B is on the unique axis")


@pytest.mark.parametrize(
    ("lattice", "axis", "centering"),
    [
        ("cubic", "*", "A"),
        ("triclinic", "*", "I"),
        ("tetragonal", "c", "F"),
        ("hexagonal", "c", "R"),
        ("hexagonal", "a", "H"),
        ("rhombohedral", "*", "C"),
    ],
)
def test_unconventional_lattice_is_a_warning(lattice, axis, centering):
    cell = read(HEAD + f"lattice_type = {lattice}\nunique_axis = {axis}\ncentering = {centering}\n")
    assert cell.warnings == (f"x.cell:5: {lattice} {centering} is not a conventional Bravais lattice",)


@pytest.mark.parametrize(
    ("lattice", "axis", "centering"),
    [("monoclinic", "b", "I"), ("cubic", "*", "F"), ("hexagonal", "c", "H"), ("rhombohedral", "*", "R")],
)
def test_conventional_lattice_is_no_warning(lattice, axis, centering):
    text = HEAD + f"lattice_type = {lattice}\nunique_axis = {axis}\ncentering = {centering}\n"
    assert read(text).warnings == ()


def test_unique_axis_of_a_lattice_that_has_none_is_a_warning():
    text = HEAD + "lattice_type = cubic\nunique_axis = c\n"
    assert read(text).warnings == ("x.cell:4: unique axis c makes no sense for a cubic lattice",)


def pdb(a, b, c, al, be, ga, rest=" P 43 21 2     8"):
    record = f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{al:7.2f}{be:7.2f}{ga:7.2f}{rest}"
    return f"HEADER    HYDROLASE\nREMARK\n{record}\nATOM\nCRYST1 another\n"


@pytest.mark.parametrize(
    ("parameters", "lattice"),
    [
        ((79.1, 79.1, 79.1, 90, 90, 90), ("cubic", "*")),
        ((79.1, 79.1, 79.1, 70, 70, 70), ("rhombohedral", "*")),
        ((79.1, 79.1, 37.9, 90, 90, 90), ("tetragonal", "c")),
        ((79.1, 37.9, 79.1, 90, 90, 90), ("tetragonal", "b")),
        ((37.9, 79.1, 79.1, 90, 90, 90), ("tetragonal", "a")),
        ((37.9, 79.1, 79.101, 90, 90, 90), ("orthorhombic", "*")),
        ((79.1, 79.1, 37.9, 90, 90, 120), ("hexagonal", "c")),
        ((37.9, 79.1, 79.1, 120, 90, 90), ("hexagonal", "a")),
        ((79.1, 37.9, 79.1, 90, 120, 90), ("hexagonal", "b")),
        ((79.1, 79.2, 37.9, 90, 90, 120), ("monoclinic", "c")),
        ((79.1, 79.2, 37.9, 90, 101, 90), ("monoclinic", "b")),
        ((79.1, 79.2, 37.9, 101, 90, 90), ("monoclinic", "a")),
        ((79.1, 79.1, 79.1, 90, 90, 80), ("monoclinic", "c")),
        ((79.1, 79.2, 37.9, 80, 101, 90), ("triclinic", "*")),
    ],
)
def test_pdb_file(parameters, lattice):
    cell = read(pdb(*parameters))
    assert (cell.lattice_type, cell.unique_axis) == lattice
    assert cell.centering == "P"
    assert cell.parameters == pytest.approx(parameters, rel=1e-7)


@pytest.mark.parametrize("rest", ["", " ", "   43 21 2"])
def test_pdb_file_without_centering_is_primitive_with_a_warning(rest):
    cell = read(pdb(79.1, 79.1, 37.9, 90, 90, 90, rest))
    assert cell.centering == "P"
    assert cell.warnings == ("x.cell:3: CRYST1 without centering in column 56; P is taken",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x.cell: is neither a unit cell file"),
        ("ATOM\n", "x.cell: is neither a unit cell file"),
        (" " + HEAD, "x.cell:1: is neither a unit cell file"),
        ("CRYST1 79.1 79.1 37.9 90 90 90 P 1\n", "x.cell:1: CRYST1 without six numbers in columns 7 to 54"),
        (pdb(79.1, 79.1, 37.9, 90, 90, 90)[:80], "x.cell:3: CRYST1 without six numbers"),
        (pdb(79.1, 79.1, 37.9, 90, 90, 90, " X 1"), "x.cell:3: centering 'X' is not known"),
        (pdb(1, 1, 1, 90, 90, 90), "x.cell:3: CRYST1 has the placeholder of structures without crystal"),
        (pdb(79.1, 79.1, 37.9, 90, 90, 190), "x.cell:3: no cell can have the angles 90, 90, 190 degrees"),
    ],
)
def test_useless_pdb_file_is_refused(text, expected):
    assert refusal(text).startswith(expected)


def test_text_is_that_of_crystfel():
    cell = UnitCell(
        parameters=(79.1, 79.1, 37.9, 90, 90, 90), lattice_type="tetragonal", centering="P", unique_axis="c"
    )
    assert cell_text(cell) == (
        "CrystFEL unit cell file version 1.0\n\nlattice_type = tetragonal\nunique_axis = c\ncentering = P\n"
        "a = 79.10 A\nb = 79.10 A\nc = 37.90 A\nal = 90.00 deg\nbe = 90.00 deg\nga = 90.00 deg\n"
    )


def test_text_rounds_as_crystfel_does():
    # as CrystFEL 0.12 writes these two files; its program was asked
    cell = read(
        HEAD + "a = 79.105 A\nb = 100.015 A\nc = 37.905 A\nal = 90.005 deg\nbe = 90 deg\nga = 90 deg\n"
    )
    assert cell_text(cell).split("\n")[4:8] == [
        "a = 79.11 A",
        "b = 100.02 A",
        "c = 37.91 A",
        "al = 90.00 deg",
    ]
    assert cell_text(read(pdb(79.105, 100.015, 37.905, 90, 90, 90))).split("\n")[4:7] == [
        "a = 79.11 A",
        "b = 100.01 A",
        "c = 37.90 A",
    ]


def test_text_without_parameters_and_unique_axis():
    text = "CrystFEL unit cell file version 1.0\n\nlattice_type = cubic\ncentering = F\n"
    assert cell_text(UnitCell(parameters=None, lattice_type="cubic", centering="F")) == text


CELLS = st.builds(
    UnitCell,
    parameters=st.none()
    | st.tuples(*[st.integers(2000, 30000).map(lambda n: n / 100)] * 3, *[st.integers(75, 104)] * 3),
    lattice_type=st.sampled_from(LATTICE_TYPES),
    centering=st.sampled_from("PIFRH"),
    unique_axis=st.sampled_from("abc"),
)


@given(CELLS)
def test_a_cell_that_is_written_is_read_again(cell):
    found = read(cell_text(cell))
    assert found.parameters == (cell.parameters and pytest.approx(cell.parameters, abs=1e-9))
    assert (found.lattice_type, found.centering) == (cell.lattice_type, cell.centering)
    assert found.unique_axis in (cell.unique_axis, "*")
    assert cell_text(found) == cell_text(cell)


@given(
    st.tuples(*[st.floats(5, 500)] * 3),
    st.tuples(*[st.floats(60, 119)] * 3),
)
def test_axes_and_parameters_belong_together(lengths, angles):
    if sum(angles) >= 359:
        return
    axes = real_axes((*lengths, *angles))
    assert np.linalg.det(axes) > 0
    assert axes[0, 1] == axes[0, 2] == axes[1, 2] == 0
    assert cell_parameters(axes) == pytest.approx((*lengths, *angles), rel=1e-6)


@given(
    st.one_of(
        st.text(),
        st.builds(
            lambda lines: HEAD + "\n".join(lines),
            st.lists(
                st.builds(
                    "{} = {} {}".format,
                    st.sampled_from(
                        ["a", "b", "c", "al", "be", "ga", "centering", "lattice_type", "unique_axis"]
                    ),
                    st.sampled_from(
                        ["1", "79.1", "90", "nan", "1e999", "-3", "P", "*", "c", "cubic", "x", ""]
                    ),
                    st.sampled_from(["A", "nm", "deg", "rad", ""]),
                ),
                max_size=12,
            ),
        ),
        st.text(max_size=60).map(lambda text: "CRYST1" + text),
    )
)
@example("CRYST1" + "9" * 200)
@example("\0\ud800")
def test_any_text_is_a_cell_or_refused_with_its_file(text):
    refused = ""
    try:
        cell = read(text)
    except CellFileError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("x.cell")
    else:
        assert cell.centering in CENTERINGS
        assert cell.parameters is None or all(math.isfinite(x) for x in cell.parameters)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_cell_or_refused_with_their_file(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.cell"
    path.write_bytes(data)
    with pytest.raises(CellFileError) as caught:
        read_cell(path)
    assert str(caught.value).startswith(str(path))


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(CellFileError, match="cannot be read: No such file"):
        read_cell(tmp_path / "none.cell")
    with pytest.raises(CellFileError, match="cannot be read"):
        read_cell(tmp_path)
    with (tmp_path / "big").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(CellFileError, match="is too large"):
        read_cell(tmp_path / "big")


def table(folder):
    """Rows of the README of the reference cells: file, lattice, centering, unique axis, parameters."""
    for line in (folder / "cells" / "README.md").read_text().split("\n"):
        words = [word.strip() for word in line.split("|")[1:-1]]
        if words and words[0].startswith("`"):
            yield words[0].strip("`"), words[1], words[2], words[3], words[4].split()


def test_reference_cells_are_understood(data_folder):
    rows = list(table(data_folder))
    assert len(rows) == len(list((data_folder / "cells").glob("*.cell")))
    for file, lattice, centering, axis, words in rows:
        cell = read_cell(data_folder / "cells" / file)
        assert cell.lattice_type == lattice
        assert cell.centering == centering.replace("-", "P")
        assert cell.unique_axis == axis.replace("-", "*")
        numbers = tuple(float(word) for word in words[::2]) if words[0] != "-" else None
        assert cell.parameters == numbers
        assert cell.warnings == ()


def test_cells_beside_frames_are_written_as_crystfel_writes_them(data_folder):
    paths = sorted(data_folder.glob("*/**/*.cell"))
    assert len(paths) > 20
    for path in paths:
        cell = read_cell(path)
        assert read(cell_text(cell)) == cell
