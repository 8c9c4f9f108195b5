# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile kernels with NVIDIA's NVRTC for many architectures, with no GPU and no driver.

    python -m emulator.nvrtc_check kernels/*.cu -I kernels -D PIXEL=float --max-registers 64 --no-spills

Needs only an NVRTC wheel (nvidia-cuda-nvrtc-cu12 for CUDA 12, nvidia-cuda-nvrtc for 13).  Prints registers,
stack, spills, shared and constant memory of every kernel.
"""

import argparse
import ctypes
import os
import re
import sys
from pathlib import Path

_WHEELS = ("nvidia/cuda_nvrtc/lib", "nvidia/cu1[0-9]/lib")
_COMPILING = re.compile(r"Compiling entry function '([^']+)' for '(\w+)'")
_FIGURES = {
    "registers": r"Used (\d+) registers",
    "stack": r"(\d+) bytes stack frame",
    "spill_stores": r"(\d+) bytes spill stores",
    "spill_loads": r"(\d+) bytes spill loads",
    "shared": r"(\d+) bytes smem",
    "constant": r"(\d+) bytes cmem\[0\]",
}


def find_nvrtc(major=None):
    """Path of libnvrtc, of that major version if given, from a wheel or CUDA_PATH; None if there is none."""
    name = f"libnvrtc.so.{major or '[0-9]*'}"
    folders = [folder for base in sys.path for wheel in _WHEELS for folder in sorted(Path(base).glob(wheel))]
    folders.append(Path(os.environ.get("CUDA_PATH", "/usr/local/cuda")) / "lib64")
    return next((path for folder in folders for path in sorted(folder.glob(name))), None)


class Nvrtc:
    """NVIDIA's compiler.

    A process can use both major versions, and the pretended device beside them.

    Parameters
    ----------
    path
        Of the library; None: the first that is found.
    major
        12 or 13; None: any.

    Raises
    ------
    OSError
        If there is none.
    """

    def __init__(self, path=None, major=None):
        found = path or find_nvrtc(major)
        if found is None:
            raise OSError(f"no NVRTC {major or ''}".rstrip())
        self.path = Path(found)
        for part in sorted(self.path.parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(part))  # NVRTC asks for it by name
        self._library = ctypes.CDLL(str(self.path))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def version(self):
        """Major and minor version."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def archs(self):
        """Architectures that it compiles for: 75, 80, ..."""
        n = ctypes.c_int()
        self._library.nvrtcGetNumSupportedArchs(ctypes.byref(n))
        values = (ctypes.c_int * n.value)()
        self._library.nvrtcGetSupportedArchs(values)
        return list(values)

    def compile(self, source, name="kernel.cu", options=(), expressions=()):
        """Compile a text.

        Returns
        -------
        tuple
            Success, log, binary (PTX without ``sm_`` among the options), lowered names by name expression.
        """
        program = ctypes.c_void_p()
        self._library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
        try:
            for expression in expressions:
                self._library.nvrtcAddNameExpression(program, expression.encode())
            encoded = [option.encode() for option in options]
            array = (ctypes.c_char_p * len(encoded))(*encoded)
            status = self._library.nvrtcCompileProgram(program, len(encoded), array)
            log = self._text(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                return False, f"{self._library.nvrtcGetErrorString(status).decode()}\n{log}", b"", {}
            binary = self._text(program, "CUBIN" if any("sm_" in option for option in options) else "PTX")
            return True, log, binary, {text: self._lowered(program, text) for text in expressions}
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value + 1)
        getattr(self._library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw[: size.value]

    def _lowered(self, program, expression):
        name = ctypes.c_char_p()
        self._library.nvrtcGetLoweredName(program, expression.encode(), ctypes.byref(name))
        return name.value.decode()


def resources(log):
    """What the log says with ``--ptxas-options=-v``.

    Returns
    -------
    dict
        By kernel: registers, stack, spill_stores, spill_loads, shared, constant (all but the first in bytes).
    """
    parts = _COMPILING.split(log)
    return {name: _figures(text) for name, text in zip(parts[1::3], parts[3::3], strict=True)}


def _figures(text):
    found = {name: re.search(pattern, text) for name, pattern in _FIGURES.items()}
    return {name: int(match[1]) if match else 0 for name, match in found.items()}


def main(argv=None):
    """Compile files for all architectures; 1 at an error, or if a limit is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--arch", nargs="*", type=int)
    parser.add_argument("-I", action="append", default=[])
    parser.add_argument("-D", action="append", default=[])
    parser.add_argument("--max-registers", type=int)
    parser.add_argument("--no-spills", action="store_true")
    parser.add_argument("--major", type=int, help="12 or 13")
    wanted = parser.parse_args(argv)
    nvrtc, faults = Nvrtc(major=wanted.major), 0
    print("NVRTC {}.{}".format(*nvrtc.version()))
    common = ["--std=c++17", "--fmad=false", "--ptxas-options=-v"]
    common += [f"-I{folder}" for folder in wanted.I] + [f"-D{macro}" for macro in wanted.D]
    for file in wanted.files:
        for arch in wanted.arch or [arch for arch in nvrtc.archs() if arch >= 70]:
            options = [f"--gpu-architecture=sm_{arch}", *common]
            good, log, _, _ = nvrtc.compile(file.read_text(), str(file), options)
            if not good:
                print(f"{file} sm_{arch}: {log}")
            faults += not good
            for kernel, figures in resources(log).items():
                excess = _exceeds(figures, wanted)
                faults += excess
                text = ", ".join(f"{name} {value}" for name, value in figures.items())
                print(f"{file.name} sm_{arch} {kernel}: {text}{'  <-- over the limit' if excess else ''}")
    return 1 if faults else 0


def _exceeds(figures, wanted):
    registers = wanted.max_registers is not None and figures["registers"] > wanted.max_registers
    spills = wanted.no_spills and figures["spill_stores"] + figures["spill_loads"] > 0
    return registers or spills


if __name__ == "__main__":
    sys.exit(main())
