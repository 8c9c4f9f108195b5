# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa
"""Give this process a pretended CUDA device, before CuPy is imported.

import pretended_cuda
dev = pretended_cuda.install(order="lazy", check=True)
import cupy                                   # the ordinary wheel
"""

import atexit
import ctypes
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile

from emulator import cuda_on_cpu as coc

_dev = None


class Device:
    """Control of the pretended device."""

    def __init__(self, driver):
        self._d = driver
        driver.pretended_messages.restype = ctypes.c_char_p
        driver.pretended_count.restype = driver.pretended_pending.restype = ctypes.c_ulonglong
        driver.pretended_set.argtypes = [ctypes.c_char_p, ctypes.c_longlong]

    def set(
        self,
        order=None,
        check=None,
        schedule=None,
        devices=None,
        cc=None,
        memory=None,
        driver=None,
        fail_alloc_after=None,
    ):
        """order: "eager", "lazy" or a seed >= 1; check: run kernels built with checks;
        schedule: order of threads in kernels; fail_alloc_after: the n-th next allocation fails."""
        if order is not None:
            order = {"lazy": -1, "eager": 0}.get(order, order)
        for k, v in {
            "order": order,
            "check": check,
            "schedule": schedule,
            "devices": devices,
            "cc": cc,
            "memory": memory,
            "driver": driver,
            "fail_alloc_after": fail_alloc_after,
        }.items():
            if v is not None:
                self._d.pretended_set(k.encode(), int(v))
        if check is not None:
            self.mode = "check" if check else "fast"

    def reset(self):
        """Forget queued work, errors, messages and counts."""
        self._d.pretended_reset()

    @property
    def messages(self):
        return self._d.pretended_messages().decode().splitlines()

    @property
    def pending(self):
        """Operations that no synchronisation has asked for yet."""
        return self._d.pretended_pending()

    def count(self, what):
        """launch, copy_hd, copy_dh, copy_dd, memset, malloc, free, pinned, sync_stream, sync_event, sync_device, compile ..."""
        return self._d.pretended_count(what.encode())


def library():
    rt = coc.runtime_path()
    src = coc.HERE / "pretended_driver.cpp"
    tag = hashlib.sha256(
        src.read_bytes() + str(rt).encode() + pathlib.Path(__file__).read_bytes()
    ).hexdigest()[:16]

    def make(soname):
        return lambda t: coc._run(
            [
                coc.CXX,
                "-std=c++17",
                "-O1",
                "-g",
                "-fPIC",
                "-shared",
                "-w",
                src,
                "-o",
                t,
                rt,
                f"-Wl,-rpath,{coc.CACHE}",
                f"-Wl,-soname,{soname}",
                "-ldl",
            ]
        )

    return coc._build(coc.CACHE / f"pretended_{tag}" / "libcuda.so.1", make("libcuda.so.1"))


# ---- CuPy's modules find their C functions in a table of capsules; fill it with ours -------------
_TYPES = {
    "intptr_t": ctypes.c_ssize_t,
    "size_t": ctypes.c_size_t,
    "uintmax_t": ctypes.c_size_t,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "float": ctypes.c_float,
    "PyObject *": ctypes.py_object,
    "CUdevice": ctypes.c_int,
    "cudaMemcpyKind": ctypes.c_int,
}
_KEEP = {"runtimeGetVersion", "_getCUDAMajorVersion", "get_build_version"}  # harmless in the original


def _take_over(module, lib, prefix):
    api, py = module.__pyx_capi__, ctypes.pythonapi
    py.PyCapsule_GetName.restype, py.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    py.PyCapsule_New.restype, py.PyCapsule_New.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    for name, capsule in list(api.items()):
        sig = py.PyCapsule_GetName(capsule)
        head, _, args = sig.decode().partition("(")
        head, args = head.strip(), [a.strip() for a in args.rstrip(")").split(",")]
        if not _ or name in _KEEP:
            continue  # a variable
        returns_object = head.endswith("*")
        f = getattr(lib, f"{prefix}_{name}", None)
        if f is None:
            f = getattr(
                lib,
                f"{prefix}_missing_" + ("object" if returns_object else "minus" if head == "int" else "zero"),
            )
        keep = ctypes.c_char_p(sig)
        _alive.append(keep)
        api[name] = py.PyCapsule_New(ctypes.cast(f, ctypes.c_void_p), keep, None)
        if "__pyx_skip_dispatch" in sig.decode() and hasattr(module, name):
            types = [_TYPES.get(a, ctypes.py_object if "PyObject" in a else ctypes.c_void_p) for a in args]
            n = next(i for i, a in enumerate(args) if "__pyx_skip_dispatch" in a)
            types[n] = ctypes.c_int
            proto = ctypes.PYFUNCTYPE(
                ctypes.py_object if returns_object else _TYPES.get(head, ctypes.c_ssize_t), *types
            )
            setattr(
                module,
                name,
                _wrapper(proto(ctypes.cast(f, ctypes.c_void_p).value), n, len(types) - n - 1, name),
            )


_alive = []


