# SPDX-License-Identifier: GPL-3.0-or-later
"""The ordinary CuPy wheel on the pretended device: right code works in every order, wrong code shows."""

import mmap
import os
import threading

import numpy as np
import pytest

SOURCE = r"""
extern "C" __global__ void twice(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 2.f * in[i];
}
extern "C" __global__ void beyond(float* out, int n) { out[n + threadIdx.x] = 1.f; }
extern "C" __global__ void dynamic(int* out, int n) {
    extern __shared__ int s[];
    for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = i;
    __syncthreads();
    if (threadIdx.x == 0) out[0] = s[n - 1];
}
__constant__ float factor[2];
extern "C" __global__ void by_factor(float* x) { x[threadIdx.x] *= factor[1]; }
template <class T> __global__ void add(T* x, T v) { x[threadIdx.x] += v; }
"""


@pytest.fixture
def kernel(cupy):
    """Gives a kernel of SOURCE."""

    def get(name, **options):
        module = cupy.RawModule(code=SOURCE, options=("--std=c++17", "--fmad=false"), **options)
        return module.get_function(name)

    return get


def pinned(cupy, n, dtype):
    memory = cupy.cuda.alloc_pinned_memory(n * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, n)


def ones(cupy, n):
    return cupy.asarray(np.ones(n, np.float32))


def zeros(cupy, n):
    array = cupy.zeros(n, np.float32)
    cupy.cuda.Device().synchronize()
    return array


