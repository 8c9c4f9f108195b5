# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx warmup``: compile ahead, for an installation or the node type of a cluster."""

import argparse
import time
from collections.abc import Sequence

from gpuidx.backends.cuda.detect import probe
from gpuidx.backends.cuda.problems import backend_error


def main(argv: Sequence[str]) -> int:
    """Compile everything that a run calls, for the CPU and usable devices; gives the exit code."""
    argparse.ArgumentParser(
        prog="gpuidx warmup",
        description="Compile everything that a run calls, so that no run has to wait for it.",
    ).parse_args(argv)
    from gpuidx import warm

    print(f"compiled or loaded in {warm.SECONDS:.1f} s")
    for device in probe().devices:
        if device.usable:
            _compile_for(device.number, device.name)
    return 0


def _compile_for(number: int, name: str) -> None:
    from gpuidx.backends.cuda.ahead import compile_ahead

    begun = time.perf_counter()
    try:
        n_variant = compile_ahead(number)
    except Exception as error:
        raise backend_error(f"device {number} ({name})", error) from error
    seconds = time.perf_counter() - begun
    print(f"device {number} ({name}): {n_variant} variants of the kernels compiled in {seconds:.1f} s")
