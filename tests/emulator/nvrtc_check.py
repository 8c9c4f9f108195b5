# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa
"""Compile kernels with NVIDIA's NVRTC for many architectures, with no GPU and no driver.

    python nvrtc_check.py kernels/*.cu -I kernels -D PIXEL=float --arch 75 80 90 --max-registers 64 --no-spills

Needs only an NVRTC wheel (nvidia-cuda-nvrtc-cu12 for CUDA 12, nvidia-cuda-nvrtc for 13).
Prints registers, stack, spills, shared and constant memory of every kernel.
"""

import argparse
import ctypes
import glob
import os
import pathlib
import re
import sys


def find_nvrtc():
    """Path of libnvrtc: from a wheel, from CUDA_PATH, or by the loader's own search."""
    for base in sys.path:
        for pat in ("nvidia/cuda_nvrtc/lib/libnvrtc.so.*", "nvidia/cu1[0-9]/lib/libnvrtc.so.*"):
            for p in sorted(glob.glob(os.path.join(base, pat))):
                if "builtins" not in p and ".alt" not in p:
                    return p
    for p in sorted(
        glob.glob(os.path.join(os.environ.get("CUDA_PATH", "/usr/local/cuda"), "lib64", "libnvrtc.so.*"))
    ):
        return p
    return "libnvrtc.so"


class Nvrtc:
    def __init__(self, path=None):
        self.path = path or find_nvrtc()
        folder = os.path.dirname(self.path)
        for b in glob.glob(os.path.join(folder, "libnvrtc-builtins.so*")) if folder else []:
            ctypes.CDLL(b)  # found by name when NVRTC asks for it
        self.lib = ctypes.CDLL(self.path)
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p

    def version(self):
        a, b = ctypes.c_int(), ctypes.c_int()
        self.lib.nvrtcVersion(ctypes.byref(a), ctypes.byref(b))
        return a.value, b.value

    def archs(self):
        n = ctypes.c_int()
        self.lib.nvrtcGetNumSupportedArchs(ctypes.byref(n))
        v = (ctypes.c_int * n.value)()
        self.lib.nvrtcGetSupportedArchs(v)
        return list(v)

    def _text(self, prog, what):
        n = ctypes.c_size_t()
        getattr(self.lib, f"nvrtcGet{what}Size")(prog, ctypes.byref(n))
        buf = ctypes.create_string_buffer(n.value + 1)
        getattr(self.lib, f"nvrtcGet{what}")(prog, buf)
        return buf.raw[: n.value]

    def compile(self, source, name="kernel.cu", options=(), expressions=()):
        """-> (ok, log, cubin or ptx, lowered names)"""
        prog = ctypes.c_void_p()
        self.lib.nvrtcCreateProgram(ctypes.byref(prog), source.encode(), name.encode(), 0, None, None)
        for e in expressions:
            self.lib.nvrtcAddNameExpression(prog, e.encode())
        opt = [o.encode() for o in options]
        r = self.lib.nvrtcCompileProgram(prog, len(opt), (ctypes.c_char_p * len(opt))(*opt))
        log = self._text(prog, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        image, names = b"", {}
        if r == 0:
            real = any("sm_" in o for o in options)
            image = self._text(prog, "CUBIN" if real else "PTX")
            for e in expressions:
                p = ctypes.c_char_p()
                self.lib.nvrtcGetLoweredName(prog, e.encode(), ctypes.byref(p))
                names[e] = p.value.decode()
        else:
            log = self.lib.nvrtcGetErrorString(r).decode() + "\n" + log
        self.lib.nvrtcDestroyProgram(ctypes.byref(prog))
        return r == 0, log, image, names


_ENTRY = re.compile(r"Compiling entry function '([^']+)' for '(\w+)'")


def resources(log):
    """What ptxas -v said: {kernel: {registers, stack, spill_stores, spill_loads, shared, constant}}"""
    out = {}
    parts = _ENTRY.split(log)
    for name, _, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=False):

        def num(pat):
            m = re.search(pat, body)
            return int(m.group(1)) if m else 0

        out[name] = {
            "registers": num(r"Used (\d+) registers"),
            "stack": num(r"(\d+) bytes stack frame"),
            "spill_stores": num(r"(\d+) bytes spill stores"),
            "spill_loads": num(r"(\d+) bytes spill loads"),
            "shared": num(r"(\d+) bytes smem"),
            "constant": num(r"(\d+) bytes cmem\[0\]"),
        }
    return out


def main(argv=None):
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("files", nargs="+", type=pathlib.Path)
    a.add_argument("--arch", nargs="*", type=int)
    a.add_argument("-I", action="append", default=[])
    a.add_argument("-D", action="append", default=[])
    a.add_argument("--max-registers", type=int)
    a.add_argument("--no-spills", action="store_true")
    a.add_argument("--nvrtc")
    o = a.parse_args(argv)
    n, bad = Nvrtc(o.nvrtc), 0
    print("NVRTC", "%d.%d" % n.version())
    for f in o.files:
        for arch in o.arch or [v for v in n.archs() if v >= 70]:
            ok, log, _image, _ = n.compile(
                f.read_text(),
                str(f),
                [
                    f"--gpu-architecture=sm_{arch}",
                    "--std=c++17",
                    "--fmad=false",
                    "--ptxas-options=-v",
                    *(f"-I{i}" for i in o.I),
                    *(f"-D{d}" for d in o.D),
                ],
            )
            if not ok:
                bad += 1
                print(f"{f} sm_{arch}: {log}")
                continue
            for k, r in resources(log).items():
                over = (o.max_registers and r["registers"] > o.max_registers) or (
                    o.no_spills and r["spill_stores"] + r["spill_loads"]
                )
                bad += bool(over)
                print(
                    f"{f.name} sm_{arch} {k}: "
                    + ", ".join(f"{x} {y}" for x, y in r.items())
                    + ("  <-- over the limit" if over else "")
                )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
