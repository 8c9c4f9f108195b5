# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels on the CPU: correct ones run clean in every order, each defect is named."""

from pathlib import Path

import numpy as np
import pytest

from emulator import cuda_on_cpu as coc
from emulator import need

need("g++")

KERNELS = Path(__file__).resolve().parent / "kernels"


@pytest.fixture(scope="module", params=["fast", "check"])
def good(request):
    expressions = ["scale<float, 3>", "scale<int, 5>"]
    options = {"options": ["-DBINS=256"], "mode": request.param, "name_expressions": expressions}
    return coc.Module.from_file(KERNELS / "good.cu", **options)


@pytest.fixture(scope="module")
def bad():
    return coc.Module.from_file(KERNELS / "bad.cu", mode="check")


def i32(n):
    return np.zeros(n, np.int32)


def f32(n):
    return np.zeros(n, np.float32)


def test_adds_two_vectors(good):
    rng = np.random.default_rng(1)
    x, y = rng.random(1000, np.float32), rng.random(1000, np.float32)
    want = np.float32(1.7) * x + y
    good.kernel("saxpy").all_orders(4, 256, (y, x, np.float32(1.7), np.int32(1000)))
    assert np.array_equal(y, want)


def test_sums_by_shuffles_and_dynamic_shared_memory(good):
    v, out = np.arange(1000, dtype=np.int32), i32(4)
    good.kernel("block_sum").all_orders(4, 256, (v, out, np.int32(1000)), shared_mem=1024)
    assert np.array_equal(out, [part.sum() for part in np.split(v, [256, 512, 768])])


def test_transposes_through_shared_memory(good):
    a = np.arange(70 * 45, dtype=np.uint16).reshape(45, 70)
    out = coc.empty((70, 45), np.uint16)
    good.kernel("transpose").all_orders((3, 2), (32, 8), (a, out, np.int32(70), np.int32(45)))
    assert np.array_equal(out.a, a.T)


def test_counts_by_atomics(good):
    v = np.random.default_rng(2).integers(0, 256, 5000).astype(np.uint8)
    h = np.zeros(256, np.uint32)
    good.kernel("histogram").all_orders(3, 128, (v, h, np.int32(5000)))
    assert np.array_equal(h, np.bincount(v, minlength=256))


