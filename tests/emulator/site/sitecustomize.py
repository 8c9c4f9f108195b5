# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by Python at the start of each process of a test that pretends a device; see `emulator.program`.

It must be quick and must not disturb: what was to run under this name otherwise runs first.
"""

import importlib.machinery
import importlib.util
import json
import os
import sys


def _run_next():
    """Run the ``sitecustomize`` that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded yet
    path = [folder for folder in sys.path if os.path.abspath(folder) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _install():
    """Install the device with the settings of the environment."""
    tests = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    sys.path.insert(0, tests)
    try:
        from emulator import pretended_cuda
    finally:
        sys.path.remove(tests)
    pretended_cuda.install(**json.loads(os.environ["GPUIDX_PRETENDED_CUDA"]))


_run_next()
if "GPUIDX_PRETENDED_CUDA" in os.environ:
    try:
        _install()
    except BaseException:  # Python would go on without the device, and the test would test something else
        import traceback

        traceback.print_exc()
        os._exit(1)
