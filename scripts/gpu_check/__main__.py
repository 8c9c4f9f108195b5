# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: finds what is needed, then runs the parts one after the other; see docs/gpu.md."""

import argparse
import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path

from gpu_check import needs
from gpu_check.plan import FULL, QUICK, TINY, Plan
from gpu_check.report import Report

PARTS = {
    "parity.check_all": True,
    "packed_parity.check_all": True,
    "axes_parity.check_all": True,
    "axes_parity.measure_all": False,
    "packed_rates.measure_all": False,
    "trial_parity.check_all": True,
    "trial_rates.measure_all": False,
    "sanitizer.check_all": True,
    "start.measure_all": False,
    "rates.measure_all": False,
    "packed_parity.check_damage": True,
}
"""What is run, in this order: module and function, and whether its breaking is a failure.

Damage comes last: should it take the device away, nothing else is lost with it.
"""


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check", description="Check gpuidx on a GPU and measure it."
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels; those of missing packages are installed for this run"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gpu-check-output"),
        help="folder of the reports (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases: at most three minutes")
    parser.add_argument("--device", type=int, default=0, help="number of the device (default: 0)")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> int:
    """Run all parts; 0 if nothing differs and compute-sanitizer, where it is, finds nothing."""
    chosen = parse()
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        print(
            f"needs Python 3.11 to 3.13, this is {sys.version.split()[0]}; set GPUIDX_PYTHON", file=sys.stderr
        )
        return 1
    plan = TINY if chosen.tiny else QUICK if chosen.quick else FULL
    report = Report(chosen.out, plan.seconds)
    with tempfile.TemporaryDirectory() as folder:
        _prepare(report, chosen.wheels, Path(folder) / "packages")
        missing = needs.missing_packages()
        if missing:
            names = ", ".join(needs.PACKAGES[name] for name in missing)
            report.fail(f"missing: {names}; put their wheels into a folder and give it with --wheels")
        else:
            _run_all(report, plan, chosen.device)
    report.line()
    report.line(f"{len(report.failures)} failures; {report.spent:.0f} s; reports in {report.folder}")
    for text in report.failures:
        report.line(f"  {text}")
    report.write()
    return int(bool(report.failures))


def _prepare(report: Report, wheels: Path | None, target: Path) -> None:
    """Say what is missing, and install it if there is a folder of wheels."""
    known = needs.PACKAGES | needs.OF_COMPRESSION
    missing = [known[name] for name in needs.missing_packages(known)]
    report.line(f"missing packages: {', '.join(missing) or 'none'}")
    if wheels is not None:
        lines: list[str] = []
        needs.install(wheels.resolve(), target, lines)
        for line in lines:
            report.line(line)


def _run_all(report: Report, plan: Plan, device: int) -> None:
    # imported here, as the parts are: they import what may have been installed a moment ago
    from gpu_check import environment, verdict

    if not environment.describe(report, device):
        return
    for name, must_work in PARTS.items():
        module, function = name.split(".")
        try:
            getattr(importlib.import_module(f"gpu_check.{module}"), function)(report, plan, device)
        except Exception as error:
            text = f"{name} ended with {type(error).__name__}: {error}"
            report.line(traceback.format_exc())
            report.data.setdefault("broken", []).append(text)
            if must_work:
                report.fail(text)
            else:
                report.line(text)
        report.write()
    verdict.judge(report)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
