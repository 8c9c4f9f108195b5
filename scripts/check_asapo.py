# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads from the stand-in ASAP::O server with the real client library while things go wrong; prints a table.

start: what cannot go well is said at once; deliver: every message once, in one run and in three, in another
group, after a reset; faults: each fault; random: many of them; kill: kill -9 and --resume; cpu: what reading
costs; disk: full, read-only and stalled.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from asapo_check import cpu, delivery, disk, faults, kills, start

Check = Callable[[Path, argparse.Namespace], bool]
CHECKS: dict[str, Check] = {
    "start": lambda folder, _: start.check(folder / "start"),
    "deliver": lambda folder, asked: delivery.check(folder, asked.messages),
    "faults": lambda folder, _: faults.each_fault(folder),
    "random": lambda folder, asked: faults.many(folder, asked.seed, asked.runs),
    "kill": lambda folder, asked: kills.check(folder / "kill", asked.kills, asked.seed),
    "cpu": lambda folder, asked: cpu.check(folder / "cpu", asked.messages),
    "disk": lambda folder, _: disk.check(folder / "disk"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*CHECKS, []], help="default: all")
    parser.add_argument("--seed", type=int, default=1, help="of the first run with random faults or kills")
    parser.add_argument("--runs", type=int, default=50, help="with random faults")
    parser.add_argument("--messages", type=int, default=500, help="of 4 MB, for deliver and cpu")
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
