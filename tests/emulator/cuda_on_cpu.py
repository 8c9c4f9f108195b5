# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile unmodified CUDA source with g++ and run its kernels on the CPU, with checks.

    module = Module.from_file("kernels/peaks.cu", options=["-DPIXEL=short"], mode="check")
    module.kernel("find_peaks")((gx, gy), (256,), (image, np.int32(n)), shared_mem=1024)

Arguments follow CuPy's RawKernel: arrays for pointers, NumPy scalars for values.
"""

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from emulator.memory import POISON, DeviceArray, empty, runtime, to_device
from emulator.source import build
from emulator.toolchain import CompileError

__all__ = ["CompileError", "DeviceArray", "Kernel", "KernelError", "Module", "build", "empty", "to_device"]

_SIGNED, _UNSIGNED, _FLOAT, _POINTER = 1, 2, 3, 4  # kinds of a parameter, as cuda_on_cpu.h numbers them
_PYTHON_TYPES = {bool: np.bool_, int: np.int64, float: np.float64}


class KernelError(RuntimeError):
    """A launch was found faulty.

    Attributes
    ----------
    reports
        One ``dict`` for each fault, with ``kind``, ``text``, ``where`` ("file:line") and ``count``.
    """

    def __init__(self, kernel, reports):
        self.reports = reports
        super().__init__(f"{kernel}: " + "; ".join(map(_report_text, reports)))

    @property
    def kinds(self):
        """The kinds of all faults: "race", "out of bounds", ... (README.md has the list)."""
        return {report["kind"] for report in self.reports}


def _report_text(report):
    times = f" ({report['count']} times)" if report["count"] > 1 else ""
    return f"{report['kind']}: {report['text']} at {report['where']}{times}"


class _KernelEntry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("info", ctypes.c_void_p),
        ("n_parameter", ctypes.c_int),
    )


class Module:
    """The kernels of one source, compiled.

    Parameters
    ----------
    code, options, name_expressions, filename
        As for `emulator.source.build`.
    mode
        ``"fast"``: stray accesses end in a guard page.  ``"check"``: every access is checked.
    """

    def __init__(self, code, options=(), name_expressions=(), mode="fast", filename="kernel.cu"):
        self.mode, self.path = mode, build(code, tuple(options), tuple(name_expressions), mode, filename)
        self.runtime, self._library = runtime(), ctypes.CDLL(str(self.path))
        table = ctypes.cast(self._library.coc_kernels, ctypes.POINTER(_KernelEntry))
        self.entries, i = {}, 0
        while table[i].name:
            self.entries[table[i].name.decode()] = table[i]
            i += 1
        self.runtime.coc_module_data(ctypes.cast(self._library.coc_kernels, ctypes.c_void_p))

    @classmethod
    def from_file(cls, path, **options):
        """Compile the file *path*."""
        path = Path(path)
        return cls(path.read_text(), filename=str(path), **options)

    def kernel(self, name):
        """Give the kernel of that name, or name expression."""
        return Kernel(self, name)

    def variable(self, name, dtype, shape=()):
        """Give a ``__device__`` or ``__constant__`` variable of the global name space, as an array."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return np.frombuffer((ctypes.c_char * size).in_dll(self._library, name), dtype).reshape(shape)

    def where(self):
        """Address and size of static shared memory, and the library's load address."""
        out = (ctypes.c_void_p * 3)()
        self._library.coc_where(out)
        return out[0] or 0, out[1] or 0, out[2] or 0

    def locate(self, pc, line):
        """Give "file:line" of an address in the module, else of a line of the source."""
        if not pc:
            return f"line {line}" if line else "?"
        offset = hex(pc - 1 - self.where()[2])
        command = ["addr2line", "-e", str(self.path), "-i", offset]
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        own = [text for text in lines if "cuda_on_cpu.h" not in text and "??" not in text]
        place = (own or lines or ["?"])[0].split(" ")[0]
        return Path(place).name


