# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged data for kernels; see ``scripts/fuzz-kernels``."""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from backends import packed_pixels  # noqa: E402
from emulator.cuda_on_cpu import KernelError  # noqa: E402

FUZZERS = {"bslz4": packed_pixels.fault_of}
BETWEEN_LINES = 5000


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged data for the kernels, in the emulator")
    parser.add_argument("kernel", choices=FUZZERS)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    wanted = parser.parse_args()
    outcomes: Counter[str] = Counter()
    faults, begun = 0, time.process_time()
    for seed in range(wanted.first, wanted.first + wanted.cases):
        try:
            outcome, fault = FUZZERS[wanted.kernel](seed)
        except KernelError as error:
            outcome, fault = "reported", str(error)
        outcomes[outcome] += 1
        if fault:
            faults += 1
            print(f"case {seed}: {fault}", flush=True)
        if (seed + 1 - wanted.first) % BETWEEN_LINES == 0:
            print(f"{seed + 1 - wanted.first} cases: {dict(outcomes)}, {faults} faults", flush=True)
    seconds = time.process_time() - begun
    print(f"{wanted.cases} cases in {seconds:.0f} s of CPU: {dict(outcomes)}, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
