# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backend a run uses; decided once, before anything is opened.  No backend is imported here."""

from gpuidx.errors import BackendError


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
        return "cpu", "backend: cpu, as asked for"
    return "cpu", "backend: cpu (this version has no CUDA backend)"
