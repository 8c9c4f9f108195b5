# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of crystals are read as CrystFEL reads them; what is wrong is named with its line."""

import numpy as np
import pytest

from gpuidx.errors import SolutionFileError
from gpuidx.indexing.solutions import lattice_of, read_solutions

AXES = "0.10 0 0 0.01 0.12 0 0 0.02 0.20"


def read(tmp_path, text):
    path = tmp_path / "crystals.sol"
    path.write_text(text)
    return read_solutions(str(path))


def refusal(tmp_path, text):
    with pytest.raises(SolutionFileError) as error:
        read(tmp_path, text)
    return str(error.value).removeprefix(f"{tmp_path}/")


def test_crystals_are_found_by_filename_and_event_in_the_order_of_the_file(tmp_path):
    text = f"a.h5 //0 {AXES} 0.5 -0.25 tIc\n\na b.h5\t//1 {AXES} 0 0 oP\r\na.h5 //0 {AXES} 0 0 aP"
    found = read(tmp_path, text)
    first, second = found.of("a.h5", "//0")
    assert [s.cell.lattice_type for s in (first, second)] == ["tetragonal", "triclinic"]
    assert (first.cell.centering, first.cell.unique_axis) == ("I", "c")
    np.testing.assert_allclose(first.shift, (0.5e-3, -0.25e-3))
    recip = np.array([float(word) for word in AXES.split()]).reshape(3, 3) / 10
    np.testing.assert_allclose(first.axes @ recip.T, np.eye(3), atol=1e-12)
    (other,) = found.of("a b.h5", "//1")
    assert other.cell.lattice_type == "orthorhombic"
    assert found.of("a.h5", "//1") == ()
    assert found.line() == f"{tmp_path}/crystals.sol: 3 crystals of 2 frames, first a.h5 //0"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"a.h5 //0 {AXES} 0 0", "13 words; expected 14"),
        (f"a.h5 //0 {AXES.replace('0.12', 'x')} 0 0 aP", "'x' is not a finite number"),
        (f"a.h5 //0 {AXES.replace('0.12', 'nan')} 0 0 aP", "'nan' is not a finite number"),
        (f"a.h5 //0 {AXES.replace('0.20', '-0.20')} 0 0 aP", "are left-handed"),
        (f"a.h5 //0 {AXES.replace('0.20', '0')} 0 0 aP", "lie in a plane"),
        (f"a.h5 //0 {AXES} 0 0 tI", "lattice 'tI' needs its unique axis, such as tIc"),
        (f"a.h5 //0 {AXES} 0 0 xP", "lattice 'xP' is not known"),
    ],
)
def test_a_line_that_is_not_understood_is_named(tmp_path, line, said):
    text = refusal(tmp_path, f"a.h5 //0 {AXES} 0 0 aP\n{line}\n")
    assert text.startswith("crystals.sol:2: ")
    assert said in text


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SolutionFileError, match="nowhere: cannot be read: No such file"):
        read_solutions(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("symbol", ["", "a", "aQ", "mPd", "cFab", "P"])
def test_symbols_that_are_no_lattice_are_refused(symbol):
    with pytest.raises(ValueError, match="lattice"):
        lattice_of(symbol)
