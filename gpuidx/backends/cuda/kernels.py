# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiling the files of ``kernels/`` and launching what is in them; the only way to start a kernel.

CuPy checks no argument: a Python float for a float parameter arrives as 0, an array of another type is read
as if it were of the right one.  So each launch is checked against the parameters in the kernel's source, and
arguments go by name.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpuidx.backends.cuda import sources

C_TYPES = {
    "u1": "unsigned char", "i1": "signed char", "u2": "unsigned short", "i2": "short",
    "u4": "unsigned int", "i4": "int", "f4": "float", "f8": "double", "i8": "long long",
    "u8": "unsigned long long",
}  # fmt: skip
"""Name in C of each dtype that kernels use."""

_DTYPES = {name: np.dtype(kind) for kind, name in C_TYPES.items()}
_VECTORS = {"uint4": "unsigned int", "float4": "float", "float2": "float"}
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(
    r'extern "C" __global__ void __launch_bounds__\((?P<threads>\w+)[^)]*\)'
    r"\s*(?P<name>\w+)\((?P<parameters>[^)]*)\)"
)
_DEFINE = re.compile(r"^#define (\w+) (\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kernel; *dtype* is None for a pointer to a structure."""

    name: str
    is_pointer: bool
    is_const: bool
    dtype: np.dtype[Any] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters of a kernel, and the threads of a block, as its source says."""

    name: str
    threads: int
    parameters: tuple[Parameter, ...]


def source_hash(folder: Path) -> str:
    """Changes with any file of the folder: CuPy's cache of compiled kernels does not look at headers."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.cu*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def c_float(value: float | np.floating[Any]) -> str:
    """A number as a float32 constant of C."""
    return f"{float(np.float32(value))!r}f"


def compile_options(folder: Path, pixel: str | None, defines: Mapping[str, str | int]) -> tuple[str, ...]:
    """What NVRTC is told for a file of a folder of kernels, but the architecture; see `Kernels`."""
    given = {} if pixel is None else {"PIXEL": C_TYPES[pixel], "IS_FLOAT": int(pixel == "f4")}
    given |= defines
    given["KERNELS_HASH"] = f"0x{source_hash(folder)}"
    return (*sources.OPTIONS, f"-I{folder}", *(f"-D{name}={value}" for name, value in given.items()))


def integer_defines(source: str) -> dict[str, int]:
    """The whole numbers that a file defines, by name."""
    return {name: int(value) for name, value in _DEFINE.findall(_COMMENT.sub("", source))}


def signatures(source: str, pixel: str | None = None) -> dict[str, Signature]:
    """What the kernels of a file take.

    Parameters
    ----------
    source
        Text of the file.
    pixel
        dtype that ``PIXEL`` stands for.
    """
    text = _COMMENT.sub("", source)
    numbers = integer_defines(source)
    found = {}
    for match in _KERNEL.finditer(text):
        threads = match["threads"]
        parameters = tuple(_parameter(part, pixel) for part in match["parameters"].split(","))
        found[match["name"]] = Signature(match["name"], numbers.get(threads) or int(threads), parameters)
    return found


def _parameter(text: str, pixel: str | None) -> Parameter:
    words = text.replace("*", " * ").replace("__restrict__", " ").split()
    *kind, name = words
    is_pointer, is_const = "*" in kind, "const" in kind
    c_type = " ".join(word for word in kind if word not in ("*", "const"))
    if c_type == "PIXEL":
        return Parameter(name, is_pointer, is_const, None if pixel is None else np.dtype(pixel))
    return Parameter(name, is_pointer, is_const, _DTYPES.get(_VECTORS.get(c_type, c_type)))


def checked_arguments(signature: Signature, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """Arguments in order, numbers converted to the parameter's type.

    Raises
    ------
    TypeError
        If one is missing or unknown, or an array is of another type or not contiguous.
    OverflowError
        If a number does not fit.
    """
    names = [parameter.name for parameter in signature.parameters]
    if sorted(names) != sorted(arguments):
        differing = sorted(set(names) ^ set(arguments))
        raise TypeError(f"{signature.name}: missing or unknown arguments: {', '.join(differing)}")
    return tuple(_checked(signature.name, p, arguments[p.name]) for p in signature.parameters)


def _checked(kernel: str, parameter: Parameter, value: Any) -> Any:
    what = f"{kernel}: argument {parameter.name}"
    if not parameter.is_pointer:
        if hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0:
            raise TypeError(f"{what} is an array; expected a number")
        assert parameter.dtype is not None
        if parameter.dtype.kind in "iu" and value != int(value):
            raise TypeError(f"{what} is {value!r}; expected a whole number")
        return parameter.dtype.type(value)
    if not hasattr(value, "dtype") or not value.flags.c_contiguous:
        raise TypeError(f"{what} is {type(value).__name__}; expected a contiguous array on the device")
    if parameter.dtype is not None and value.dtype != parameter.dtype:
        raise TypeError(f"{what} is {value.dtype}; expected {parameter.dtype}")
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel with all that it takes, checked; it keeps arrays alive."""

    name: str
    function: Any
    grid: tuple[int, ...]
    block: tuple[int, ...]
    values: tuple[Any, ...]

    def start(self, stream: Any) -> None:
        """Start the kernel on a stream."""
        with stream:
            self.function(self.grid, self.block, self.values)


class Kernels:
    """The kernels of one file, compiled for the current device.

    Parameters
    ----------
    file
        Name of the file in ``kernels/``.
    pixel
        dtype that ``PIXEL`` stands for; None where the file knows no pixels.
    defines
        Further names that the source expects, and what they stand for.

    Raises
    ------
    cupy.cuda.compiler.CompileException, RuntimeError
        At the first launch, or at `compile`, if they cannot be compiled.
    """

    def __init__(self, file: str, pixel: str | None, defines: Mapping[str, str | int]) -> None:
        import cupy

        folder = sources.folder()
        source = (folder / file).read_text()
        self.numbers = integer_defines(source)
        self._signatures = signatures(source, pixel)
        options = compile_options(folder, pixel, defines)
        self._module = cupy.RawModule(code=f'#line 1 "kernels/{file}"\n{source}', options=options)
        self._functions: dict[str, Any] = {}

    def compile(self) -> None:
        """Compile and load now, not at the first launch."""
        for name in self._signatures:
            self._functions[name] = self._module.get_function(name)

    def threads(self, name: str) -> int:
        """Threads of a block of a kernel."""
        return self._signatures[name].threads

    def parameters(self, name: str) -> list[str]:
        """Names of what a kernel takes."""
        return [parameter.name for parameter in self._signatures[name].parameters]

    def prepare(self, name: str, grid: tuple[int, ...], /, **arguments: Any) -> Launch:
        """A launch that can be made any number of times; see `checked_arguments`."""
        signature = self._signatures[name]
        values = checked_arguments(signature, arguments)
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        return Launch(name, self._functions[name], grid, (signature.threads,), values)

    def launch(self, name: str, grid: tuple[int, ...], stream: Any, /, **arguments: Any) -> None:
        """Start a kernel on a stream; see `checked_arguments`."""
        self.prepare(name, grid, **arguments).start(stream)
