# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills the tables in which CuPy's modules find their C functions with those of the pretended device.

It happens when ``cupy_backends.cuda.api.runtime`` and ``.driver`` are imported, before any other module can
look into them.  NVIDIA's runtime, which is linked into these two, is then never called.
"""

import ctypes
import importlib.machinery
import sys
import types
from pathlib import Path

from emulator.toolchain import NATIVE, build_library

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
_KEEP = {"runtimeGetVersion", "_getCUDAMajorVersion", "get_build_version"}  # they touch no device
_SKIP_DISPATCH = "__pyx_skip_dispatch"
_alive = []  # names of signatures, to which the tables point


def library_path(driver):
    """Path of the functions for CuPy's tables; built if need be."""
    return build_library("libpretended_cupy.so", [NATIVE / "pretended_cupy.cpp"], ["-O1"], [driver])


class _Tables:
    """Functions and constants for the modules ``runtime`` and ``driver``."""

    def __init__(self, driver):
        self._driver, self._loaded = driver, None

    @property
    def _library(self):
        if self._loaded is None:
            self._loaded = library = ctypes.PyDLL(str(library_path(Path(self._driver._name))))
            library.pretended_runtime.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.c_int]
            library.pretended_driver.argtypes = [ctypes.py_object]
        return self._loaded

    def runtime(self, module):
        """Take over ``cupy_backends.cuda.api.runtime``."""
        major = module.runtimeGetVersion() // 1000
        self._driver.pretended_set_nvrtc(major, 9 if major == 12 else 0)
        self._library.pretended_runtime(module.CUDARuntimeError, module.PointerAttributes, major * 1000)
        _fill(module, self._library, "rt")
        module.getDeviceProperties = self._properties

    def driver(self, module):
        """Take over ``cupy_backends.cuda.api.driver``."""
        self._library.pretended_driver(module.CUDADriverError)
        _fill(module, self._library, "dr")

    def _properties(self, device=0):
        """Stand in for ``runtime.getDeviceProperties``; the tables have no entry that could."""

        def attribute(number):
            value = ctypes.c_int()
            self._driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
            return value.value

        memory = ctypes.c_size_t()
        self._driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        return {
            "name": b"Pretended device",
            "totalGlobalMem": memory.value,
            "sharedMemPerBlock": attribute(8),
            "sharedMemPerBlockOptin": attribute(97),
            "sharedMemPerMultiprocessor": attribute(81),
            "regsPerBlock": attribute(12),
            "warpSize": attribute(10),
            "maxThreadsPerBlock": attribute(1),
            "maxThreadsDim": tuple(map(attribute, (2, 3, 4))),
            "maxGridSize": tuple(map(attribute, (5, 6, 7))),
            "clockRate": attribute(13),
            "totalConstMem": attribute(9),
            "major": attribute(75),
            "minor": attribute(76),
            "multiProcessorCount": attribute(16),
            "l2CacheSize": attribute(38),
            "maxThreadsPerMultiProcessor": attribute(39),
            "pciBusID": device,
            "pciDeviceID": 0,
            "pciDomainID": 0,
            "asyncEngineCount": attribute(40),
            "concurrentKernels": 1,
            "canMapHostMemory": 1,
            "unifiedAddressing": 1,
            "managedMemory": 0,
            "integrated": 0,
            "uuid": bytes([device]).rjust(16, b"\0"),
        }


def _fill(module, library, prefix):
    """Replace the C functions of *module*, and the Python functions of the same names."""
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype = ctypes.c_char_p
    python.PyCapsule_GetName.argtypes = [ctypes.py_object]
    python.PyCapsule_New.restype = ctypes.py_object
    python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    table = module.__pyx_capi__
    for name, capsule in list(table.items()):
        signature = python.PyCapsule_GetName(capsule)
        result, bracket, rest = signature.decode().partition("(")
        if not bracket or name in _KEEP:  # without a bracket it is a variable
            continue
        result, parameters = result.strip(), [text.strip() for text in rest.rstrip(")").split(",")]
        function = getattr(library, f"{prefix}_{name}", None) or _missing(library, prefix, result)
        address = ctypes.cast(function, ctypes.c_void_p)
        kept = ctypes.c_char_p(signature)
        _alive.append(kept)
        table[name] = python.PyCapsule_New(address, kept, None)
        if any(_SKIP_DISPATCH in text for text in parameters) and hasattr(module, name):
            setattr(module, name, _python_function(name, address.value, result, parameters))


def _missing(library, prefix, result):
    kind = "object" if result.endswith("*") else "minus" if result == "int" else "zero"
    return getattr(library, f"{prefix}_missing_{kind}")


def _python_function(name, address, result, parameters):
    """Make the Python function of a C function: its arguments, "skip dispatch", then what may be left out."""
    types = [
        _TYPES.get(text, ctypes.py_object if "PyObject" in text else ctypes.c_void_p) for text in parameters
    ]
    n_argument = next(i for i, text in enumerate(parameters) if _SKIP_DISPATCH in text)
    types[n_argument] = ctypes.c_int
    returned = ctypes.py_object if result.endswith("*") else _TYPES.get(result, ctypes.c_ssize_t)
    function = ctypes.PYFUNCTYPE(returned, *types)(address)
    optional = (None,) * (len(types) - n_argument - 1)

    def call(*args):
        given = (args + (0,) * (n_argument - len(args)))[:n_argument]
        return function(*given, 0, *optional)

    call.__name__ = name
    return call


class _Finder:
    """Import hook: calls a function with each of certain modules, as soon as it has been executed."""

    def __init__(self, actions):
        self._actions = actions

    def find_spec(self, fullname, path=None, target=None):
        """Find the module as usual, and have it changed after its execution."""
        action = self._actions.get(fullname)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target) if action else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                action(module)

            spec.loader.exec_module = exec_module
        return spec


class _Nvrtc:
    """Has ``cuda.pathfinder``, by which CuPy finds NVRTC, find the pretended one, or none."""

    def __init__(self, library, missing):
        self._library, self._missing = library, missing

    def __call__(self, module):
        """Take over ``cuda.pathfinder``."""
        load = module.load_nvidia_dynamic_lib

        def load_nvidia_dynamic_lib(name):
            if name != "nvrtc":
                return load(name)
            if self._missing:
                text = 'Failure finding "libnvrtc.so.13 or libnvrtc.so.12": pretended to be missing'
                raise module.DynamicLibNotFoundError(text)
            return types.SimpleNamespace(
                abs_path=self._library._name,
                was_already_loaded_from_elsewhere=False,
                _handle_uint=self._library._handle,
                found_via="pretended",
            )

        module.load_nvidia_dynamic_lib = load_nvidia_dynamic_lib


def take_over(driver, nvrtc):
    """From now on CuPy's modules find the pretended device when they are imported.

    Parameters
    ----------
    driver
        The library, as `ctypes` loaded it.
    nvrtc
        As for `emulator.pretended_cuda.install`.
    """
    tables = _Tables(driver)
    actions = {
        "cupy_backends.cuda.api.runtime": tables.runtime,
        "cupy_backends.cuda.api.driver": tables.driver,
    }
    if nvrtc != "real":
        actions["cuda.pathfinder"] = _Nvrtc(driver, missing=nvrtc == "missing")
    for name, action in actions.items():
        if name in sys.modules:
            action(sys.modules[name])
    sys.meta_path.insert(0, _Finder(actions))
