# SPDX-License-Identifier: GPL-3.0-or-later
"""Small cases under compute-sanitizer; as a program, ``python -m gpu_check.sanitizer``, what runs there."""

import os
import re
import subprocess
import sys

from gpu_check.needs import OF_COMPRESSION, find_sanitizer, missing_packages
from gpu_check.plan import Plan
from gpu_check.report import Report

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SUMMARY = re.compile(r"=+ ((?:ERROR|RACECHECK) SUMMARY: (\d+) .*)")
REFUSED = ("Device not supported", "Unable to find injection library", "Driver version is not supported")
"""What the tool says where it cannot work at all: that is nothing against the kernels."""

N_SMALL = 3
"""Small cases that the tools see."""


def check_all(report: Report, plan: Plan, device: int) -> None:
    """Run every tool that is there, as long as there is time."""
    report.title("compute-sanitizer, small cases")
    command = find_sanitizer()
    results: dict[str, str] = {}
    report.data["sanitizer"] = results
    if command is None:
        report.line(
            "not found (PATH, CUDA_HOME, /usr/local/cuda*, wheel nvidia-cuda-sanitizer-api*): NOT RUN"
        )
        results["tool"] = "not found"
        return
    report.line(" ".join(command))
    for tool in TOOLS:
        seconds = min(plan.sanitizer_seconds, report.left - 60)
        child = [sys.executable, "-m", "gpu_check.sanitizer", str(device), *plan.sanitizer_groups]
        _run(report, [*command, "--tool", tool, "--print-limit", "20", *child], tool, seconds)
        report.write()
        if results[tool].startswith("NOT RUN: it cannot"):
            break


def _run(report: Report, command: list[str], tool: str, seconds: float) -> None:
    results = report.data["sanitizer"]
    if seconds < 5:
        results[tool] = "NOT RUN: no time left"
        report.line(f"{tool}: {results[tool]}")
        return
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=seconds, env=os.environ | {"CUPY_ACCELERATORS": ""},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        results[tool] = f"NOT RUN to its end: more than {seconds:.0f} s"
        report.line(f"{tool}: {results[tool]}")
        return
    results[tool] = verdict(done.stdout, done.returncode)
    (report.folder / f"sanitizer-{tool}.txt").write_text(done.stdout)
    if results[tool].startswith("errors"):
        for line in done.stdout.splitlines()[:40]:
            report.line(f"    {line}")
        report.fail(f"{tool}: {results[tool]}")
    else:
        report.line(f"{tool}: {results[tool]}")


def verdict(output: str, code: int) -> str:
    """What a run says: clean, errors, or that the tool could not work."""
    refused = next((line for line in output.splitlines() if any(word in line for word in REFUSED)), None)
    if refused:
        return f"NOT RUN: it cannot work here ({refused.strip('= ')})"
    summary = SUMMARY.search(output)
    if summary is None:
        return f"NOT RUN: no summary (code {code}): {' '.join(output.split())[-200:]}"
    if int(summary[2]) or code or "no difference in" not in output:
        return f"errors: {summary[1]} (code {code})"
    return f"clean: {summary[1]}"


def main() -> int:
    """Compare small cases without CuPy's pool of memory, so that every array has limits of its own."""
    import cupy

    from gpu_check import packed_parity
    from gpu_check.cases import GROUPS, all_runs
    from gpu_check.parity import Tally, check_run
    from gpu_check.trial_parity import check_few

    cupy.cuda.set_allocator(None)
    tally = Tally()
    device, *groups = sys.argv[1:]
    if "packed" in groups and not missing_packages(OF_COMPRESSION):
        tally.differences += packed_parity.check_few(int(device))
    small = range(N_SMALL if "small" in groups else 0)
    if "trials" in groups:
        tally.frames, differences = check_few(int(device))
        tally.differences += differences
    for run in all_runs(small, range(0), tuple(name for name in groups if name in GROUPS)):
        check_run(run, tally, int(device))
    for text in tally.differences:
        print(text)
    if not tally.differences:
        print(f"no difference in {tally.frames} frames")
    return int(bool(tally.differences))


if __name__ == "__main__":
    sys.exit(main())
