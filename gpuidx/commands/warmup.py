# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx warmup``: compile ahead, for an installation or the node type of a cluster."""

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Compile everything that a run calls into Numba's cache; gives the exit code."""
    argparse.ArgumentParser(
        prog="gpuidx warmup",
        description="Compile everything that a run calls, so that no run has to wait for it.",
    ).parse_args(argv)
    from gpuidx import warm

    print(f"compiled or loaded in {warm.SECONDS:.1f} s")
    return 0
