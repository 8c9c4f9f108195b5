# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run uses for its array work; decided once, before anything is opened.  No CuPy here."""

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

from gpuidx.backends.cuda.detect import probe
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo
from gpuidx.errors import BackendError
from gpuidx.options import RunOptions


class Choice(NamedTuple):
    """What a run uses.

    Attributes
    ----------
    name
        ``"cpu"`` or ``"cuda"``.
    line
        One line that says what was chosen, and why.
    devices
        Numbers of the CUDA devices to use; empty with ``"cpu"``.
    warnings
        What else the user should know, a line each.
    addresses
        PCI addresses of the devices, by number.
    """

    name: str
    line: str
    devices: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    addresses: Mapping[int, str] = {}


def decide(options: RunOptions) -> Choice:
    """Choose between CPU and CUDA by ``--backend``, ``--gpu-devices`` and what is there.

    ``cpu`` looks for nothing.  ``auto`` takes CUDA if at least one of the wanted devices is usable, and
    names the others in a warning.  ``cuda`` takes all wanted devices or none.

    Raises
    ------
    BackendError
        If ``--backend=cuda`` cannot be had.
    """
    if options.backend == "cpu":
        return Choice("cpu", "backend: cpu, as asked for", warnings=_without_effect(options))
    report = probe(options.gpu_devices)
    choice = choose(report, options.gpu_devices)
    if options.backend == "cuda" and (choice.name == "cpu" or choice.warnings):
        what, mend = _first_problem(report, options.gpu_devices)
        raise BackendError(f"--backend=cuda: {what}; {mend}, or give --backend=cpu")
    return choice


def choose(report: CudaReport, wanted: tuple[int, ...]) -> Choice:
    """What ``--backend=auto`` makes of a report.

    Parameters
    ----------
    report
        From `gpuidx.backends.cuda.detect`.
    wanted
        Numbers of the wanted devices; empty: all that there are.
    """
    devices = _wanted_devices(report, wanted)
    usable = [device for device in devices if device.usable]
    if not usable:
        return Choice("cpu", f"backend: cpu ({_first_problem(report, wanted)[0]})")
    names = ", ".join(f"device {d.number}: {d.name}, {d.free / 1e9:.1f} GB free" for d in usable)
    warnings = tuple(f"{_named(d)} is not used: {d.problem}; {d.mend}" for d in devices if not d.usable)
    addresses = {device.number: device.address for device in usable}
    return Choice("cuda", f"backend: cuda ({names})", tuple(addresses), warnings, addresses)


def _wanted_devices(report: CudaReport, wanted: tuple[int, ...]) -> list[DeviceInfo]:
    """The wanted devices; one that does not exist has that as its problem."""
    if report.problem:
        return []
    there = {device.number: device for device in report.devices}
    return [there.get(number, _absent(number, report)) for number in wanted or sorted(there)]


def _absent(number: int, report: CudaReport) -> DeviceInfo:
    last = report.n_device - 1
    have = "the only one is 0" if last == 0 else f"they are 0 to {last}"
    return DeviceInfo(number=number, problem=f"there is no such device, {have}", mend="correct --gpu-devices")


def _first_problem(report: CudaReport, wanted: tuple[int, ...]) -> tuple[str, str]:
    """Why CUDA cannot be had as wanted, and how to mend it."""
    if report.problem:
        return report.problem, report.mend
    device = next(d for d in _wanted_devices(report, wanted) if not d.usable)
    return f"{_named(device)}: {device.problem}", device.mend


def _named(device: DeviceInfo) -> str:
    return f"CUDA device {device.number}" + (f" ({device.name})" if device.name else "")


def _without_effect(options: RunOptions) -> tuple[str, ...]:
    """A warning about options for CUDA devices where none is used."""
    given = [
        f"--{field.name.replace('_', '-')}"
        for field in fields(options)
        if field.name.startswith("gpu_") and getattr(options, field.name) != field.default
    ]
    return (f"without effect with --backend=cpu: {', '.join(given)}",) if given else ()
