# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx devices``: which CUDA devices can be used, and if not, why and how to mend it."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gpuidx.backends.cuda.detect import probe
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo
from gpuidx.options import RunOptions
from gpuidx.selection import Choice, choose

DESCRIPTION = """Look for CUDA devices and try each.  Ends with 0 if at least one is usable, else with 1."""

_COLUMNS = "{:>6}  {:28}  {:>10}  {:>9}  {:>8}  {}"


def main(argv: Sequence[str]) -> int:
    """Print what there is of CUDA; gives the exit code."""
    parser = argparse.ArgumentParser(prog="gpuidx devices", description=DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")
    options = parser.parse_args(argv)
    report = probe()
    if options.json:
        print(json.dumps(_values(report), indent=2))
    else:
        print("\n".join(lines(report)))
    return 0 if any(device.usable for device in report.devices) else 1


def _values(report: CudaReport) -> dict[str, Any]:
    """The report for scripts."""
    found = [{**asdict(device), "usable": device.usable} for device in report.devices]
    return {**asdict(report), "devices": found, "auto": _by_default(report).name}


def lines(report: CudaReport) -> list[str]:
    """The report for people."""
    cupy = report.cupy + (f", for CUDA {report.runtime}" if report.runtime else "")
    found = [
        f"driver  {report.driver or 'not found'}",
        f"CuPy    {cupy or 'not installed'}",
        f"NVRTC   {report.nvrtc or ('missing' if report.runtime else 'not looked for')}",
        "",
    ]
    if report.problem:
        found += [f"CUDA cannot be used: {report.problem}", f"  to mend it: {report.mend}", ""]
    else:
        found.append(_COLUMNS.format("device", "name", "capability", "memory GB", "free GB", "usable"))
        for device in report.devices:
            found += _device_lines(device)
        found.append("")
    found.append(f"Without options a run says: {_by_default(report).line}")
    return found


def _by_default(report: CudaReport) -> Choice:
    """What ``--backend=auto`` chooses with the default of ``--gpu-devices``."""
    return choose(report, RunOptions().gpu_devices)


def _device_lines(device: DeviceInfo) -> list[str]:
    name = device.name or "unknown"
    capability = "{}.{}".format(*device.capability) if any(device.capability) else "-"
    memory = [f"{n / 1e9:.1f}" if n else "-" for n in (device.total, device.free)]
    usable = "yes" if device.usable else f"no: {device.problem}"
    row = _COLUMNS.format(device.number, name, capability, *memory, usable)
    return [row] if device.usable else [row, f"        to mend it: {device.mend}"]
