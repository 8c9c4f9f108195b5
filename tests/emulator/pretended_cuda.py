# SPDX-License-Identifier: GPL-3.0-or-later
"""Give this process a pretended CUDA device, before CuPy is imported.

    from emulator import pretended_cuda
    device = pretended_cuda.install(order="lazy", check=True)
    import cupy  # the ordinary wheel

In a test of the whole program this runs at the start of every process: no NumPy here, and no compiler.
"""

import ctypes
import os
import sys
from pathlib import Path

from emulator import cupy_tables
from emulator.toolchain import NATIVE, build_library, runtime_path

_DRIVER_SOURCES = [NATIVE / "pretended_driver.cpp", *sorted(NATIVE.glob("driver_*.h"))]
_NUMBERS = (
    "check",
    "schedule",
    "devices",
    "cc",
    "memory",
    "driver",
    "fail_alloc_after",
    "lose_after",
    "hang_after",
)
_TEXTS = ("lose_once", "log")
_COMPILER = ctypes.CFUNCTYPE(
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
_VARIANT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


DRIVER_VARIABLE = "GPUIDX_PRETENDED_DRIVER"


def driver_path():
    """Path of the pretended ``libcuda.so.1``; built if need be."""
    given = os.environ.get(DRIVER_VARIABLE)
    if given:
        return Path(given)
    return build_library("libcuda.so.1", _DRIVER_SOURCES, ["-O1"], [runtime_path()])


def build_all():
    """Build all libraries that a process with the device needs."""
    cupy_tables.library_path(driver_path())


def refuse_unknown(settings):
    """Raise TypeError where `Device.set` does not know the name of a setting."""
    for name in settings:
        if name not in _NUMBERS and name not in _TEXTS:
            raise TypeError(f"no setting {name!r}")


class Device:
    """Control of the pretended device.

    Attributes
    ----------
    mode
        How kernels are built: "check" or "fast".
    """

    def __init__(self, driver):
        self._driver, self.mode = driver, "fast"
        driver.pretended_messages.restype = ctypes.c_char_p
        driver.pretended_count.restype = driver.pretended_pending.restype = ctypes.c_ulonglong
        driver.pretended_set.argtypes = [ctypes.c_char_p, ctypes.c_longlong]
        driver.pretended_set_text.argtypes = [ctypes.c_char_p, ctypes.c_char_p]

    def set(self, order=None, **settings):
        """Change settings and ask for faults; what is not named, or None, stays.

        Parameters
        ----------
        order
            "lazy", "eager", or the seed (1 and above) of a random order.
        settings
            check
                True: kernels run with all checks.
            schedule
                Order of the threads in kernels, as in `emulator.cuda_on_cpu.Kernel`.
            devices, cc, driver, memory
                Number of devices, compute capability (90), version of the driver (13020), bytes of memory.
            fail_alloc_after
                So many more allocations succeed, then none does; -1: all do.  (CuPy's pool tries each
                allocation three times.)
            lose_after, hang_after
                So many more kernels run in this process; at the next the device is lost (every later call
                fails with cudaErrorIllegalAddress), or that kernel never ends.
            lose_once
                Path of a file: a device is lost, or hangs, only in the process that makes this file.
            log
                Path of a file to which messages are added, each with the number of the process.
        """
        refuse_unknown(settings)
        if order is not None:
            self._driver.pretended_set(b"order", {"lazy": -1, "eager": 0}.get(order, order))
        for name, value in settings.items():
            if value is None:
                continue
            if name in _TEXTS:
                self._driver.pretended_set_text(name.encode(), os.fsencode(value))
            else:
                self._driver.pretended_set(name.encode(), int(value))
            if name == "check":
                self.mode = "check" if value else "fast"

    def reset(self):
        """Forget queued work, errors, messages, counts and faults that have not struck yet."""
        self._driver.pretended_reset()

    @property
    def messages(self):
        """What the device had to complain of, one line each."""
        return self._driver.pretended_messages().decode().splitlines()

    @property
    def pending(self):
        """Number of operations that nothing has waited for yet."""
        return self._driver.pretended_pending()

    def count(self, what):
        """Count calls since the last `reset`.

        launch, copy_hd, copy_dh, copy_dd, copy_hh, copy_2d, memset, malloc, free, free_async, pinned,
        register, unregister, module, compile, record, wait_event, host_func, sync_stream, sync_event,
        sync_device, query_stream, query_event
        """
        return self._driver.pretended_count(what.encode())


class _Compiler:
    """What the pretended NVRTC calls to compile, and to build the same program for the other mode."""

    def __init__(self, device):
        self._device, self._programs = device, {}
        self.callbacks = _COMPILER(self._compile), _VARIANT(self._variant)

    def _compile(self, code, name, n_option, options, n_expression, expressions, path, log, size):
        from emulator.source import build

        try:
            program = {
                "code": code.decode(),
                "options": [options[i].decode() for i in range(n_option)],
                "name_expressions": [expressions[i].decode() for i in range(n_expression)],
                "filename": Path(name.decode()).name,
            }
            mode = self._device.mode
            built = str(build(**program, mode=mode))
            self._programs[built] = program
            _write(path, f"{int(mode == 'check')} {built}")
            return 0
        except Exception as error:  # goes into the program's log, as a compiler's message
            _write(log, str(error), size)
            return 1

    def _variant(self, path, check, out, size):
        from emulator.source import build

        try:
            program = self._programs[path.decode()]
            _write(out, str(build(**program, mode="check" if check else "fast")), size)
            return 0
        except Exception as error:
            print(f"pretended cuda: {error!r}", file=sys.stderr)
            return 1


def _write(address, text, size=4096):
    data = text.encode()[: size - 1] + b"\0"
    ctypes.memmove(address, data, len(data))


_device = None


def install(order="lazy", check=False, nvrtc="pretended", **settings):
    """Pretend a device in this process and in what it forks; at a second call, change the settings.

    Only children that are forked before the device was used can use it, as on a real one.

    Parameters
    ----------
    order, check, settings
        As for `Device.set`.
    nvrtc
        ``"pretended"``; ``"missing"``: compiling fails as without the library; ``"real"``: CuPy compiles with
        NVIDIA's, for tests of that step alone: the result cannot be loaded.

    Raises
    ------
    RuntimeError
        If CuPy is imported already.
    """
    global _device
    if _device is None:
        if "cupy" in sys.modules:
            raise RuntimeError("install() must come before the import of cupy")
        _device = _install(nvrtc)
    _device.set(order=order, check=check, **settings)
    return _device


def _install(nvrtc):
    if nvrtc not in ("pretended", "missing", "real"):
        raise ValueError(f"nvrtc={nvrtc!r}")
    # The loader knows it as libcuda.so.1 from now on, for whoever asks.
    driver = ctypes.CDLL(str(driver_path()))
    device = Device(driver)
    device.compiler = _Compiler(device)  # lives as long as the library may call it
    driver.pretended_set_compiler(*device.compiler.callbacks)
    os.environ.setdefault("CUPY_CACHE_IN_MEMORY", "1")  # never mix with kernels of a real device
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB brings a runtime of its own
    cupy_tables.take_over(driver, nvrtc)
    return device
