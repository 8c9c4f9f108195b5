# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell that the lattices of many frames agree on.

Frames are indexed one by one without a cell; some come out with a multiple or a fraction of the true cell.
The lattices are sorted into groups of equal ones, and the largest group that is large enough gives the cell.
Plain NumPy: the main process uses it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, cell_parameters, cell_text, real_axes
from gpuidx.indexing.bravais import conventional_cell
from gpuidx.lattice import reduce_axes, unimodular_matrices

Metric = NDArray[np.float64]

SAME = 0.03
"""Greatest difference of squares and products of two equal lattices, relative to the lengths: 1.5 % in a
length, 1.7 degrees in a right angle."""

FEWEST_FRAMES = 12
"""Frames that must agree on a cell."""

LEAST_SHARE = 0.4
"""Of the frames with a lattice that must agree,"""
AHEAD = 2.0
"""and how many times as many as on any other cell."""

MOST_MEMBERS = 400
"""Lattices of a group that are kept, the latest: their median changes no more."""
MOST_GROUPS = 500
"""If there are more, the smallest are forgotten."""

SPREAD_FACTOR = 3.0
LEAST_TOLERANCE, GREATEST_TOLERANCE = 0.01, 0.02
"""The lattice type is looked for within so many times the spread between frames, but between these limits:
errors of the geometry, which frames share, distort a lattice by about as much as the lower one."""

