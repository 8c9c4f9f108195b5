# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run uses for its array work; decided once, before anything is opened.  No CuPy here."""

from typing import NamedTuple

from gpuidx.errors import BackendError
from gpuidx.options import RunOptions


class Choice(NamedTuple):
    """What a run uses.

    Attributes
    ----------
    name
        ``"cpu"`` or ``"cuda"``.
    line
        One line that says what was chosen, and why.
    devices
        Numbers of the CUDA devices to use; empty with ``"cpu"``.
    warnings
        What else the user should know, a line each.
    """

    name: str
    line: str
    devices: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def decide(options: RunOptions) -> Choice:
    """Choose between CPU and CUDA by ``--backend``, ``--gpu-devices`` and what is there.

    Raises
    ------
    BackendError
        If ``--backend=cuda`` cannot be had.
    """
    if options.backend == "cuda":
        raise BackendError("--backend=cuda: this version has no CUDA backend; give --backend=cpu or auto")
    if options.backend == "cpu":
        return Choice("cpu", "backend: cpu, as asked for")
    return Choice("cpu", "backend: cpu (this version has no CUDA backend)")
