# SPDX-License-Identifier: GPL-3.0-or-later
"""The array work, one contract and several makers.  What a run uses is decided in `gpuidx.selection`.

Backends are imported when they are made: they need compilers or devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuidx.backends.cpu.backend import CpuBackend
    from gpuidx.cell import UnitCell
    from gpuidx.geometry.detector import Geometry
    from gpuidx.geometry.masks import Masks
    from gpuidx.options import Options

__all__ = ["choose_backend"]


def choose_backend(options: Options, geometry: Geometry, masks: Masks, cell: UnitCell | None) -> CpuBackend:
    """Make the backend of a worker: that of the CPU, whatever works on the frames of the run besides.

    Parameters
    ----------
    options, geometry, masks
        Of the run.
    cell
        The target cell; without one lattices of any cell are looked for.

    Raises
    ------
    BackendError
        If it cannot work with the cell.
    """
    from gpuidx.backends.cpu.backend import CpuBackend

    return CpuBackend(geometry, options, masks, cell)
