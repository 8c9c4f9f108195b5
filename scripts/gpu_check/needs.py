# SPDX-License-Identifier: GPL-3.0-or-later
"""What the check needs and may not find: Python packages, compute-sanitizer, installed from wheels."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from gpu_check.report import Report

PACKAGES = {
    "numpy": "numpy",
    "numba": "numba",
    "argparse_dataclass": "argparse-dataclass",
    "cupy": "cupy-cuda12x or cupy-cuda13x",
}
"""Modules that are imported on the way of this check, and the packages that bring them."""

OF_COMPRESSION = {
    "h5py": "h5py",
    "hdf5plugin": "hdf5plugin",
    "dectris": "dectris-compression",
    "msgpack": "msgpack",
    "msgspec": "msgspec",
}
"""The same for frames that come compressed; without them nothing else is lost."""

TOOL = "compute-sanitizer"
TOOL_WHEEL = "nvidia_cuda_sanitizer_api"
COLLECTION = "libsanitizer-collection.so"
"""What the tool injects; some wheels have it where the tool does not look for it."""


def missing_packages(wanted: Iterable[str] | None = None) -> list[str]:
    """Names, as in `PACKAGES`, of the modules that are not there."""
    return [name for name in wanted or PACKAGES if importlib.util.find_spec(name) is None]


def has_compression(report: Report) -> bool:
    """Whether frames can be compressed here; if not, the report says so."""
    missing = ", ".join(OF_COMPRESSION[name] for name in missing_packages(OF_COMPRESSION))
    if missing:
        report.data["no compression"] = f"missing: {missing}"
        report.line(f"compressed frames: NOT RUN, missing: {missing}")
    return not missing


def install(wheels: Path, target: Path, lines: list[str]) -> None:
    """Put what is missing and lies in *wheels* into *target*, on the path of this process and its children.

    What was done, or went wrong, is added to *lines*.
    """
    known = PACKAGES | OF_COMPRESSION
    wanted = [known[name].split()[0] for name in missing_packages(known)]
    files = sorted(wheels.glob("*.whl"))
    names = {path: path.name.split("-")[0].lower().replace("_", "-") for path in files}
    chosen = [path for path in files if names[path] in wanted or names[path] in _cupy_names(wanted)]
    if find_sanitizer() is None:
        chosen += [path for path in files if path.name.startswith(TOOL_WHEEL)][-1:]
    if not chosen:
        lines.append(f"nothing to install from {wheels}")
        return
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
        "--disable-pip-version-check", "--target", str(target), *map(str, chosen),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines.append(f"installed from {wheels}: {', '.join(path.name for path in chosen)}")
    if done.returncode:
        lines.append(f"pip failed: {done.stderr.strip()[-400:]}")
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])
    importlib.invalidate_caches()


def _cupy_names(wanted: list[str]) -> set[str]:
    return {"cupy-cuda12x", "cupy-cuda13x"} if PACKAGES["cupy"].split()[0] in wanted else set()


def find_sanitizer() -> list[str] | None:
    """The beginning of a command that runs compute-sanitizer; None if there is none."""
    roots = [
        os.environ.get("CUDA_HOME"),
        os.environ.get("CUDA_PATH"),
        *map(str, Path("/usr/local").glob("cuda*")),
    ]
    places = [Path(found) for found in [shutil.which(TOOL)] if found]
    places += [Path(root) / "bin" / TOOL for root in roots if root]
    for folder in sys.path:
        places += sorted(Path(folder or ".").glob(f"nvidia/*/bin/{TOOL}"))
    for place in places:
        if place.is_file():
            if not os.access(place, os.X_OK):
                place.chmod(0o755)  # wheels forget it
            library = place.parent.parent / "lib"
            injected = (library / COLLECTION).is_file()
            return [str(place), *(["--injection-path", str(library)] if injected else [])]
    return None
