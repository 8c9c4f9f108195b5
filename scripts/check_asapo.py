# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads from the stand-in ASAP::O server with the real client library while things go wrong; prints a table.

deliver: every message once, from one run and from three, in another group, after a reset; faults: each fault;
random: runs with many; kill: kill -9 and --resume; cpu: what reading costs; disk: full, read-only and stalled.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from asapo_check import faults

Check = Callable[[Path, argparse.Namespace], bool]
CHECKS: dict[str, Check] = {
    "faults": lambda folder, _: faults.each_fault(folder),
    "random": lambda folder, asked: all(
        [faults.at_random(folder, seed) for seed in range(asked.seed, asked.seed + asked.runs)]
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*CHECKS, []], help="default: all")
    parser.add_argument("--seed", type=int, default=1, help="of the first run with random faults or kills")
    parser.add_argument("--runs", type=int, default=50, help="with random faults")
    parser.add_argument("--kills", type=int, default=20)
    asked = parser.parse_args()
    good = True
    for what in asked.what or CHECKS:
        with tempfile.TemporaryDirectory(prefix="check-asapo-") as folder:
            print(f"--- {what}", flush=True)
            good &= CHECKS[what](Path(folder), asked)
    print("all is well" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
