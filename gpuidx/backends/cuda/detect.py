# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether CUDA can be used here, on which devices, and if not, why and how to mend it.

`probe` is for main: it touches neither CuPy nor a device, but asks a process of its own, in which `look`
tries everything.  A driver that hangs or crashes takes only that process with it.
"""

import ctypes
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from gpuidx.backends.cuda.problems import DRIVER_FOR, INSTALL, Problem, explain, one_line
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo
from gpuidx.backends.cuda.sources import OPTIONS

log = logging.getLogger(__name__)

LIMIT = 60.0
"""Seconds until a driver counts as hanging; the first contact with many devices can take 20."""

LONG = 5.0
"""Seconds after which the user is told what the wait is for."""

LEAST_FREE = 256e6
"""Bytes of device memory below which no run is possible."""

COMMAND = (
    sys.executable,
    "-c",
    "import sys; sys.path[:] = sys.argv[2:]; from gpuidx.backends.cuda.detect import main; main(sys.argv[1])",
)
"""The process that looks; behind it the wanted devices, and where modules are searched."""

TINY = """
extern "C" __global__ __launch_bounds__(32) void gpuidx_probe(int* out, int start) {
    out[threadIdx.x] = start + 3 * (int)threadIdx.x;
}
"""
"""Compiled and run on each device: finds a missing compiler, a wrong architecture, a broken driver."""

_NO_DRIVER = Problem(
    "no NVIDIA driver",
    f"install NVIDIA's driver, {DRIVER_FOR[12]} or newer; a container must be started with access to devices",
)


def driver_problem() -> Problem | None:
    """What a test without CuPy, of a few milliseconds, finds to be missing; None if nothing."""
    if sys.platform != "linux":
        return Problem("CUDA is used on Linux only", "run on Linux")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        if "No such file" in str(error):
            return _NO_DRIVER
        return Problem(f"NVIDIA's driver cannot be loaded ({one_line(error)})", "install the driver again")
    return None


def cupy_packages() -> list[str]:
    """The installed packages that bring CuPy, with their versions; not imported."""
    found = []
    for name in ("cupy", *(f"cupy-cuda{major}x" for major in range(11, 20))):
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found


def probe(wanted: Sequence[int] = (), *, limit: float = LIMIT) -> CudaReport:
    """What there is of CUDA, without CuPy and without a device in this process.

    Parameters
    ----------
    wanted
        Numbers of the devices to try; empty: all.
    limit
        Seconds after which a driver counts as hanging.

    Returns
    -------
    CudaReport
        Whatever goes wrong is in it; nothing is raised.
    """
    packages = cupy_packages()
    report = CudaReport(cupy=", ".join(packages))
    if problem := driver_problem():
        return report.failed(problem)
    report = replace(report, driver=_kernel_driver())
    if importlib.util.find_spec("cupy") is None:
        return report.failed(Problem("CuPy is not installed", INSTALL))
    if len(packages) > 1:
        names = [package.split()[0] for package in packages]
        mend = f"pip uninstall {' '.join(names)}, then install one of them again"
        return report.failed(Problem(f"more than one CuPy is installed ({report.cupy})", mend))
    words = [*COMMAND, ",".join(map(str, wanted)), *sys.path]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        return report.failed(Problem(f"the process that looks cannot start ({one_line(error)})", "try again"))
    return _ask(process, report, limit)


def _ask(process: "subprocess.Popen[bytes]", report: CudaReport, limit: float) -> CudaReport:
    """Wait for the process that looks."""
    try:
        out, err = process.communicate(timeout=min(LONG, limit))
    except subprocess.TimeoutExpired:
        log.info("looking for CUDA devices; the driver is slow to answer")
        try:
            out, err = process.communicate(timeout=max(0.0, limit - LONG))
        except subprocess.TimeoutExpired:
            _give_up(process)
            text = f"the CUDA driver hangs (no answer for {limit:g} s)"
            return report.failed(Problem(text, "see whether 'nvidia-smi' answers; restart the machine"))
    except BaseException:
        _give_up(process)
        raise
    try:
        return CudaReport.from_json(out.decode().splitlines()[-1])
    except (ValueError, TypeError, KeyError, IndexError):
        last = err.decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"code {process.returncode}"
        text = " ".join([f"looking for CUDA devices ended with {how}", *(f"({line})" for line in last)])
        return report.failed(Problem(text, "see what 'python -m gpuidx.backends.cuda.detect' prints"))


def _give_up(process: "subprocess.Popen[bytes]") -> None:
    """End a process that may be stuck in the kernel, where even SIGKILL waits; do not wait with it."""
    process.kill()
    try:
        process.communicate(timeout=1.0)
    except subprocess.TimeoutExpired:
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _kernel_driver() -> str:
    """Version of the driver in the kernel, such as 535.104.05; empty where the kernel does not tell."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    match = re.search(r"Module.*?\s(\d+\.\d+(\.\d+)?)\s", text)
    return match[1] if match else ""