def stream_of_its_own(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def test_round_trip(cupy, device, kernel):
    x = np.arange(1000, dtype=np.float32)
    out = cupy.empty(1000, np.float32)
    kernel("twice")((4,), (256,), (cupy.asarray(x), out, np.int32(1000)))
    assert np.array_equal(out.get(), 2 * x)
    assert device.count("launch") == 1
    assert device.pending == 0


def pipeline(cupy, twice, *, read_after_sync=True, wait=True, reuse_after_sync=True):
    """Upload on one stream, compute and download on another; each synchronisation can be left out."""
    up, work = stream_of_its_own(cupy), stream_of_its_own(cupy)
    source, target = pinned(cupy, 64, np.float32), pinned(cupy, 64, np.float32)
    given, result = zeros(cupy, 64), zeros(cupy, 64)
    source[:], target[:] = 1, -1
    given.set(source, stream=up)
    uploaded = up.record()
    if reuse_after_sync:
        up.synchronize()
    source[:] = 99  # the next frame arrives in the same buffer
    if wait:
        work.wait_event(uploaded)
    with work:
        twice((1,), (64,), (given, result, np.int32(64)))
    result.get(stream=work, out=target, blocking=False)
    if read_after_sync:
        work.synchronize()
    return target.copy()


def test_correct_pipeline(cupy, device, kernel):
    assert (pipeline(cupy, kernel("twice")) == 2).all()


@pytest.mark.parametrize(
    "left_out",
    [{"read_after_sync": False}, {"wait": False, "reuse_after_sync": False}, {"reuse_after_sync": False}],
)
def test_missing_synchronisation_shows(cupy, device, kernel, left_out):
    right = (pipeline(cupy, kernel("twice"), **left_out) == 2).all()
    assert right in {"lazy": [False], "eager": [True]}.get(device.order, [True, False])


def test_missing_wait_between_streams_shows(cupy, device, kernel):
    first, second = stream_of_its_own(cupy), stream_of_its_own(cupy)
    x, y, z = ones(cupy, 8), zeros(cupy, 8), zeros(cupy, 8)
    twice = kernel("twice")
    with first:
        twice((1,), (8,), (x, y, np.int32(8)))
    with second:
        twice((1,), (8,), (y, z, np.int32(8)))
    got = z.get(stream=second)
    assert got[0] in {"lazy": [0], "eager": [4]}.get(device.order, [0, 4])


def test_default_stream_waits_for_blocking_streams(cupy, device, kernel):
    x, y = ones(cupy, 8), zeros(cupy, 8)
    with cupy.cuda.Stream():
        kernel("twice")((1,), (8,), (x, y, np.int32(8)))
    assert (y.get() == 2).all()


def test_loop_that_asks_an_event_comes_to_an_end(cupy, device):
    stream, first, last = stream_of_its_own(cupy), cupy.cuda.Event(), cupy.cuda.Event()
    first.record(stream)
    last.record(stream)
    asked = 0
    while not last.done:
        asked += 1
        assert asked < 100
    assert cupy.cuda.get_elapsed_time(first, last) >= 0


def test_stray_access_is_an_error_at_the_synchronisation(cupy, device, kernel):
    device.set(check=True)
    beyond, sync = kernel("beyond"), cupy.cuda.Device().synchronize
    with cupy.cuda.using_allocator(None):  # no pool: every array has its own guard
        out = cupy.empty(16, np.float32)

        def run():
            beyond((1,), (4,), (out, np.int32(16)))
            sync()

        with pytest.raises(RuntimeError, match=r"IllegalAddress|ILLEGAL_ADDRESS"):
            run()
        assert any("beyond: out of bounds" in text for text in device.messages)
        with pytest.raises(RuntimeError, match="IllegalAddress"):
            sync()
        device.reset()


def test_read_of_what_was_never_written_is_reported(cupy, device, kernel):
    device.set(check=True)
    with cupy.cuda.using_allocator(None):
        given, out = cupy.empty(16, np.float32), cupy.empty(16, np.float32)
        kernel("twice")((1,), (16,), (given, out, np.int32(16)))
        cupy.cuda.Device().synchronize()
    assert any("twice: uninitialised" in text for text in device.messages)


def test_correct_kernel_leaves_no_message(cupy, device, kernel):
    device.set(check=True)
    with cupy.cuda.using_allocator(None):
        out = cupy.empty(16, np.float32)
        kernel("twice")((1,), (16,), (ones(cupy, 16), out, np.int32(16)))
        assert (out.get() == 2).all()
    assert device.messages == []


def test_large_dynamic_shared_memory_needs_the_attribute(cupy, device, kernel):
    dynamic, out, n = kernel("dynamic"), cupy.zeros(1, np.int32), 20000
    dynamic.max_dynamic_shared_size_bytes = 48 * 1024  # CuPy keeps modules: another test has changed it
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        dynamic((1,), (128,), (out, np.int32(n)), shared_mem=4 * n)
    dynamic.max_dynamic_shared_size_bytes = 4 * n
    dynamic((1,), (128,), (out, np.int32(n)), shared_mem=4 * n)
    assert out.get()[0] == n - 1


def test_constant_memory_and_templates(cupy, device):
    module = cupy.RawModule(
        code=SOURCE, options=("--std=c++17",), name_expressions=["add<float>", "add<int>"]
    )
    x, runtime = ones(cupy, 4), cupy.cuda.runtime
    module.get_function("add<float>")((1,), (4,), (x, np.float32(2)))
    factors = np.array([0, 5], np.float32)
    place = module.get_global("factor")
    runtime.memcpy(place.ptr, factors.ctypes.data, factors.nbytes, runtime.memcpyHostToDevice)
    module.get_function("by_factor")((1,), (4,), (x,))
    assert (x.get() == 15).all()


def test_compile_error_is_cupys(cupy, device):
    module = cupy.RawModule(code='extern "C" __global__ void f(int* p) { p[0] = nosuch; }')
    with pytest.raises(cupy.cuda.compiler.CompileException, match="nosuch"):
        module.get_function("f")


def test_allocation_fails_on_demand(cupy, device):
    cupy.get_default_memory_pool().free_all_blocks()
    device.set(fail_alloc_after=1)
    with cupy.cuda.using_allocator(None):
        first = cupy.zeros(1 << 10, np.uint8)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="MemoryAllocation"):
                cupy.empty(1 << 20, np.uint8)
        device.set(fail_alloc_after=-1)
        second = cupy.zeros(4, np.float32)
        assert first.get().sum() + second.get().sum() == 0


