# SPDX-License-Identifier: GPL-3.0-or-later
"""The C++ compiler, and the folder of what it has built.

What takes long to import is imported where it is needed: see `emulator.pretended_cuda`.

Objects are named by a hash of all that goes into them, so any number of processes can share the folder: each
object is made under a temporary name by whoever holds its lock, and then moved into place.
"""

import functools
import os
from pathlib import Path

NATIVE = Path(__file__).resolve().parent / "native"
CXX = os.environ.get("CXX", "g++")
LIBRARY_FLAGS = ("-std=c++17", "-g", "-fPIC", "-shared", "-w")


class CompileError(RuntimeError):
    """The source does not compile; the text is the compiler's."""


@functools.cache
def cache_folder():
    """Folder of built objects: ``CUDA_ON_CPU_CACHE``, or this user's own among the temporary files.

    Raises
    ------
    RuntimeError
        If another user could put libraries there.
    """
    import stat
    import tempfile

    chosen = os.environ.get("CUDA_ON_CPU_CACHE")
    folder = Path(chosen or Path(tempfile.gettempdir()) / f"cuda_on_cpu_{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid != os.getuid() or (not chosen and state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise RuntimeError(f"{folder}: others may write there; set CUDA_ON_CPU_CACHE to a folder of your own")
    return folder.resolve()


def run(command, **options):
    """Run a compiler; its standard output.

    Raises
    ------
    CompileError
        With the command and what the compiler says.
    """
    import subprocess

    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise CompileError(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def hash_of(*parts):
    """Name for what is made of *parts*: texts, or paths of files whose content counts."""
    import hashlib

    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:20]


def build_once(target, make):
    """Have ``make(path)`` write *target* unless it is there; for all processes and threads only once."""
    import fcntl

    if target.exists():
        return target
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = target.with_name(f"{target.name}.{os.getpid()}")
            try:
                make(unfinished)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
    return target


def build_library(name, sources, flags=(), libraries=()):
    """Build ``sources[0]``, which includes the other sources, as *name* in a folder of its own; the path.

    Programs find *libraries* beside them, wherever they were started, and *name* is what the loader calls it.
    """
    folder = (
        cache_folder()
        / f"{Path(name).name.split('.')[0]}_{hash_of(CXX, *flags, *sources, *map(str, libraries))}"
    )

    def make(target):
        paths = [f"-Wl,-rpath,{library.parent}" for library in libraries]
        command = [CXX, *LIBRARY_FLAGS, *flags, sources[0], "-o", target, *libraries, *paths]
        run([*command, f"-Wl,-soname,{name}", "-ldl", "-pthread"])

    return build_once(folder / name, make)


@functools.cache
def runtime_path():
    """Path of the library that runs and checks kernels."""
    return build_library(
        "libcuda_on_cpu.so", [NATIVE / "cuda_on_cpu_rt.cpp", *sorted(NATIVE.glob("runtime_*.h"))], ["-O2"]
    )
