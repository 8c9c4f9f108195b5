# SPDX-License-Identifier: GPL-3.0-or-later
"""The array work, one contract and several makers; `choose_backend` is the only place that chooses.

Backends are imported when they are made: they need compilers or devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuidx.selection import decide

if TYPE_CHECKING:
    from gpuidx.backends.contract import Backend
    from gpuidx.cell import UnitCell
    from gpuidx.geometry.detector import Geometry
    from gpuidx.geometry.masks import Masks
    from gpuidx.options import Options

__all__ = ["choose_backend"]


def choose_backend(options: Options, geometry: Geometry, masks: Masks, cell: UnitCell | None) -> Backend[Any]:
    """Make the backend that `gpuidx.selection.decide` names.

    Parameters
    ----------
    options, geometry, masks
        Of the run.
    cell
        The target cell; without one there are no indexing trials.

    Raises
    ------
    BackendError
        If the backend that is wanted cannot be had, or cannot work with the cell.
    """
    name, _ = decide(options.backend)
    assert name == "cpu"
    from gpuidx.backends.cpu.backend import CpuBackend

    return CpuBackend(geometry, options, masks, cell)