def _version(number: int) -> str:
    """12090 → 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def look(wanted: Sequence[int] = ()) -> CudaReport:
    """Try everything in this process: import CuPy, ask the driver, run a kernel on each device.

    Parameters
    ----------
    wanted
        Numbers of the devices to try; empty: all.

    Returns
    -------
    CudaReport
        Whatever goes wrong is in it; nothing is raised.
    """
    report = CudaReport(cupy=", ".join(cupy_packages()), driver=_kernel_driver())
    try:
        import cupy
    except ImportError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
        text = lines[-1] if lines else "no reason given"
        return report.failed(Problem(f"CuPy cannot be imported ({text})", f"install it again: {INSTALL}"))
    except OSError as error:  # it makes the folder of its cache
        return report.failed(explain(error))
    except Exception as error:
        return report.failed(Problem(f"CuPy cannot be imported ({one_line(error)})", "install CuPy again"))
    runtime = cupy.cuda.runtime
    if runtime.is_hip:
        return report.failed(Problem("CuPy is built for ROCm, not for CUDA", INSTALL))
    try:
        built = runtime.runtimeGetVersion()
        report = replace(report, runtime=_version(built), nvrtc=_nvrtc_version())
        supported = runtime.driverGetVersion()
        if supported:
            words = [report.driver, f"CUDA {_version(supported)}"]
            report = replace(report, driver=", ".join(filter(None, words)))
        if problem := _driver_fits(supported, built, report.driver):
            return report.failed(problem)
        report = replace(report, n_device=runtime.getDeviceCount())
    except Exception as error:
        problem = explain(error, built // 1000)
        return report.failed(_hidden(problem) if "no device" in problem.text else problem)
    if not report.n_device:
        return report.failed(_hidden(Problem("there is no CUDA device", "see what 'nvidia-smi' says")))
    numbers = [number for number in wanted or range(report.n_device) if number < report.n_device]
    return replace(report, devices=tuple(_try_device(cupy, number, built // 1000) for number in numbers))


def _nvrtc_version() -> str:
    """Version of the compiler that CuPy takes; empty if there is none."""
    from cupy_backends.cuda.libs import nvrtc

    try:
        return "{}.{}".format(*nvrtc.getVersion())
    except Exception:
        return ""


def _driver_fits(supported: int, built: int, driver: str) -> Problem | None:
    """Whether the driver supports the CUDA that CuPy is built with; minor versions do not matter."""
    if not supported:
        return Problem("NVIDIA's driver is not running", "see what 'nvidia-smi' says")
    major = built // 1000
    if supported // 1000 >= major:
        return None
    needed = DRIVER_FOR.get(major, max(DRIVER_FOR.values()))
    other = ", or install the extra cuda12 in place of cuda13" if supported // 1000 == 12 else ""
    return Problem(
        f"the driver is too old: {driver}; this CuPy needs CUDA {major}, so driver {needed} or newer",
        f"update the driver{other}",
    )


def _hidden(problem: Problem) -> Problem:
    """The same, with the setting that hides devices."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return problem
    return Problem(
        f"{problem.text} (CUDA_VISIBLE_DEVICES={visible!r})", "unset CUDA_VISIBLE_DEVICES, or correct it"
    )


def _try_device(cupy: Any, number: int, major: int) -> DeviceInfo:
    """Ask a device for its properties and run a kernel on it."""
    info = DeviceInfo(number=number)
    try:
        has = cupy.cuda.runtime.getDeviceProperties(number)
        info = replace(
            info,
            name=has["name"].decode(errors="replace"),
            capability=(has["major"], has["minor"]),
            address=f"{has['pciDomainID']:04x}:{has['pciBusID']:02x}:{has['pciDeviceID']:02x}.0",
            total=has["totalGlobalMem"],
        )
        with cupy.cuda.Device(number):
            free, total = cupy.cuda.runtime.memGetInfo()
            info = replace(info, free=free, total=total)
            if free < LEAST_FREE:
                raise MemoryError(f"{free / 1e6:.0f} MB free")
            _run_tiny(cupy)
    except Exception as error:
        problem = explain(error, major)
        return replace(info, problem=problem.text, mend=problem.mend)
    return info


def _run_tiny(cupy: Any) -> None:
    """Compile and run `TINY` on the current device, without CuPy's pool of memory."""
    kernel = cupy.RawKernel(TINY, "gpuidx_probe", options=OPTIONS)
    with cupy.cuda.using_allocator(None):
        out = cupy.empty(32, dtype="i4")
        kernel((1,), (32,), (out, _int32(7)))
        values = out.get().tolist()
    if values != [7 + 3 * lane for lane in range(32)]:
        raise RuntimeError(f"a kernel gave {values[:4]} ... in place of [7, 10, 13, 16] ...")


def _int32(value: int) -> Any:
    """A scalar of four bytes: CuPy passes a Python int as eight."""
    import numpy as np

    return np.int32(value)


def main(devices: str = "") -> None:
    """What the process of `probe` does: the report of `look`, as the last line of its output."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(LIMIT) + 10)  # whoever asked may have been killed
    warnings.simplefilter("ignore")
    print(look([int(word) for word in devices.split(",") if word]).to_json(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
