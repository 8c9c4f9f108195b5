# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of CUDA on this machine, as data; found out by `gpuidx.backends.cuda.detect`."""

import json
from dataclasses import asdict, dataclass, replace

from gpuidx.backends.cuda.problems import Problem


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """One device.

    Attributes
    ----------
    number
        As in ``--gpu-devices``: its place among the visible devices.
    name, capability, address
        Of the device; compute capability as major, minor; PCI address.  Empty and (0, 0) if it does not tell.
    total, free
        Bytes of device memory; free is 0 where it could not be asked for.
    problem, mend
        Why it is not usable and what to do, a line each; empty for a usable device.
    """

    number: int
    name: str = ""
    capability: tuple[int, int] = (0, 0)
    address: str = ""
    total: int = 0
    free: int = 0
    problem: str = ""
    mend: str = ""

    @property
    def usable(self) -> bool:
        """Whether a kernel ran on it."""
        return not self.problem


@dataclass(frozen=True, kw_only=True)
class CudaReport:
    """What there is of CUDA.

    Attributes
    ----------
    driver
        Version of the driver and of the CUDA that it supports; empty if unknown.
    cupy, runtime, nvrtc
        The installed package of CuPy and its version, the version of CUDA that it was built with, the
        version of the compiler of kernels; each empty if unknown or missing.
    devices
        The devices that were looked at.
    n_device
        Number of visible devices.
    problem, mend
        Why no device at all can be used, and what to do; empty if devices can be tried.
    """

    driver: str = ""
    cupy: str = ""
    runtime: str = ""
    nvrtc: str = ""
    devices: tuple[DeviceInfo, ...] = ()
    n_device: int = 0
    problem: str = ""
    mend: str = ""

    def failed(self, problem: Problem) -> "CudaReport":
        """The same with a problem."""
        return replace(self, problem=problem.text, mend=problem.mend)

    def to_json(self) -> str:
        """The report on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "CudaReport":
        """A report from `to_json`.

        Raises
        ------
        ValueError, TypeError, KeyError
            If *text* is anything else.
        """
        values = json.loads(text)
        devices = [
            DeviceInfo(**{**device, "capability": tuple(device["capability"])})
            for device in values["devices"]
        ]
        return cls(**{**values, "devices": tuple(devices)})