def _wrapper(f, n, optional, name):
    def g(*a):
        return f(*(tuple(a) + (0,) * (n - len(a)))[:n], 0, *(None,) * optional)

    g.__name__ = name
    return g


def _properties(device=0):
    return {
        "name": b"Pretended device",
        "totalGlobalMem": 8 << 30,
        "sharedMemPerBlock": 49152,
        "sharedMemPerBlockOptin": 232448,
        "regsPerBlock": 65536,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
        "maxThreadsDim": (1024, 1024, 64),
        "maxGridSize": (2147483647, 65535, 65535),
        "clockRate": 1980000,
        "totalConstMem": 65536,
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 132,
        "l2CacheSize": 50 << 20,
        "maxThreadsPerMultiProcessor": 2048,
        "pciBusID": 0,
        "pciDeviceID": 0,
        "pciDomainID": 0,
        "asyncEngineCount": 3,
        "concurrentKernels": 1,
        "canMapHostMemory": 1,
        "unifiedAddressing": 1,
        "managedMemory": 0,
        "integrated": 0,
        "uuid": b"\0" * 16,
    }


def _patch_cupy():
    from cupy_backends.cuda.api import driver, runtime

    src = coc.HERE / "pretended_cupy.cpp"
    path = library()
    tag = hashlib.sha256(src.read_bytes() + str(path).encode()).hexdigest()[:16]
    so = coc._build(
        coc.CACHE / f"pretended_cupy_{tag}.so",
        lambda t: coc._run(
            [
                coc.CXX,
                "-std=c++17",
                "-O1",
                "-g",
                "-fPIC",
                "-shared",
                "-w",
                src,
                "-o",
                t,
                path,
                f"-Wl,-rpath,{path.parent}",
            ]
        ),
    )
    lib = ctypes.PyDLL(str(so))
    lib.pretended_classes.argtypes = [ctypes.py_object] * 3
    lib.pretended_classes(runtime.CUDARuntimeError, driver.CUDADriverError, runtime.PointerAttributes)
    lib.pretended_needs(runtime.runtimeGetVersion() // 1000 * 1000)
    _take_over(runtime, lib, "rt")
    _take_over(driver, lib, "dr")
    runtime.getDeviceProperties = _properties


def install(order="lazy", check=False, nvrtc="pretended", **kw):
    """nvrtc="real": CuPy compiles with NVIDIA's NVRTC (its wheel must be there), but the result cannot be loaded:
    for tests of the compile step alone."""
    global _dev
    if _dev is not None:
        _dev.set(order=order, check=check, **kw)
        return _dev
    if "cupy" in sys.modules:
        raise RuntimeError("install() must come before the import of cupy")
    coc.runtime()
    path = library()
    drv = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    # the same code under NVRTC's name, found by the loader as already loaded
    for major in (12, 13) if nvrtc == "pretended" else ():
        p = path.parent / f"libnvrtc.so.{major}"
        coc._build(
            p,
            lambda t: coc._run(
                [
                    coc.CXX,
                    "-shared",
                    "-Wl,--no-as-needed",
                    "-o",
                    t,
                    path,
                    f"-Wl,-soname,libnvrtc.so.{major}",
                    f"-Wl,-rpath,{path.parent}",
                ]
            ),
        )
        ctypes.CDLL(str(p), mode=ctypes.RTLD_GLOBAL)
        if not hasattr(ctypes.CDLL(f"libnvrtc.so.{major}"), "pretended_set"):
            raise RuntimeError("NVIDIA's NVRTC is loaded already: call install() earlier")
    _dev, programs = Device(drv), {}
    proto = ctypes.CFUNCTYPE(
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
    )

    def compile_(src, name, n, opts, ne, exprs, path, log, size):
        try:
            args = src.decode(), [opts[i].decode() for i in range(n)], [exprs[i].decode() for i in range(ne)]
            out = str(coc.build(*args, _dev.mode, os.path.basename(name.decode())))
            programs[out] = (*args, os.path.basename(name.decode()))
            out = f"{int(_dev.mode == 'check')} {out}".encode() + b"\0"
            ctypes.memmove(path, out, len(out))
            return 0
        except Exception as e:  # goes into the program's log
            msg = str(e).encode()[: size - 1] + b"\0"
            ctypes.memmove(log, msg, len(msg))
            return 1

    def variant(path, check, out, size):
        try:
            src, opts, exprs, name = programs[path.decode()]
            p = str(coc.build(src, opts, exprs, "check" if check else "fast", name)).encode() + b"\0"
            ctypes.memmove(out, p, len(p))
            return 0
        except Exception:
            return 1

    _dev._keep = (
        proto(compile_),
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(variant),
    )
    drv.pretended_set_compiler(*_dev._keep)
    _dev.set(order=order, check=check, **kw)
    cache = tempfile.mkdtemp(prefix="pretended_cupy_")  # never mix with kernels of a real device
    os.environ["CUPY_CACHE_DIR"] = cache
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB brings a runtime of its own
    _patch_cupy()
    atexit.register(shutil.rmtree, cache, True)
    return _dev
