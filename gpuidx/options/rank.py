# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of this process among those that a launcher has started, and names of files made of it."""

import os
from collections.abc import Mapping

from gpuidx.errors import OptionError

RANK = "%r"
"""In a name it stands for the rank."""

VARIABLES = ("PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""Which launchers set, the innermost first: an mpirun within a Slurm job has its own ranks."""


def rank_of(given: int | None, environment: Mapping[str, str] = os.environ) -> int:
    """The rank that was given, or that of the launcher.

    Raises
    ------
    OptionError
        If there is none.
    """
    if given is not None:
        return given
    for variable in VARIABLES:
        value = environment.get(variable, "")
        if value.isdecimal():
            return int(value)
    raise OptionError(
        f"{RANK} in a file name stands for the rank of the process, and there is none: neither --rank=N nor "
        f"one of the variables {', '.join(VARIABLES)}, which srun and mpirun set"
    )