def test_memory_has_an_end(cupy, device):
    cupy.get_default_memory_pool().free_all_blocks()
    device.set(memory=64 << 20)
    try:
        free, total = cupy.cuda.runtime.memGetInfo()
        assert free <= total == 64 << 20
        with cupy.cuda.using_allocator(None), pytest.raises(RuntimeError, match="MemoryAllocation"):
            cupy.empty(65 << 20, np.uint8)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            cupy.empty(65 << 20, np.uint8)
    finally:
        device.set(memory=8 << 30)


def test_block_of_too_many_threads_is_refused(cupy, device, kernel):
    x = zeros(cupy, 4)
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        kernel("twice")((1,), (2000,), (x, x, np.int32(4)))


def test_threads_with_streams_of_their_own(cupy, device, kernel):
    twice, results = kernel("twice"), {}

    def work(value):
        good = True
        with stream_of_its_own(cupy):
            for _ in range(20):
                given, out = cupy.asarray(np.full(100, value, np.float32)), cupy.empty(100, np.float32)
                twice((1,), (128,), (given, out, np.int32(100)))
                good &= bool((out.get() == 2 * value).all())
        results[value] = good

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), True)


def test_function_of_the_host_runs_in_its_turn(cupy, device, kernel):
    stream, x, out, seen = stream_of_its_own(cupy), ones(cupy, 8), zeros(cupy, 8), []
    target = pinned(cupy, 8, np.float32)
    target[:] = -1
    kernel("twice")((1,), (8,), (x, out, np.int32(8)), stream=stream)
    out.get(stream=stream, out=target, blocking=False)
    stream.launch_host_func(lambda _: seen.append(target[0]), None)
    stream.synchronize()
    assert seen == [2]


@pytest.fixture
def ring():
    """Two mappings of one memory, as main and a worker have."""
    fd = os.memfd_create("ring")
    os.ftruncate(fd, 1 << 16)
    maps = [mmap.mmap(fd, 1 << 16) for _ in range(2)]
    os.close(fd)
    views = [np.frombuffer(m, np.float32) for m in maps]
    yield views
    views.clear()


def upload_and_overwrite(cupy, ring):
    """Upload a slot by the one mapping, overwrite it by the other before anything waits; what arrived."""
    ours, theirs = ring
    target, stream, runtime = cupy.empty(64, np.float32), stream_of_its_own(cupy), cupy.cuda.runtime
    slot = ours[1024:1088]
    theirs[:] = 1
    to_device = runtime.memcpyHostToDevice
    runtime.memcpyAsync(target.data.ptr, slot.ctypes.data, slot.nbytes, to_device, stream.ptr)
    theirs[:] = 2
    stream.synchronize()
    return target.get()[0]


def test_pageable_memory_has_been_read_when_the_upload_returns(cupy, device, ring):
    assert upload_and_overwrite(cupy, ring) == 1


def test_registered_memory_is_read_when_the_stream_comes_to_it(cupy, device, ring):
    runtime, place = cupy.cuda.runtime, ring[0].ctypes.data
    runtime.hostRegister(place, ring[0].nbytes, 0)
    try:
        assert upload_and_overwrite(cupy, ring) in {"lazy": [2], "eager": [1]}.get(device.order, [1, 2])
    finally:
        runtime.hostUnregister(place)


def test_memory_is_registered_once(cupy, device, ring):
    runtime, place = cupy.cuda.runtime, ring[0].ctypes.data
    runtime.hostRegister(place, ring[0].nbytes, 0)
    with pytest.raises(runtime.CUDARuntimeError, match="AlreadyRegistered"):
        runtime.hostRegister(place + 4096, 64, 0)
    with pytest.raises(runtime.CUDARuntimeError, match="NotRegistered"):
        runtime.hostUnregister(place + 4096)
    runtime.hostUnregister(place)
    with pytest.raises(runtime.CUDARuntimeError, match="NotRegistered"):
        runtime.hostUnregister(place)


def test_what_is_not_there_says_so(cupy, device):
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="NotSupported"):
        cupy.cuda.runtime.mallocManaged(64)
