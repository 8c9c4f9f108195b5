# SPDX-License-Identifier: GPL-3.0-or-later
"""Without a target cell: the main process gathers the lattices of frames, and proposes the cell.

What makes them agree is in `gpuidx.indexing.consensus`.  With ``--consensus-cell`` the workers use the cell
from then on; it goes to them with every task.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from gpuidx.cell import UnitCell
from gpuidx.errors import OptionError
from gpuidx.indexing.consensus import Consensus, Proposal
from gpuidx.options import Options

log = logging.getLogger(__name__)

CellTask = tuple[tuple[float, ...], str, str, str]
"""A cell in a task: parameters, lattice type, centring, unique axis."""


class CellSearch:
    """Looks for the cell of a run.

    Parameters
    ----------
    options
        Of the run: ``--consensus-cell``, ``--save-cell``.
    cell
        The target cell; if it has parameters, there is nothing to look for.

    Attributes
    ----------
    for_workers
        The cell that workers are to use instead of none; goes into tasks.

    Raises
    ------
    OptionError
        If the file for the cell cannot be written.
    """

    def __init__(self, options: Options, cell: UnitCell | None) -> None:
        self.for_workers: CellTask | None = None
        self._use, self._path = options.consensus_cell, Path(options.save_cell) if options.save_cell else None
        is_open = options.makes_trials and (cell is None or cell.parameters is None)
        self._consensus = Consensus() if is_open else None
        self._said: Proposal | None = None
        if self._path is not None:
            try:
                self._path.touch()
            except (OSError, ValueError) as error:
                raise OptionError(f"--save-cell={self._path} cannot be written: {error}") from error

    def add(self, cells: Sequence[Sequence[float]]) -> None:
        """Take the lattices of a frame; say, save and hand on what follows as soon as enough frames agree."""
        if not cells or self._consensus is None or self.for_workers is not None:
            return
        self._consensus.add(cells)
        if self._said is None:
            self._tell(self._consensus.proposal(), "proposed cell")

    def conclude(self) -> None:
        """At the end of the run: the same from all frames."""
        if self._consensus is None or self.for_workers is not None or not self._consensus.n_lattices:
            return
        proposal = self._consensus.proposal()
        if proposal is None:
            log.info("the %d frames with a lattice agree on no cell", self._consensus.n_lattices)
        elif self._said is None or proposal.n_frames > self._said.n_frames:
            self._tell(proposal, "cell of all frames")

    def _tell(self, proposal: Proposal | None, what: str) -> None:
        if proposal is None:
            return
        self._said = proposal
        log.info("%s: %s", what, proposal.line())
        if self._path is not None:
            try:
                self._path.write_text(proposal.text(), encoding="ascii")
            except OSError as error:  # the run is worth more than this file
                log.warning("--save-cell=%s cannot be written: %s", self._path, error)
        cell = proposal.cell
        if self._use and cell.parameters is not None:
            log.info("frames are indexed with this cell from now on (--consensus-cell)")
            self.for_workers = cell.parameters, cell.lattice_type, cell.centering, cell.unique_axis


def cell_of_task(given: CellTask | None) -> UnitCell | None:
    """The cell that came with a task."""
    if given is None:
        return None
    a, b, c, al, be, ga = given[0]
    return UnitCell(
        parameters=(a, b, c, al, be, ga), lattice_type=given[1], centering=given[2], unique_axis=given[3]
    )
