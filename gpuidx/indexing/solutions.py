# SPDX-License-Identifier: GPL-3.0-or-later
"""Crystals from a file instead of trials: ``--indexing=file``.

One crystal a line, as in CrystFEL 0.12 (``indexamajig(1)``, "indexing by file")::

    filename event asx asy asz bsx bsy bsz csx csy csz shift_x shift_y tPc

with reciprocal axes in nm⁻¹, shifts of the detector in mm, and the lattice type, centring and unique axis.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import CENTERINGS, WITH_UNIQUE_AXIS, UnitCell
from gpuidx.errors import SolutionFileError

LARGEST_FILE = 1 << 30
"""Bytes; whatever is larger was named by mistake."""

FIELDS = 14
_TYPES = {
    "a": "triclinic", "m": "monoclinic", "o": "orthorhombic", "t": "tetragonal", "c": "cubic",
    "h": "hexagonal", "r": "rhombohedral",
}  # fmt: skip

Key = tuple[str, str]
"""Filename and event of a frame, as the stream names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A crystal that the file gives.

    Attributes
    ----------
    axes : (abc, xyz)
        Real-space axes of its conventional cell, Å, right-handed.
    cell
        Lattice type, centring and unique axis; no parameters.
    shift : (xy,)
        Of the detector, m.
    """

    axes: NDArray[np.float64]
    cell: UnitCell
    shift: tuple[float, float]


class Solutions:
    """The crystals of a file, by frame.

    Attributes
    ----------
    file
        Its name.
    n_crystal
        Lines.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.n_crystal = 0
        self._of: dict[Key, list[Solution]] = {}

    def add(self, key: Key, solution: Solution) -> None:
        """Take one crystal of a frame."""
        self._of.setdefault(key, []).append(solution)
        self.n_crystal += 1

    def of(self, filename: str, event: str) -> tuple[Solution, ...]:
        """The crystals of a frame, in the order of the file."""
        return tuple(self._of.get((filename, event), ()))

    def line(self) -> str:
        """What the file holds, for the user."""
        if not self._of:
            return f"{self.file}: holds no crystals"
        filename, event = next(iter(self._of))
        return f"{self.file}: {self.n_crystal} crystals of {len(self._of)} frames, first {filename} {event}"


def read_solutions(path: str) -> Solutions:
    """Read a file of crystals.

    Raises
    ------
    SolutionFileError
        If it cannot be read, or a line is not understood.
    """
    try:
        if Path(path).stat().st_size > LARGEST_FILE:
            raise SolutionFileError(path, None, "is too large; expected a line of text for each crystal")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise SolutionFileError(path, None, f"cannot be read: {reason}") from error
    solutions = Solutions(path)
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        try:
            solutions.add(*_crystal(line))
        except ValueError as problem:
            raise SolutionFileError(path, number, str(problem)) from None
    return solutions


def _crystal(line: str) -> tuple[Key, Solution]:
    """One line; ValueError with the reason if it is not understood.  The filename may hold blanks."""
    words = line.strip().rsplit(None, FIELDS - 1)
    if len(words) < FIELDS:
        raise ValueError(
            f"{len(words)} words; expected {FIELDS}: filename, event, nine components of a*, b*, c* in "
            "nm⁻¹, two shifts in mm, lattice type with centring"
        )
    filename, event, *numbers, symbol = words
    values = np.array([_number(word) for word in numbers])
    recip = values[:9].reshape(3, 3) / 10.0
    volume = float(np.linalg.det(recip))
    if not volume > 0.0:
        hand = "are left-handed" if volume < 0.0 else "lie in a plane"
        raise ValueError(f"a*, b*, c* {hand}; expected right-handed axes of a lattice")
    axes = np.ascontiguousarray(np.linalg.inv(recip).T, np.float64)
    shift = (1e-3 * float(values[9]), 1e-3 * float(values[10]))
    return (filename, event), Solution(axes, lattice_of(symbol), shift)


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{word:.60}' is not a finite number")
    return value


def lattice_of(symbol: str) -> UnitCell:
    """Lattice type, centring and unique axis of a symbol such as ``tIc``, ``mCb`` or ``oP``.

    Raises
    ------
    ValueError
        If it is none.
    """
    kind, centering, unique = _TYPES.get(symbol[:1], ""), symbol[1:2], symbol[2:]
    if not kind or centering not in CENTERINGS or not centering or len(symbol) > 3:
        raise ValueError(
            f"lattice '{symbol:.60}' is not known; expected one of {' '.join(_TYPES)}, one of "
            f"{' '.join(CENTERINGS)}, and for m, t, h the unique axis, such as tPc"
        )
    if kind not in WITH_UNIQUE_AXIS:
        return UnitCell(parameters=None, lattice_type=kind, centering=centering)
    if unique not in ("a", "b", "c"):
        raise ValueError(f"lattice '{symbol}' needs its unique axis, such as {symbol[:2]}c")
    return UnitCell(parameters=None, lattice_type=kind, centering=centering, unique_axis=unique)