class Kernel:
    """A kernel; called with grid, block and arguments as CuPy's RawKernel."""

    def __init__(self, module, name):
        self.module, self.name, self.entry = module, name, module.entries[name]
        n = self.entry.n_parameter
        columns = [(ctypes.c_int * (n + 1))() for _ in range(3)]
        info = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        info(self.entry.info)(*columns, 0)
        self.parameters = list(zip(*(list(column)[:n] for column in columns), strict=True))

    def __call__(self, grid, block, args, shared_mem=0, schedule=0, strict=1, poison=POISON):
        """Run the kernel to its end.

        Parameters
        ----------
        grid, block
            Numbers, or tuples of up to three.
        args
            Arrays (`DeviceArray` or NumPy) for pointers, None for a null pointer, NumPy scalars for values.
        shared_mem
            Bytes of dynamic shared memory.
        schedule
            Order of threads and blocks: 0 forward, 1 backward, 2 and above random with that seed.
        strict
            0 permits a barrier after threads have ended; 2 ends the launch there.
        poison
            What shared memory holds at the start.

        Raises
        ------
        KernelError
            If a fault was found.
        TypeError
            If the arguments do not fit the kernel's signature.
        """
        values, copies = self._values(args)
        addresses = (ctypes.c_void_p * (len(values) + 1))(*map(ctypes.addressof, values))
        shared, shared_size, _ = self.module.where()
        check = self.module.mode == "check"
        n = self.module.runtime.coc_launch(
            self.entry.call,
            addresses,
            _three(grid),
            _three(block),
            shared_mem,
            shared,
            shared_size,
            check,
            schedule,
            strict,
            poison,
        )
        for array, copy in copies:
            if array.flags.writeable:
                array[...] = copy.a
        if n:
            raise KernelError(self.name, [self._report(i) for i in range(n)])

    def all_orders(self, grid, block, args, shared_mem=0, seeds=(0, 1, 2, 3), **options):
        """Run with the threads and blocks in several orders; the results must not differ.

        Raises
        ------
        KernelError
            Of kind "order" if they do, or as for one run.
        """
        arrays = [a.a if isinstance(a, DeviceArray) else a for a in args]
        arrays = [a for a in arrays if isinstance(a, np.ndarray)]
        start, first = [a.copy() for a in arrays], None
        for seed in seeds:
            for array, content in zip(arrays, start, strict=True):
                if array.flags.writeable:
                    array[...] = content
            self(grid, block, args, shared_mem, schedule=seed, **options)
            result = [a.tobytes() for a in arrays]
            first = first or result
            differ = [i for i, (a, b) in enumerate(zip(first, result, strict=True)) if a != b]
            if differ:
                text = f"array arguments {differ} differ between thread orders {seeds[0]} and {seed}"
                raise KernelError(self.name, [{"kind": "order", "text": text, "where": "result", "count": 1}])

    def _report(self, i):
        kind, text = ctypes.create_string_buffer(700), ctypes.create_string_buffer(700)
        number = (ctypes.c_ulonglong * 3)()  # address, line, how often
        self.module.runtime.coc_report(i, kind, text, 700, number)
        return {
            "kind": kind.value.decode(),
            "text": text.value.decode(),
            "where": self.module.locate(number[0], number[1]),
            "count": number[2],
        }

    def _values(self, args):
        """Give the parameters' bytes, and pairs of a NumPy array and the guarded copy that stands for it."""
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.name}: {len(args)} arguments for {len(self.parameters)} parameters")
        values, copies = [], []
        for i, (arg, (kind, size, element)) in enumerate(zip(args, self.parameters, strict=True)):
            what = f"{self.name}: argument {i}"
            if isinstance(arg, DeviceArray) or (
                isinstance(arg, np.ndarray) and (arg.ndim or kind == _POINTER)
            ):
                values.append(self._array(arg, kind, element, what, copies))
            elif arg is None and kind == _POINTER:
                values.append(ctypes.c_void_p(0))
            else:
                values.append(_scalar(arg, kind, size, what))
        return values, copies

    def _array(self, array, kind, element, what, copies):
        if kind != _POINTER:
            raise TypeError(f"{what}: array for a parameter that is no pointer")
        if element and element != array.dtype.itemsize and array.dtype.kind != "V":
            raise TypeError(
                f"{what}: elements of {array.dtype.itemsize} bytes for a pointer to {element} bytes"
            )
        if isinstance(array, DeviceArray):
            return ctypes.c_void_p(array.ptr)
        if not array.flags.c_contiguous:
            raise TypeError(f"{what}: array is not contiguous")
        address = array.ctypes.data
        if self.module.mode == "check" and not self.module.runtime.coc_mem_has(address, array.nbytes):
            copies.append((array, to_device(array)))
            address = copies[-1][1].ptr
        return ctypes.c_void_p(address)


def _scalar(value, kind, size, what):
    if not isinstance(value, (np.generic, np.ndarray)):
        value = _PYTHON_TYPES[type(value)](value)
    value = np.asarray(value)
    if value.nbytes != size:
        raise TypeError(f"{what}: {value.nbytes} bytes ({value.dtype}) for a parameter of {size} bytes")
    wrong_float = kind == _FLOAT and value.dtype.kind != "f"
    wrong_integer = kind in (_SIGNED, _UNSIGNED) and value.dtype.kind not in "iub"
    if wrong_float or wrong_integer or kind == _POINTER:
        raise TypeError(f"{what}: {value.dtype} does not fit the parameter's type")
    return ctypes.create_string_buffer(value.tobytes(), size)


def _three(sizes):
    sizes = (sizes,) if np.isscalar(sizes) else tuple(sizes)
    return (ctypes.c_uint * 3)(*(int(size) for size in sizes + (1,) * (3 - len(sizes))))