_SIGMA_OF_MEDIAN = 1.4826
_UPPER = np.triu_indices(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A cell that frames agree on.

    Attributes
    ----------
    cell
        Conventional, with parameters.
    spread
        Standard deviation between frames of a, b, c (Å) and al, be, ga (degrees), robust.
    n_frames
        That agree.
    n_lattices
        Frames with any lattice.
    nearly
        The more symmetric cell that it is near to; None if there is none.
    """

    cell: UnitCell
    spread: tuple[float, ...]
    n_frames: int
    n_lattices: int
    nearly: UnitCell | None = None

    def line(self) -> str:
        """For the terminal."""
        assert self.cell.parameters is not None
        a, b, c, al, be, ga = self.cell.parameters
        da, db, dc, dal, dbe, dga = self.spread
        return (
            f"{self.cell.lattice_type} {self.cell.centering}, "
            f"a {a:.2f}({da:.2f}) b {b:.2f}({db:.2f}) c {c:.2f}({dc:.2f}) Å, "
            f"al {al:.2f}({dal:.2f}) be {be:.2f}({dbe:.2f}) ga {ga:.2f}({dga:.2f})°; "
            f"{self.n_frames} of {self.n_lattices} indexed frames agree"
            + (f"; nearly {_described(self.nearly)}" if self.nearly is not None else "")
        )

    def text(self) -> str:
        """The .cell file, which CrystFEL reads."""
        head, rest = cell_text(self.cell).split("\n", 1)
        line = self.line().replace(" Å", " A").replace("°", " deg")  # other programs may know ASCII only
        return f"{head}\n; {line}\n{rest}"


@dataclass
class _Group:
    """Lattices that are equal, all in the setting of the first."""

    reference: Metric
    members: list[Metric] = field(default_factory=list)
    n_frames: int = 0

    def __post_init__(self) -> None:
        self.lengths = _lengths(self.reference)

    def add(self, metric: Metric) -> None:
        self.members.append(metric)
        del self.members[:-MOST_MEMBERS]
        if len(self.members) <= FEWEST_FRAMES or len(self.members) % 16 == 0:
            self.reference = np.median(self.members, axis=0)
            self.lengths = _lengths(self.reference)

    def tolerance(self) -> float:
        """How far from symmetric the lattice may look, from the spread of the members."""
        scale = _scale(self.reference)
        middle = np.median(self.members, axis=0)
        deviation = _SIGMA_OF_MEDIAN * np.median(np.abs(np.array(self.members) - middle), axis=0) / scale
        return float(np.clip(SPREAD_FACTOR * deviation.max(), LEAST_TOLERANCE, GREATEST_TOLERANCE))


class Consensus:
    """Gathers the lattices of frames until enough agree.

    Attributes
    ----------
    n_lattices
        Frames that were given with a lattice.
    """

    def __init__(self) -> None:
        self.n_lattices = 0
        self._groups: list[_Group] = []
        matrices = unimodular_matrices()
        # How the six elements of a metric become those of M G M'.
        basis = np.zeros((6, 3, 3))
        for k, (i, j) in enumerate(zip(*_UPPER, strict=True)):
            basis[k, i, j] = basis[k, j, i] = 1.0
        turned = np.array([matrices @ one @ matrices.transpose(0, 2, 1) for one in basis])
        self._settings = np.ascontiguousarray(turned[:, :, _UPPER[0], _UPPER[1]].transpose(1, 2, 0))

    def add(self, cells: Iterable[Sequence[float]]) -> None:
        """Take the cells of one frame: parameters of any primitive cell of each lattice, Å and degrees.

        A frame counts once for each cell it has; parameters that are no cell are ignored.
        """
        touched: list[_Group] = []
        for cell in cells:
            metric = _metric_of(cell)
            if metric is None:
                continue
            group = self._group_of(metric)
            if not any(group is other for other in touched):
                touched.append(group)
        for group in touched:
            group.n_frames += 1
        self.n_lattices += bool(touched)
        if len(self._groups) > MOST_GROUPS:
            self._groups.sort(key=lambda group: -group.n_frames)
            del self._groups[MOST_GROUPS // 2 :]

    def _group_of(self, metric: Metric) -> _Group:
        """The group that a lattice belongs to, after it was added."""
        lengths = _lengths(metric)
        settings: NDArray[np.float64] | None = None
        for group in self._groups:
            if any(abs(x - y) > SAME * y for x, y in zip(lengths, group.lengths, strict=True)):
                continue
            if settings is None:
                settings = self._settings @ metric[_UPPER]
            scale = _scale(group.reference)[_UPPER]
            apart = (np.abs(settings - group.reference[_UPPER]) / scale).max(1)
            nearest = int(np.argmin(apart))
            if apart[nearest] < SAME:
                group.add(_full(settings[nearest]))
                return group
        self._groups.append(_Group(reference=metric))
        self._groups[-1].add(metric)
        return self._groups[-1]

    def proposal(self) -> Proposal | None:
        """The cell that the frames agree on; None if they do not yet."""
        ordered = sorted(self._groups, key=lambda group: -group.n_frames)
        if not ordered or ordered[0].n_frames < max(FEWEST_FRAMES, LEAST_SHARE * self.n_lattices):
            return None
        if len(ordered) > 1 and ordered[0].n_frames < AHEAD * ordered[1].n_frames:
            return None
        return self._proposal_of(ordered[0])

    def _proposal_of(self, group: _Group) -> Proposal | None:
        try:
            cell, K = conventional_cell(np.median(group.members, axis=0), group.tolerance())
        except ValueError:
            return None
        each = np.array([cell_parameters(K @ np.linalg.cholesky(metric)) for metric in group.members])
        symmetric, _ = conventional_cell(np.median(group.members, axis=0), GREATEST_TOLERANCE)
        spread = _SIGMA_OF_MEDIAN * np.median(np.abs(each - np.median(each, axis=0)), axis=0)
        return Proposal(
            cell=cell,
            spread=tuple(spread.tolist()),
            n_frames=group.n_frames,
            n_lattices=self.n_lattices,
            nearly=None if symmetric.lattice_type == cell.lattice_type else symmetric,
        )


def primitive_parameters(recip: NDArray[np.float64]) -> tuple[float, ...]:
    """Parameters of the reduced cell of a lattice, for `Consensus.add`.

    Parameters
    ----------
    recip : (abc*, xyz)
        Of a primitive cell, Å⁻¹.
    """
    return cell_parameters(reduce_axes(np.asarray(np.linalg.inv(recip).T, np.float64))[0])


def _described(cell: UnitCell) -> str:
    assert cell.parameters is not None
    return f"{cell.lattice_type} {cell.centering}, " + " ".join(f"{x:.2f}" for x in cell.parameters)


def _metric_of(cell: Sequence[float]) -> Metric | None:
    """Metric of the reduced cell; None if the parameters are no cell."""
    try:
        a, b, c, al, be, ga = map(float, cell)
        with np.errstate(invalid="ignore", divide="ignore"):
            axes, _ = reduce_axes(real_axes((a, b, c, al, be, ga)))
    except ValueError:
        return None
    return np.asarray(axes @ axes.T)


def _lengths(metric: Metric) -> list[float]:
    """Lengths of the axes of a reduced cell, rising: they do not depend on the choice of the cell."""
    lengths: list[float] = np.sqrt(np.sort(np.diag(metric))).tolist()
    return lengths


def _scale(metric: Metric) -> Metric:
    """Products of the lengths of two axes, (3, 3)."""
    length = np.sqrt(np.diag(metric))
    return np.asarray(np.outer(length, length))


def _full(elements: NDArray[np.float64]) -> Metric:
    """A metric from its upper triangle."""
    metric = np.empty((3, 3))
    metric[_UPPER] = elements
    metric.T[_UPPER] = elements
    return metric
