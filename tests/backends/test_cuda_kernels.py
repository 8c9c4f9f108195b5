# SPDX-License-Identifier: GPL-3.0-or-later
"""Launching: what is wrong with an argument is said before the device sees it."""

import emulator
import numpy as np
import pytest
from backends.ways import DEVICE

from gpuidx.backends.cuda import sources
from gpuidx.backends.cuda.kernels import Kernels, checked_arguments, integer_defines, signatures, source_hash

SOURCE = """
#define MANY 64  // threads of a block
extern "C" __global__ void __launch_bounds__(MANY, 4)
scale(const PIXEL* __restrict__ values, /* as sent */ float* __restrict__ out, const uint4* words,
      const Thing* things, int n, float factor, long long offset)
{
    if (threadIdx.x < n) out[threadIdx.x] = values[threadIdx.x] * factor + offset;
}
"""


def arguments(**more):
    given = {
        "values": np.zeros(4, np.int16), "out": np.zeros(4, np.float32), "words": np.zeros(4, np.uint32),
        "things": np.zeros(4, np.uint8), "n": 4, "factor": 2.5, "offset": 2**40,
    }  # fmt: skip
    return given | more


def test_a_kernel_is_known_by_its_source():
    assert integer_defines(SOURCE) == {"MANY": 64}
    (scale,) = signatures(SOURCE, "i2").values()
    assert (scale.name, scale.threads) == ("scale", 64)
    assert [p.name for p in scale.parameters] == [
        "values", "out", "words", "things", "n", "factor", "offset",
    ]  # fmt: skip
    assert [p.dtype and p.dtype.str for p in scale.parameters] == [
        "<i2", "<f4", "<u4", None, "<i4", "<f4", "<i8",
    ]  # fmt: skip
    assert [p.is_pointer for p in scale.parameters] == [True] * 4 + [False] * 3


@pytest.fixture
def scale():
    return signatures(SOURCE, "i2")["scale"]


def test_numbers_become_the_types_of_the_parameters(scale):
    values = checked_arguments(scale, arguments())
    assert [type(v) for v in values[4:]] == [np.int32, np.float32, np.int64]
    assert values[5] == np.float32(2.5)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"values": np.zeros(4, np.uint16)}, "argument values is uint16; expected int16"),
        ({"values": np.zeros(8, np.int16)[::2]}, "argument values is ndarray; expected a contiguous array"),
        ({"values": None}, "argument values is NoneType"),
        ({"n": 2.5}, "argument n is 2.5; expected a whole number"),
        ({"n": np.zeros(3, np.int32)}, "argument n is an array"),
        ({"more": 1}, "missing or unknown arguments: more"),
    ],
)
def test_a_wrong_argument_is_named(scale, wrong, text):
    with pytest.raises(TypeError, match=text):
        checked_arguments(scale, arguments(**wrong))


def test_a_missing_argument_is_named(scale):
    given = arguments()
    del given["factor"]
    with pytest.raises(TypeError, match="factor"):
        checked_arguments(scale, given)


def test_a_number_that_does_not_fit_is_refused(scale):
    with pytest.raises(OverflowError):
        checked_arguments(scale, arguments(n=2**31))


def test_every_kernel_of_ours_can_be_launched_by_name():
    for path in sources.folder().glob("*.cu"):
        text = path.read_text()
        found = signatures(text, "u2")
        assert len(found) == text.count("__global__ void")
        assert all(32 <= kernel.threads <= 1024 for kernel in found.values())


def test_the_hash_changes_with_a_header(tmp_path):
    (tmp_path / "a.cu").write_text("1")
    (tmp_path / "a.cuh").write_text("2")
    before = source_hash(tmp_path)
    (tmp_path / "a.cuh").write_text("3")
    assert source_hash(tmp_path) != before


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels of our own."""
    emulator.need("g++", "cupy")
    DEVICE.reset()
    monkeypatch.setattr(sources, "folder", lambda: tmp_path)
    return tmp_path


def test_an_error_in_a_source_names_our_file_and_line(folder):
    import cupy

    (folder / "wrong.cu").write_text(
        'extern "C" __global__ void __launch_bounds__(32) f(int* p)\n{\n    p[0] = nosuch;\n}\n'
    )
    with pytest.raises(cupy.cuda.compiler.CompileException, match=r"kernels/wrong\.cu:3|wrong\.cu\(3\)"):
        Kernels("wrong.cu", "u2", {}).compile()


def test_a_kernel_runs_on_the_stream_that_is_named(folder):
    import cupy

    (folder / "fill.cu").write_text(
        '#include "fill.cuh"\n'
        'extern "C" __global__ void __launch_bounds__(32) fill(PIXEL* p, float v)\n'
        "{\n    p[threadIdx.x] = (PIXEL)(v * FACTOR);\n}\n"
    )
    for factor in (2, 3):  # what is in a header counts, in one process and in CuPy's cache
        (folder / "fill.cuh").write_text(f"#define FACTOR {factor}\n")
        stream, array = cupy.cuda.Stream(non_blocking=True), cupy.zeros(32, np.int16)
        cupy.cuda.Device().synchronize()
        Kernels("fill.cu", "i2", {}).launch("fill", (1,), stream, p=array, v=2.0)
        assert array.get(stream=stream).tolist() == [2 * factor] * 32
