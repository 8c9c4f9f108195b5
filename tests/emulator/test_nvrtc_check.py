# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's compiler takes our kernels, with both major versions, without a driver."""

from pathlib import Path

import pytest

from emulator import need, nvrtc_check

KERNELS = Path(__file__).resolve().parent / "kernels"
OPTIONS = ["--std=c++17", "--fmad=false", "--ptxas-options=-v", f"-I{KERNELS}"]


@pytest.fixture(scope="module", params=[12, 13])
def nvrtc(request):
    need(f"nvrtc {request.param}")
    return nvrtc_check.Nvrtc(major=request.param)


def test_gives_the_version_asked_for(nvrtc, request):
    assert nvrtc.version()[0] == request.node.callspec.params["nvrtc"]


@pytest.mark.parametrize("name", ["good.cu", "local_max.cu", "bad.cu"])
def test_compiles_for_the_oldest_and_newest_architecture(nvrtc, name):
    archs = [arch for arch in nvrtc.archs() if arch >= 70]  # matching in a warp needs 70
    for arch in (archs[0], 90, archs[-1]):
        options = [f"--gpu-architecture=sm_{arch}", *OPTIONS]
        good, log, binary, _ = nvrtc.compile((KERNELS / name).read_text(), name, options)
        assert good, log
        assert binary[:4] == b"\x7fELF"
        figures = nvrtc_check.resources(log).values()
        assert figures
        assert all(f["registers"] > 0 and f["spill_loads"] == 0 for f in figures)


def test_gives_lowered_names(nvrtc):
    source = "template <class T> __global__ void g(T* p) { p[0] = 1; }"
    good, _, _, names = nvrtc.compile(source, "k.cu", ["--gpu-architecture=sm_90"], ["g<float>"])
    assert good
    assert names == {"g<float>": "_Z1gIfEvPT_"}


def test_compile_error_names_file_and_line(nvrtc):
    source = "__global__ void f(int* p) { p[0] = nosuch; }"
    good, log, _, _ = nvrtc.compile(source, "k.cu", ["--gpu-architecture=sm_90"])
    assert not good
    assert "k.cu(1)" in log


def test_option_keeps_multiply_and_add_apart(nvrtc):
    source = 'extern "C" __global__ void f(float* x, float a, float b) { x[0] = x[0] * a + b; }'
    fused, apart = (
        nvrtc.compile(source, "k.cu", ["--gpu-architecture=compute_90", *options])[2]
        for options in ([], ["--fmad=false"])
    )
    assert b"fma.rn.f32" in fused
    assert b"fma.rn.f32" not in apart


def test_command_counts_what_is_over_the_limit(nvrtc, capsys):
    major = str(nvrtc.version()[0])
    command = [str(KERNELS / "good.cu"), "--arch", "90", "--major", major, "--no-spills"]
    assert nvrtc_check.main(command) == 0
    assert nvrtc_check.main([*command, "--max-registers", "12"]) == 1
    assert "over the limit" in capsys.readouterr().out


def test_no_nvrtc_is_an_error():
    with pytest.raises(OSError, match="no NVRTC 3"):
        nvrtc_check.Nvrtc(major=3)
