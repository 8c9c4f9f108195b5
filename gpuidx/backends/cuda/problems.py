# SPDX-License-Identifier: GPL-3.0-or-later
"""What an exception out of CuPy means, and how to mend it.

CuPy is not imported here: its classes have no base in common and are told by their names.
"""

import errno
import re
from typing import NamedTuple

from gpuidx.errors import BackendError

DRIVER_FOR = {12: 525, 13: 580}
"""Oldest driver for each CUDA, by NVIDIA's table of compatibility."""

LONGEST = 200
"""Characters of a text of CUDA or NVRTC that are shown."""

INSTALL = "pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12, or conda install -c conda-forge cupy"


class Problem(NamedTuple):
    """Why something cannot be used, and what to do; a line each."""

    text: str
    mend: str


_LOOK = "see what 'nvidia-smi' says"

_OURS = (TypeError, ValueError, LookupError, AttributeError, AssertionError)
"""Exceptions that are no trouble of a device."""

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"libnvrtc|NVRTC_ERROR_BUILTIN_OPERATION_FAILURE|nvrtc-builtins",
        "NVRTC, the compiler of kernels, is missing",
        "pip install {nvrtc} (the extra cuda{major} of gpuidx brings it)",
    ),
    (
        r"NO_BINARY_FOR_GPU|NoKernelImageForDevice|UNSUPPORTED_PTX|UnsupportedPtx|INVALID_IMAGE|INVALID_PTX"
        r"|InvalidPtx|InvalidKernelImage",
        "the device does not take what NVRTC compiles",
        "update the driver, let NVRTC's version be that of CuPy's CUDA runtime, or set "
        "CUPY_COMPILE_WITH_PTX=1 where the device is newer than CuPy",
    ),
    (
        r"--gpu-architecture|UNSUPPORTED_ARCH",
        "NVRTC does not compile for this device: it is too old",
        "from Volta on the extra cuda12 helps, without NVRTC 13 beside it; otherwise use the CPU",
    ),
    (
        r"OutOfMemory|cudaErrorMemoryAllocation|OUT_OF_MEMORY|^MemoryError",
        "out of device memory",
        "see in 'nvidia-smi' who uses the device",
    ),
    (
        r"DevicesUnavailable|DeviceAlreadyInUse|DEVICE_UNAVAILABLE",
        "another process has the device for itself, or it is busy",
        "see in 'nvidia-smi' who uses the device, and its compute mode",
    ),
    (r"failed to load libcuda", "NVIDIA's driver cannot be loaded", "install the driver again"),
    (
        r"IllegalAddress|ILLEGAL_ADDRESS|LaunchFailure|LAUNCH_FAILED|LaunchTimeout|LAUNCH_TIMEOUT",
        "a kernel failed, or the device is lost",
        "see the lines of NVRM in 'dmesg'; if there are none, it is a defect of gpuidx",
    ),
    (r"NoDevice|NO_DEVICE", "there is no device", _LOOK),
    (
        r"SystemDriverMismatch|SYSTEM_DRIVER_MISMATCH",
        "libcuda and the driver in the kernel are of different versions",
        "restart the machine, or update the driver in the container",
    ),
    (
        r"SystemNotReady|SYSTEM_NOT_READY",
        "the system of devices is not ready",
        "start nvidia-fabricmanager",
    ),
    (
        r"CompatNotSupported|COMPAT_NOT_SUPPORTED",
        "CUDA's compatibility package does not support this device",
        "update the driver",
    ),
    (r"ECCUncorrectable|ECC_UNCORRECTABLE", "memory errors (ECC)", "take the device out of use"),
    (
        r"InsufficientDriver",
        "the driver is missing, or too old for CuPy's CUDA runtime",
        "update the driver",
    ),
    (
        r"InitializationError|NOT_INITIALIZED|OperatingSystem|OPERATING_SYSTEM|NotPermitted",
        "CUDA cannot be initialised",
        "see what 'nvidia-smi' says, and whether this user may open /dev/nvidia*",
    ),
)
"""Pattern in name and text of an exception, what it means, how to mend it; the first that fits counts."""


def one_line(error: BaseException) -> str:
    """Name and text of an exception, on one line and not too long."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def explain(error: BaseException, major: int = 12) -> Problem:
    """What an exception means.

    Parameters
    ----------
    error
        Out of CuPy, or from its import.
    major
        Of CuPy's CUDA runtime, for the names of packages.
    """
    name = f"{type(error).__name__}: {error}"
    for pattern, text, mend in _KNOWN:
        if re.search(pattern, name):
            nvrtc = "nvidia-cuda-nvrtc-cu12" if major == 12 else "nvidia-cuda-nvrtc"
            return Problem(text, mend.format(major=major, nvrtc=nvrtc))
    if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return Problem(
            f"CuPy's cache of kernels cannot be used ({one_line(error)})",
            "set CUPY_CACHE_DIR to a folder on a local disk",
        )
    return Problem(one_line(error), _LOOK)


def backend_error(doing: str, error: BaseException, major: int = 12) -> BackendError:
    """The error of a run for an exception out of CuPy.

    Parameters
    ----------
    doing
        What failed, such as ``"CUDA device 0"``.
    error, major
        As in `explain`.
    """
    problem = explain(error, major)
    if isinstance(error, _OURS):
        problem = Problem(one_line(error), "this is a defect of gpuidx; --debug shows where")
    return BackendError(f"{doing}: {problem.text}; {problem.mend}")
