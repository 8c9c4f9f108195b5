# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the kernels' sources are, and how all of them are compiled.  Nothing is compiled here."""

from pathlib import Path

import gpuidx
from gpuidx.errors import BackendError

OPTIONS = ("--std=c++17", "--fmad=false")
"""Of NVRTC, for every kernel.  Contraction would give other last bits than the CPU."""


def folder() -> Path:
    """The folder of the kernels: in the package where it is installed, beside it in a checkout.

    Raises
    ------
    BackendError
        If there is none.
    """
    package = Path(gpuidx.__file__).parent
    for place in (package / "kernels", package.parent / "kernels"):
        if any(place.glob("*.cu")):
            return place
    raise BackendError(f"{package / 'kernels'} is missing; install gpuidx again")
