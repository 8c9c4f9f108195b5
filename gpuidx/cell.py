# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit cells: .cell and PDB files, the text in a stream, and the axes that follow from the parameters.

Comparing lattices and finding settings is in `gpuidx.indexing`.
"""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import CellFileError

FIRST_LINE = "CrystFEL unit cell file version 1.0"
LATTICE_TYPES = (
    "triclinic", "monoclinic", "orthorhombic", "tetragonal", "rhombohedral", "hexagonal", "cubic"
)  # fmt: skip
CENTERINGS = "PABCIFRH"
WITH_UNIQUE_AXIS = ("monoclinic", "tetragonal", "hexagonal")

LARGEST_FILE = 64 * 2**20  # bytes; whatever is larger was named by mistake

LENGTHS = ("a", "b", "c")
ANGLES = ("al", "be", "ga")
_UNITS = {"A": 1.0, "nm": 10.0, "deg": 1.0, "rad": 180 / math.pi}
_BRAVAIS = {
    **dict.fromkeys("ABC", ("monoclinic", "orthorhombic")),
    "I": ("monoclinic", "orthorhombic", "tetragonal", "cubic"),
    "F": ("orthorhombic", "cubic"),
    "R": ("rhombohedral",),
    "H": ("hexagonal",),
}
_PDB_COLUMNS = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))
_PDB_CENTERING = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCell:
    """A unit cell, perhaps without parameters.

    Attributes
    ----------
    parameters
        a, b, c in Å, alpha, beta, gamma in degrees; None if the file gives none.
    lattice_type
        One of `LATTICE_TYPES`.
    centering
        One of P A B C I F R H.
    unique_axis
        ``"a"``, ``"b"``, ``"c"``, or ``"*"`` for none.
    warnings
        What a user should know of the file it came from, one line each.
    """

    parameters: tuple[float, float, float, float, float, float] | None
    lattice_type: str = "triclinic"
    centering: str = "P"
    unique_axis: str = "*"
    warnings: tuple[str, ...] = field(default=(), compare=False)


def read_cell(path: str | Path) -> UnitCell:
    """Read a unit cell from a CrystFEL unit cell file or from the CRYST1 record of a PDB file.

    Raises
    ------
    CellFileError
        If it cannot be read or used.
    """
    try:
        if Path(path).stat().st_size > LARGEST_FILE:
            raise CellFileError(str(path), None, "is too large; expected a .cell or PDB file")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise CellFileError(str(path), None, f"cannot be read: {reason}") from error
    return parse_cell(data.decode("utf-8", "surrogateescape"), str(path))


def parse_cell(text: str, file: str) -> UnitCell:
    """Understand the text of a .cell or PDB file; *file* is its name in errors.

    Both formats are read as CrystFEL 0.12 does, but what it ignores with a message (an unknown lattice
    type, a length without unit, some parameters missing) or uses although nothing can be found with it
    (impossible angles) is an error here.

    Raises
    ------
    CellFileError
        If it cannot be used.
    """
    lines = re.split(r"\r\n|\r|\n", text)
    if lines[0] == FIRST_LINE:
        return _CellFile(file).read(lines)
    return _from_pdb(lines, file)


def cell_text(cell: UnitCell) -> str:
    """The cell as CrystFEL writes it: a .cell file, and the block of the target cell in a stream."""
    lines = [FIRST_LINE, "", f"lattice_type = {cell.lattice_type}"]
    if cell.lattice_type in WITH_UNIQUE_AXIS:
        lines.append(f"unique_axis = {cell.unique_axis}")
    lines.append(f"centering = {cell.centering}")
    if cell.parameters is not None:
        # By way of metres and radians, as in CrystFEL, which decides about the last digit.
        metres = [length * 1e-10 for length in cell.parameters[:3]]
        radians = [angle * math.pi / 180 for angle in cell.parameters[3:]]
        lines += [f"{name} = {x * 1e10:.2f} A" for name, x in zip(LENGTHS, metres, strict=True)]
        lines += [f"{name} = {x * 180 / math.pi:.2f} deg" for name, x in zip(ANGLES, radians, strict=True)]
    return "\n".join(lines) + "\n"


def real_axes(parameters: tuple[float, float, float, float, float, float]) -> NDArray[np.float64]:
    """Rows a, b, c (Å) of a cell in standard orientation: a along x, b in the xy plane."""
    a, b, c, *angles = parameters
    cos_al, cos_be, cos_ga = np.cos(np.radians(angles))
    sin_ga = np.sin(np.radians(angles[2]))
    c_x = cos_be
    c_y = (cos_al - cos_be * cos_ga) / sin_ga
    return np.array(
        [[a, 0, 0], [b * cos_ga, b * sin_ga, 0], [c * c_x, c * c_y, c * np.sqrt(1 - c_x**2 - c_y**2)]]
    )


def cell_parameters(axes: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    """a, b, c in the unit of *axes* (rows), alpha, beta, gamma in degrees."""
    a, b, c = np.linalg.norm(axes, axis=1)
    cosines = (axes[1] @ axes[2] / (b * c), axes[0] @ axes[2] / (a * c), axes[0] @ axes[1] / (a * b))
    al, be, ga = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return float(a), float(b), float(c), float(al), float(be), float(ga)


class _CellFile:
    """A CrystFEL unit cell file as far as it has been read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.words: dict[str, str] = {}
        self.numbers: dict[str, float] = {}
        self.lines: dict[str, int] = {}
        self.warnings: list[str] = []

    def read(self, lines: list[str]) -> UnitCell:
        for number, line in enumerate(lines[1:], 2):
            words = line.replace("\t", " ").split(" ")
            self._take(number, [word for word in words if word])
        missing = [name for name in (*LENGTHS, *ANGLES) if name not in self.numbers]
        if self.numbers and missing:
            text = f"{', '.join(missing)} missing; give all of a, b, c, al, be, ga, or none"
            raise CellFileError(self.file, max(self.lines.values()), text)
        a, b, c, al, be, ga = (self.numbers.get(name, math.nan) for name in (*LENGTHS, *ANGLES))
        cell = UnitCell(
            parameters=(a, b, c, al, be, ga) if self.numbers else None,
            lattice_type=self.words.get("lattice_type", "triclinic"),
            centering=self.words.get("centering", "P"),
            unique_axis=self.words.get("unique_axis", "*"),
        )
        return _checked(cell, self.file, self.lines, self.warnings)

    def _take(self, line: int, words: list[str]) -> None:
        if not words or words[0].startswith(";"):
            return
        if len(words) < 3:
            text = f"'{' '.join(words):.60}' has no effect; expected three words such as centering = P"
            self.warnings.append(f"{self.file}:{line}: {text}")
            return
        key, value = words[0], words[2]
        if key in (*LENGTHS, *ANGLES):
            self.numbers[key] = self._quantity(line, words)
        elif key == "lattice_type":
            self.words[key] = self._known(line, key, value, LATTICE_TYPES)
        elif key == "centering":
            self.words[key] = self._known(line, key, value[0], CENTERINGS)
        elif key == "unique_axis":
            axis = self._known(line, key, value[0], "abc*?")
            self.words[key] = "*" if axis == "?" else axis
        else:
            self.warnings.append(f"{self.file}:{line}: unknown field '{key:.60}' has no effect")
            return
        self.lines[key] = line

    def _known(self, line: int, key: str, value: str, known: tuple[str, ...] | str) -> str:
        if value not in known:
            text = f"{key} '{value:.60}' is not known; expected {', '.join(known)}"
            raise CellFileError(self.file, line, text)
        return value

    def _quantity(self, line: int, words: list[str]) -> float:
        key, value = words[0], words[2]
        units = ("A", "nm") if key in LENGTHS else ("deg", "rad")
        if len(words) < 4 or words[3] not in units:
            unit = f"the unit '{words[3]:.60}'" if len(words) > 3 else "no unit"
            text = f"{key} has {unit}; expected for instance {key} = {value:.60} {units[0]}"
            raise CellFileError(self.file, line, text)
        found = _number(value)
        if found is None:
            raise CellFileError(self.file, line, f"{key} = '{value:.60}' is no number")
        return found * _UNITS[words[3]]


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _from_pdb(lines: list[str], file: str) -> UnitCell:
    """The cell of the first CRYST1 record."""
    found = next((n for n, line in enumerate(lines) if line.startswith("CRYST1")), None)
    if found is None:
        text = f"is neither a unit cell file, whose first line is '{FIRST_LINE}', nor a PDB file with CRYST1"
        raise CellFileError(file, None if lines[0].strip() != FIRST_LINE else 1, text)
    line = lines[found]
    columns = [line[first:end] for first, end in _PDB_COLUMNS]
    values = [_number(column) for column in columns]
    if len(line) < _PDB_COLUMNS[-1][1] or None in values:
        text = "CRYST1 without six numbers in columns 7 to 54; expected the PDB's fixed columns"
        raise CellFileError(file, found + 1, text)
    if [column.strip() for column in columns[:3]] == ["1.000"] * 3:
        text = "CRYST1 has the placeholder of structures without crystal; give the cell of the crystal"
        raise CellFileError(file, found + 1, text)
    warnings = []
    centering = line[_PDB_CENTERING : _PDB_CENTERING + 1].strip()
    if not centering:
        warnings.append(f"{file}:{found + 1}: CRYST1 without centering in column 56; P is taken")
        centering = "P"
    elif centering not in CENTERINGS:
        text = f"centering '{centering}' is not known; expected {', '.join(CENTERINGS)}"
        raise CellFileError(file, found + 1, text)
    with np.errstate(over="ignore"):
        # CrystFEL reads the columns as float32; the head of a stream then says the same to the last digit.
        a, b, c, al, be, ga = (float(np.float32(value or 0.0)) for value in values)
    lattice_type, unique_axis = _lattice_of_columns(*columns)
    cell = UnitCell(
        parameters=(a, b, c, al, be, ga),
        lattice_type=lattice_type,
        centering=centering,
        unique_axis=unique_axis,
    )
    return _checked(cell, file, dict.fromkeys(("al", "a", "centering"), found + 1), warnings)


