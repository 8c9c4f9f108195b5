# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged messages for the decoders: each must be decoded or rejected, within two seconds.

Every decoder runs in a process of its own, so that one that dies or hangs is seen, named, and gone on after.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from format_fuzz.child import parts_of
from format_fuzz.subjects import SUBJECTS

PATIENCE = 30.0
"""s on the clock until a case counts as hung: other work on the machine may hold it up."""

MOST_DEATHS = 50


def run(name: str, seed: int, first: int, end: int) -> int:
    """Decode cases; says what was found, and gives how many cases went wrong."""
    count, wrong, begin = Counter[str](), 0, time.monotonic()
    deaths = 0
    with tempfile.TemporaryDirectory() as folder:
        state, output = Path(folder, "state"), Path(folder, "output")
        at = first
        while at < end and deaths < MOST_DEATHS:
            np.array([at]).tofile(state)
            ended, at_work = _watched(name, seed, at, end, state, output)
            for line in output.read_text().splitlines():
                said = json.loads(line)
                count.update(said.get("count", {}))
                if "wrong" in said:
                    wrong += 1
                    print(f"{name} case {said['case']}: {said['wrong']}")
            if not ended:
                break
            print(f"{name} case {at_work}: {ended}")
            wrong, deaths, at = wrong + 1, deaths + 1, at_work + 1
    shown = ", ".join(f"{value} {key}" for key, value in count.most_common())
    took = time.monotonic() - begin
    print(f"{name}: seed {seed}, {end - first} cases in {took:.0f} s, {wrong} wrong; {shown}")
    return wrong


def _watched(name: str, seed: int, first: int, end: int, state: Path, output: Path) -> tuple[str, int]:
    """How a child ended, empty if well, and the case it was at."""
    call = [sys.executable, "-m", "format_fuzz.child", name, *map(str, (seed, first, end)), str(state)]
    at_work = np.memmap(state, np.int64, "r")
    case, since = first, time.monotonic() + PATIENCE  # and time to begin
    with output.open("wb") as out, subprocess.Popen(call, stdout=out, cwd=Path(__file__).parent) as child:
        while child.poll() is None:
            if at_work[0] != case:
                case, since = int(at_work[0]), time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                child.kill()
                child.wait()
                return f"hung for {PATIENCE:.0f} s", case
            time.sleep(0.1)
        return (f"the process ended with {child.returncode}" if child.returncode else ""), int(at_work[0])


def keep(name: str, seed: int, case: int) -> None:
    """Write the parts of a case to files."""
    for i, part in enumerate(parts_of(SUBJECTS[name](), seed, case)):
        path = Path(f"fuzz-{name}-{seed}-{case}-part{i}.bin")
        path.write_bytes(part)
        print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FORMAT", help=f"default: all of {', '.join(SUBJECTS)}")
    parser.add_argument("--cases", type=int, help="for each format; default: 1000000, a tenth for libraries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--keep", type=int, metavar="CASE", help="write a case of one format to files instead"
    )
    options = parser.parse_args()
    names = options.names or list(SUBJECTS)
    for name in names:
        if name not in SUBJECTS:
            parser.error(f"no format '{name}'; there are {', '.join(SUBJECTS)}")
    if options.keep is not None:
        for name in names:
            keep(name, options.seed, options.keep)
        return
    wrong = 0
    for name in names:
        cases = options.cases if options.cases is not None else SUBJECTS[name]().cases
        wrong += run(name, options.seed, options.first, options.first + cases)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