def test_warp_functions_give_what_hardware_gives(good):
    out = np.zeros(64, np.uint32)
    good.kernel("warp_things").all_orders(1, 64, (out,))
    every_third = sum(1 << lane for lane in range(0, 32, 3))
    odd_of_lower_half = sum(1 << lane for lane in range(1, 16, 2))
    want = []
    for lane in range(32):
        down = lane if lane % 8 == 7 else lane + 1
        sums = every_third + max(lane - 1, 0) * 3 + down * 5 + (lane ^ 16) * 7
        masks = (0xF << (lane // 4 * 4)) + (odd_of_lower_half if lane < 16 else 0)
        bits = every_third.bit_count() + lane // 4 * 4 + 1 + 32 - (lane + 1).bit_length()
        want.append(sums + masks + bits)
    assert np.array_equal(out, np.array(want * 2, np.uint64).astype(np.uint32))


def test_templates_and_constants(good):
    p = np.arange(8, dtype=np.float32)
    good.kernel("scale<float, 3>")(1, 8, (p,))
    assert np.array_equal(p, 3 * np.arange(8))
    good.variable("table", np.float32, 4)[:] = [1, 2, 3, 4]
    good.kernel("use_table")(1, 8, (p,))
    assert p.tolist() == [1, 2, 3, 4] * 2


def test_word_that_is_read_by_all_and_then_handed_on_is_no_race(good):
    out = i32(128)
    good.kernel("hand_on").all_orders(2, 64, (out, np.int32(3)))
    assert (out == 8).all()
    good.kernel("hand_on_in_warp").all_orders(1, 64, (out,))
    assert (out[:64] == 2).all()


X = f32(8)
MISFITS = {
    "python float": (X, X, 1.5, np.int32(8)),
    "python int": (X, X, np.float32(1), 8),
    "wide elements": (X, X.astype(float), np.float32(1), np.int32(8)),
    "int for float": (X, X, np.int32(1), np.int32(8)),
    "too few": (X, X, np.float32(1)),
    "strided": (X[::2], X, np.float32(1), np.int32(4)),
    "array for value": (X, X, X, np.int32(8)),
}


@pytest.mark.parametrize("name", MISFITS)
def test_refuses_arguments_that_do_not_fit(good, name):
    with pytest.raises(TypeError, match="saxpy: "):
        good.kernel("saxpy")(1, 8, MISFITS[name])


# By kernel: kind of the report, grid, block, arguments, options.
BAD = {
    "oob_read": ("out of bounds", 1, 32, lambda: (f32(8), f32(8), np.int32(8)), {}),
    "oob_write": ("out of bounds", 1, 32, lambda: (f32(31), np.int32(31)), {}),
    "oob_negative": ("out of bounds", 1, 32, lambda: (f32(32),), {}),
    "oob_dynamic": ("out of bounds", 1, 64, lambda: (f32(64),), {"shared_mem": 252}),
    "oob_static": ("undefined", 1, 32, lambda: (f32(32), np.int32(1)), {}),
    "race_shared": ("race", 1, 64, lambda: (i32(64),), {}),
    "race_warp": ("race", 1, 32, lambda: (i32(32),), {}),
    "race_second_round": ("race", 1, 64, lambda: (i32(64), i32(192)), {}),
    "race_global": ("race", 1, 32, lambda: (i32(1),), {}),
    "race_blocks": ("race", 4, 32, lambda: (i32(4), i32(4)), {}),
    "race_atomic_plain": ("race", 1, 32, lambda: (i32(2),), {}),
    "race_after_many_reads": ("race", 1, 64, lambda: (i32(64),), {}),
    "race_many_reads_in_warp": ("race", 1, 32, lambda: (i32(32),), {}),
    "race_read_by_other_block": ("race", 2, 32, lambda: (i32(64), i32(1)), {}),
    "race_warp_sync_between_warps": ("race", 1, 64, lambda: (i32(64),), {}),
    "uninit_shared": ("uninitialised", 1, 64, lambda: (i32(64),), {}),
    "uninit_global": ("uninitialised", 1, 64, lambda: (i32(64), coc.empty(64, np.int32)), {}),
    "diverge_exit": ("divergence", 1, 64, lambda: (i32(64), np.int32(40)), {}),
    "diverge_lines": ("divergence", 1, 64, lambda: (i32(64),), {}),
    "warp_missing_lane": ("divergence", 1, 32, lambda: (i32(32),), {}),
    "warp_outside_mask": ("warp", 1, 32, lambda: (i32(32),), {}),
    "misaligned": ("misaligned", 1, 4, lambda: (np.zeros(32, np.int8), i32(4)), {}),
    "shift_too_far": ("undefined", 1, 32, lambda: (np.zeros(32, np.uint32), np.int32(1)), {}),
    "writes_input": ("write to input", 1, 4, lambda: (coc.to_device(i32(4), readonly=True), i32(4)), {}),
}
NO_LINE = ("divergence", "warp")  # they have one, but not the file


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("schedule", [0, 1, 2, 3])
def test_names_the_defect_in_every_order(bad, name, schedule):
    kind, grid, block, args, options = BAD[name]
    with pytest.raises(coc.KernelError) as e:
        bad.kernel(name)(grid, block, args(), schedule=schedule, **options)
    assert kind in e.value.kinds
    assert kind in NO_LINE or all("bad.cu:" in report["where"] for report in e.value.reports)


def test_sum_of_floats_by_atomics_depends_on_the_order(bad):
    rng = np.random.default_rng(3)
    values = (rng.random(256) * 10.0 ** rng.integers(0, 6, 256)).astype(np.float32)
    with pytest.raises(coc.KernelError, match="differ between thread orders"):
        bad.kernel("float_order").all_orders(4, 64, (f32(1), values))


def test_list_by_an_atomic_counter_depends_on_the_order(bad):
    flags = np.random.default_rng(3).integers(-3, 3, 256).astype(np.int32)
    with pytest.raises(coc.KernelError, match="differ between thread orders"):
        bad.kernel("list_order").all_orders(4, 64, (np.full(256, -1, np.int32), i32(1), flags))


def test_stray_write_hits_a_guard_page_and_the_next_launch_is_sound():
    kernel = coc.Module.from_file(KERNELS / "bad.cu", mode="fast").kernel("oob_write")
    with pytest.raises(coc.KernelError, match="guard page"):
        kernel(1, 32, (coc.empty(31, np.float32), np.int32(31)))
    out = coc.empty(32, np.float32)
    kernel(1, 32, (out, np.int32(31)))
    assert (out.a == 1).all()


@pytest.mark.parametrize(("grid", "block", "shared"), [(1, 1025, 0), ((1, 65536), 1, 0), (1, 1, 1 << 20)])
def test_refuses_launches_that_no_device_takes(good, grid, block, shared):
    with pytest.raises(coc.KernelError) as e:
        good.kernel("use_table")(grid, block, (f32(2048),), shared_mem=shared)
    assert e.value.kinds == {"launch"}


def test_compile_error_names_file_and_line():
    with pytest.raises(coc.CompileError, match=r"oops\.cu:2"):
        coc.Module('extern "C" __global__ void f(int* p)\n{ p[0] = nosuch; }\n', filename="oops.cu")


def test_active_mask_is_left_out():
    with pytest.raises(coc.CompileError, match="activemask"):
        coc.Module('extern "C" __global__ void f(unsigned* p) { p[0] = __activemask(); }')


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_finds_local_maxima_of_an_image(mode):
    image = np.random.default_rng(4).poisson(10, (64, 128)).astype(np.uint16)
    image[10, 20] = image[63, 127] = 500
    out = coc.empty(image.shape, np.uint8)
    module = coc.Module.from_file(KERNELS / "local_max.cu", mode=mode)
    module.kernel("local_max")((8, 4), (16, 16), (image, out, np.int32(128), np.int32(64), np.float32(4)))
    assert mode == "fast" or out.written()
    assert out.a[10, 20]
    assert out.a[63, 127]
    assert out.a.sum() < 10


MORE = r"""
extern "C" {
__global__ void warp_sum(const int* in, int* out) {
    __shared__ int s[128];
    int t = threadIdx.x, l = t & 31;
    s[t] = in[blockIdx.x * 128 + t];
    __syncwarp();
    for (int o = 16; o; o >>= 1) { int v = l < o ? s[t + o] : 0; SYNC; if (l < o) s[t] += v; SYNC; }
    if (l == 0) out[blockIdx.x * 4 + (t >> 5)] = s[t];
}
}
namespace q { __global__ void inner(int* p) { p[threadIdx.x] = threadIdx.x; } }
template <class V> __global__ void turn(V* o) {
    __shared__ V s[64];
    s[threadIdx.x] = V(threadIdx.x);
    __syncthreads();
    o[threadIdx.x] = s[63 - threadIdx.x];
}
struct Pair { int a; float b; };
extern "C" __global__ void by_value(Pair p, float* o) { o[0] = p.a + p.b; }
extern "C" __global__ void three(int* o) {
    int x = threadIdx.x + blockDim.x * blockIdx.x;
    int y = threadIdx.y + blockDim.y * blockIdx.y;
    int z = threadIdx.z + blockDim.z * blockIdx.z;
    o[(z * 4 + y) * 8 + x] = x + 10 * y + 100 * z;
}
"""


@pytest.fixture(scope="module")
def more():
    options = ["-DSYNC=__syncwarp()", "-DT=7", "-DA", "-DUP=1"]
    return coc.Module(MORE, options, ["turn<float>", "turn<double>", "q::inner"], "check")


def test_warps_that_synchronise_are_no_race(more):
    x, out = np.arange(256, dtype=np.int32), i32(8)
    more.kernel("warp_sum").all_orders(2, 128, (x, out))
    assert np.array_equal(out, x.reshape(8, 32).sum(1))


def test_warps_that_do_not_synchronise_are_a_race():
    kernel = coc.Module(MORE, ["-DSYNC=(void)0"], mode="check").kernel("warp_sum")
    with pytest.raises(coc.KernelError) as e:
        kernel(2, 128, (np.arange(256, dtype=np.int32), i32(8)))
    assert e.value.kinds == {"race"}


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_instances_of_a_template(more, dtype):
    out = np.zeros(64, np.float32 if dtype == "float" else np.float64)
    more.kernel(f"turn<{dtype}>").all_orders(1, 64, (out,))
    assert np.array_equal(out, 63 - np.arange(64))


def test_kernel_of_a_name_space(more):
    out = i32(8)
    more.kernel("q::inner")(1, 8, (out,))
    assert np.array_equal(out, np.arange(8))


def test_grid_of_three_dimensions(more):
    out = i32(64)
    more.kernel("three").all_orders((2, 2, 2), (4, 2, 1), (out,))
    assert np.array_equal(
        out.reshape(2, 4, 8), sum(np.ix_(np.arange(2) * 100, np.arange(4) * 10, np.arange(8)))
    )


def test_structure_by_value(more):
    out = f32(1)
    more.kernel("by_value")(1, 1, (np.array([(3, 0.5)], [("a", "i4"), ("b", "f4")])[0], out))
    assert out[0] == 3.5