def _lattice_of_columns(a: str, b: str, c: str, al: str, be: str, ga: str) -> tuple[str, str]:
    """Lattice type and unique axis of a CRYST1 record: equal means the same characters, as in CrystFEL."""
    right = [angle == "  90.00" for angle in (al, be, ga)]
    if a == b == c and all(right):
        return "cubic", "*"
    if a == b == c and al == be == ga:
        return "rhombohedral", "*"
    equal_others = {"a": b == c, "b": a == c, "c": a == b}
    if all(right):
        unique = next((axis for axis, equal in equal_others.items() if equal), None)
        return ("tetragonal", unique) if unique else ("orthorhombic", "*")
    if sum(right) == 2:
        axis = "abc"[right.index(False)]
        if (al, be, ga)["abc".index(axis)] == " 120.00" and equal_others[axis]:
            return "hexagonal", axis
        return "monoclinic", axis
    return "triclinic", "*"


def _checked(cell: UnitCell, file: str, lines: dict[str, int], warnings: list[str]) -> UnitCell:
    """The cell with all warnings.

    Raises
    ------
    CellFileError
        If no crystal can have such a cell.
    """
    if cell.parameters is not None:
        _check_parameters(cell.parameters, file, lines)
    axis = cell.unique_axis
    if cell.lattice_type in WITH_UNIQUE_AXIS and axis == "*":
        text = f"a {cell.lattice_type} lattice needs unique_axis; give for instance unique_axis = c"
        raise CellFileError(file, lines.get("lattice_type"), text)
    if cell.lattice_type not in WITH_UNIQUE_AXIS and axis != "*":
        text = f"unique axis {axis} makes no sense for a {cell.lattice_type} lattice"
        warnings.append(f"{file}:{lines['unique_axis']}: {text}")
    if cell.lattice_type == "monoclinic" and cell.centering == axis.upper():
        text = f"centering {cell.centering} is on the unique axis; a monoclinic lattice has it elsewhere"
        raise CellFileError(file, lines.get("centering"), text)
    suits = cell.centering == "P" or cell.lattice_type in _BRAVAIS[cell.centering]
    if not suits or (cell.centering == "H" and axis != "c"):
        line = f":{lines['centering']}" if "centering" in lines else ""
        warnings.append(
            f"{file}{line}: {cell.lattice_type} {cell.centering} is not a conventional Bravais lattice"
        )
    return replace(cell, warnings=tuple(warnings))


def _check_parameters(
    parameters: tuple[float, float, float, float, float, float], file: str, lines: dict[str, int]
) -> None:
    """CrystFEL's ``validate_cell``, where it speaks of a serious problem, and lengths above 0."""
    lengths, (al, be, ga) = parameters[:3], parameters[3:]
    if not all(0 < length < math.inf for length in lengths):
        raise CellFileError(file, lines.get("a"), "the lengths of the cell must be finite and above 0")
    if max(lengths) > 1e6 * min(lengths):
        raise CellFileError(file, lines.get("a"), "one axis of the cell is over 10⁶ times another")
    sums = (al + be + ga, al + be - ga, al - be + ga, -al + be + ga)
    if not all(0 < total < 360 for total in sums):
        text = f"no cell can have the angles {al:g}, {be:g}, {ga:g} degrees"
        raise CellFileError(file, lines.get("al"), text)
    if min(al, be, ga) < 10:
        raise CellFileError(file, lines.get("al"), "an angle of the cell is below 10 degrees")
