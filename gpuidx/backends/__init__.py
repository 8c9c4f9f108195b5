# SPDX-License-Identifier: GPL-3.0-or-later
"""The array work, one contract and several makers; `choose_backend` is the only place that chooses.

Backends are imported when they are made: they need compilers or devices.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gpuidx.errors import BackendError

if TYPE_CHECKING:
    from gpuidx.backends.contract import Backend
    from gpuidx.cell import UnitCell
    from gpuidx.geometry.detector import Geometry
    from gpuidx.geometry.masks import Masks
    from gpuidx.options import Options

__all__ = ["choose_backend", "decide"]

_log = logging.getLogger(__name__)


def decide(wanted: str) -> tuple[str, str]:
    """Which backend a run uses, and one line that says why.

    Parameters
    ----------
    wanted
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    name, reason

    Raises
    ------
    BackendError
        If what is wanted cannot be had.
    """
    if wanted == "cuda":
        raise BackendError("--backend=cuda: this version has no CUDA backend; give --backend=cpu or auto")
    if wanted == "cpu":
        return "cpu", "Backend: cpu, as asked for."
    return "cpu", "Backend: cpu (this version has no CUDA backend)."


def choose_backend(options: Options, geometry: Geometry, masks: Masks, cell: UnitCell | None) -> Backend[Any]:
    """Make the backend of a run; what was chosen and why is logged in one line.

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
    _, reason = decide(options.backend)
    _log.debug("%s", reason)
    from gpuidx.backends.cpu.backend import CpuBackend

    return CpuBackend(geometry, options, masks, cell)
