# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime library, and memory for kernels between guard pages."""

import ctypes
import functools

import numpy as np

from emulator.toolchain import runtime_path

POISON = 0xCB  # what memory holds before it is written


@functools.cache
def runtime():
    """Load the library that runs and checks kernels."""
    library = ctypes.CDLL(str(runtime_path()))
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.coc_guard_alloc.restype = pointer
    library.coc_guard_alloc.argtypes = [size, size, number]
    library.coc_guard_free.argtypes = [pointer]
    library.coc_mem_add.argtypes = [pointer, size, number, number]
    library.coc_mem_del.argtypes = [pointer]
    for function in (library.coc_mem_has, library.coc_mem_uninit, library.coc_mem_inited):
        function.argtypes = [pointer, size]
    library.coc_launch.argtypes = [pointer] * 4 + [size, pointer, size, number, ctypes.c_uint, number, number]
    library.coc_module_data.argtypes = [pointer]
    library.coc_set_stack.argtypes = [size]
    return library


class DeviceArray:
    """Guarded memory for kernels; the checker knows which bytes were written.

    Parameters
    ----------
    shape, dtype
        As for NumPy.
    data
        What it holds; None: nothing that may be read.
    readonly
        In mode "check" a write of a kernel is an error.

    Attributes
    ----------
    a
        The NumPy view.
    ptr, nbytes
        Address and size.
    """

    def __init__(self, shape, dtype, data=None, readonly=False):
        library = self._runtime = runtime()
        self.dtype = np.dtype(dtype)
        shape = (shape,) if np.isscalar(shape) else tuple(shape)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        align = min(16, self.dtype.itemsize & -self.dtype.itemsize)
        self.ptr = library.coc_guard_alloc(self.nbytes, align, POISON)
        library.coc_mem_add(self.ptr, self.nbytes, data is not None, readonly)
        buffer = (ctypes.c_char * self.nbytes).from_address(self.ptr) if self.nbytes else b""
        self.a = np.frombuffer(buffer, self.dtype).reshape(shape)
        if data is not None:
            self.a[...] = data

    def __del__(self):
        if getattr(self, "ptr", None):
            self._runtime.coc_mem_del(self.ptr)
            self._runtime.coc_guard_free(self.ptr)

    def written(self):
        """True if every byte has been written (known in mode "check" only)."""
        return not self._runtime.coc_mem_uninit(self.ptr, self.nbytes)


def empty(shape, dtype):
    """Memory that was never written; reading it is reported."""
    return DeviceArray(shape, dtype)


def to_device(array, readonly=False):
    """Copy *array* into guarded memory."""
    array = np.asarray(array)
    return DeviceArray(array.shape, array.dtype, array, readonly)
