# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx devices``: what it prints, and its exit code."""

import json
import os
import subprocess
import sys

import pytest
from emulator.program import environment

from gpuidx import cli
from gpuidx.backends.cuda.report import CudaReport, DeviceInfo
from gpuidx.commands import devices

GOOD = DeviceInfo(number=0, name="NVIDIA H200", capability=(9, 0), total=150 * 10**9, free=149 * 10**9)
BAD = DeviceInfo(number=1, problem="out of device memory", mend="see who uses it")
REPORT = CudaReport(
    driver="580.1, CUDA 13.0",
    cupy="cupy-cuda12x 14.2.0",
    runtime="12.9",
    nvrtc="12.9",
    devices=(GOOD, BAD),
    n_device=2,
)


def printed(monkeypatch, capsys, report, *words):
    """Exit code and output for a report."""
    monkeypatch.setattr(devices, "probe", lambda: report)
    code = cli.call(["devices", *words])
    out = capsys.readouterr()
    assert out.err == ""
    return code, out.out


def test_each_device_has_a_line_and_an_unusable_one_the_way_to_mend_it(monkeypatch, capsys):
    code, text = printed(monkeypatch, capsys, REPORT)
    assert code == 0
    assert text == (
        "driver  580.1, CUDA 13.0\n"
        "CuPy    cupy-cuda12x 14.2.0, for CUDA 12.9\n"
        "NVRTC   12.9\n"
        "\n"
        "device  name                          capability  memory GB   free GB  usable\n"
        "     0  NVIDIA H200                          9.0      150.0     149.0  yes\n"
        "     1  unknown                                -          -         -  no: out of device memory\n"
        "        to mend it: see who uses it\n"
        "\n"
        "Without options a run says: backend: cuda (device 0: NVIDIA H200, 149.0 GB free)\n"
    )


def test_without_a_usable_device_the_exit_code_is_1(monkeypatch, capsys):
    report = CudaReport(driver="580.1", devices=(BAD,), n_device=2)
    code, text = printed(monkeypatch, capsys, report)
    assert code == 1
    assert "Without options a run says: backend: cpu (CUDA device 0: " in text


def test_what_is_missing_altogether_is_said_once_with_the_way_to_mend_it(monkeypatch, capsys):
    code, text = printed(monkeypatch, capsys, CudaReport(problem="no NVIDIA driver", mend="install it"))
    assert code == 1
    assert text == (
        "driver  not found\n"
        "CuPy    not installed\n"
        "NVRTC   not looked for\n"
        "\n"
        "CUDA cannot be used: no NVIDIA driver\n"
        "  to mend it: install it\n"
        "\n"
        "Without options a run says: backend: cpu (no NVIDIA driver)\n"
    )


def test_a_missing_compiler_is_shown(monkeypatch, capsys):
    _, text = printed(monkeypatch, capsys, CudaReport(runtime="12.9", devices=(BAD,), n_device=2))
    assert "NVRTC   missing\n" in text


@pytest.mark.parametrize(
    ("report", "code", "auto"), [(REPORT, 0, "cuda"), (CudaReport(problem="none", mend="buy one"), 1, "cpu")]
)
def test_json_has_everything_for_scripts(monkeypatch, capsys, report, code, auto):
    ended, text = printed(monkeypatch, capsys, report, "--json")
    values = json.loads(text)
    assert (ended, values["auto"], values["problem"]) == (code, auto, report.problem)
    assert [device["usable"] for device in values["devices"]] == [device.usable for device in report.devices]


@pytest.mark.usefixtures("needs_cupy")
def test_a_pretended_device_is_listed():
    words = [sys.executable, "-W", "error", "-m", "gpuidx", "devices"]
    env = os.environ | environment(devices=2)
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("  yes\n") == 2
    assert "Without options a run says: backend: cuda (device 0: " in done.stdout
