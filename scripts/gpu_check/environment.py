# SPDX-License-Identifier: GPL-3.0-or-later
"""What the check runs on: card, driver, CuPy, NVRTC, clocks, memory, cores."""

import os
import platform
import subprocess
from dataclasses import asdict

from gpu_check.report import PRETENDED, Report, is_pretended
from gpuidx.backends.cuda import detect

QUERY = (
    "name,driver_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,pcie.link.gen.current,pcie.link.width.current,"
    "power.limit,temperature.gpu,compute_mode,ecc.mode.current"
)


def describe(report: Report, device: int) -> bool:
    """Write down the environment; whether *device* can be used."""
    report.title("environment")
    found = detect.look([device])
    chosen = next((info for info in found.devices if info.number == device), None)
    report.pretended = is_pretended() or (chosen is not None and chosen.name.startswith("Pretended"))
    host = {
        "python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release(),
        "cores": os.cpu_count(), "usable_cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0],
    }  # fmt: skip
    report.data["environment"] = {"host": host, "cuda": asdict(found), "nvidia_smi": nvidia_smi(device)}
    if report.pretended:
        report.line(PRETENDED)
    report.line(f"driver {found.driver}; {found.cupy}; runtime {found.runtime}; NVRTC {found.nvrtc}")
    report.line(f"host: {', '.join(f'{name} {value}' for name, value in host.items())}")
    for name, value in report.data["environment"]["nvidia_smi"].items():
        report.line(f"  {name}: {value}")
    if chosen is None or not chosen.usable:
        problem = chosen or found
        report.fail(f"device {device}: {problem.problem or 'there is no such device'}; {problem.mend}")
        return False
    report.line(
        f"device {device}: {chosen.name}, compute capability {'.'.join(map(str, chosen.capability))}, "
        f"{chosen.total / 1e9:.1f} GB, {chosen.free / 1e9:.1f} GB free"
    )
    return True


def nvidia_smi(device: int) -> dict[str, str]:
    """What nvidia-smi tells of the device's state; empty without it."""
    command = ["nvidia-smi", f"--id={device}", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"nvidia-smi": f"not there ({type(error).__name__})"}
    values = [word.strip() for word in done.stdout.strip().split(",")]
    names = QUERY.split(",")
    return (
        dict(zip(names, values, strict=True))
        if len(values) == len(names)
        else {"nvidia-smi": done.stdout.strip()[:200]}
    )
