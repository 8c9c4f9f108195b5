# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA without a GPU: kernels on the CPU, a pretended device for CuPy, NVIDIA's compiler as a check.

README.md says how to write a test with it.  This module imports nothing: `site/sitecustomize.py` loads the
package in every process of a test that pretends a device.
"""


def need(*things):
    """Skip the running test, or the module at its import, where one of *things* is missing.

    Where the environment has ``CI=true`` it fails instead: what is checked there must not shrink unseen.

    Parameters
    ----------
    things
        ``"g++"``, ``"cupy"``, ``"nvrtc"`` (any), ``"nvrtc 12"``, ``"nvrtc 13"``.
    """
    import os

    import pytest

    missing = [reason for reason in map(_missing, things) if reason]
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("; ".join(missing), pytrace=False)
    pytest.skip("; ".join(missing), allow_module_level=True)


def _missing(thing):
    """Why *thing* cannot be used; empty where it can."""
    import importlib.util
    import shutil

    from emulator import nvrtc_check, toolchain

    name, _, major = thing.partition(" ")
    if name == "g++":
        return "" if shutil.which(toolchain.CXX) else f"no compiler {toolchain.CXX}"
    if name == "cupy":
        return "" if importlib.util.find_spec("cupy") else "CuPy is not installed"
    if name == "nvrtc":
        found = nvrtc_check.find_nvrtc(int(major) if major else None)
        return "" if found else f"no NVRTC {major}".rstrip()
    raise ValueError(f"need() does not know {thing!r}")
