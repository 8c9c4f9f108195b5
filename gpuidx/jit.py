# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that imports and configures Numba.

Import it only from modules that run in workers: `import numba` costs 0.3 s and more.
`@jit` compiles without fast-math, so sums keep the order that is written; see docs/performance.md.
"""

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one worker, one core; threads do not survive a fork


def _sources_key() -> str:
    """A hash of all that is compiled, constants included.

    Numba sees a change in the file of a function, not in files whose functions or constants it uses, and
    files of an upgraded package may carry the old time stamps: old machine code would go on running.
    """
    package = Path(__file__).parent
    key = hashlib.sha256(sys.version.encode())
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        if b"gpuidx.jit" in text or path.name.endswith(("constants.py", "jit.py")):
            key.update(text)
    return key.hexdigest()[:16]


def _choose_cache() -> None:
    """Point Numba at a folder that can be written, else its import of cached functions fails."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gpuidx"
    for base in (Path(__file__).parent / "__pycache__", home):
        folder = base / f"numba-{_sources_key()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            os.environ["NUMBA_CACHE_DIR"] = str(folder)
            return
    os.environ["NUMBA_CACHE_DIR"] = _temporary_cache()


def _temporary_cache() -> str:
    """A folder that belongs to this user alone: what is in a cache is executed."""
    base = Path(tempfile.gettempdir()) / f"gpuidx-numba-{os.getuid()}-{_sources_key()}"
    base.mkdir(mode=0o700, exist_ok=True)
    status = base.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
        return str(base)
    return tempfile.mkdtemp(prefix="gpuidx-numba-")


_choose_cache()

import numba  # noqa: E402  (after the environment is set)

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile a function without the interpreter lock, cached on disk, IEEE arithmetic as written."""
    return cast("F", numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def fast_jit(function: F) -> F:
    """Like `jit`, with multiply-adds fused and NaN ignored; for scores whose last bits do not matter."""
    loose = {"contract", "nnan", "ninf", "nsz"}
    return cast("F", numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=loose)(function))
