# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx warmup`."""

import emulator
from backends.ways import DEVICE

from gpuidx.backends.cuda import ahead
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo
from gpuidx.commands import warmup


def test_without_a_device_only_the_cpu_is_prepared(monkeypatch, capsys):
    monkeypatch.setattr(warmup, "probe", lambda: CudaReport(problem="no NVIDIA driver"))
    assert warmup.main([]) == 0
    assert capsys.readouterr().out.count("compiled or loaded in") == 1


def test_kernels_are_compiled_for_each_usable_device(monkeypatch, capsys):
    emulator.need("g++", "cupy")
    DEVICE.reset()
    devices = (DeviceInfo(number=0, name="A"), DeviceInfo(number=1, name="B", problem="busy"))
    monkeypatch.setattr(warmup, "probe", lambda: CudaReport(devices=devices))
    monkeypatch.setattr(ahead, "TYPES", ("u2",))
    assert warmup.main([]) == 0
    assert "device 0 (A): 10 variants of the kernels compiled" in capsys.readouterr().out
