# SPDX-License-Identifier: GPL-3.0-or-later
"""The pretended device in a program of its own and in all processes that it starts."""

import json
import os
from pathlib import Path

from emulator import pretended_cuda
from emulator.toolchain import CXX, cache_folder

SITE = Path(__file__).resolve().parent / "site"
VARIABLE = "GPUIDX_PRETENDED_CUDA"


def environment(order="lazy", check=False, nvrtc="pretended", **settings):
    """Environment variables that give a program the pretended device.

    They go on top of others: ``subprocess.run(..., env=os.environ | environment(devices=2))``.  All that the
    program needs is built before this returns.  A program without these variables has CuPy, but no driver.

    Parameters
    ----------
    order, check, nvrtc, settings
        As for `pretended_cuda.install` and `pretended_cuda.Device.set`; they hold in each process for itself,
        so with ``lose_after=5`` each loses its device at its sixth kernel, with ``lose_once`` only the first.

    Returns
    -------
    dict[str, str]
        PYTHONPATH, with what it was at its end, and what else is needed.
    """
    pretended_cuda.refuse_unknown(settings)
    pretended_cuda.build_all()
    wanted = {"order": order, "check": check, "nvrtc": nvrtc} | {
        name: os.fspath(value) if isinstance(value, Path) else value for name, value in settings.items()
    }
    before = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([str(SITE)] + ([before] if before else [])),
        VARIABLE: json.dumps(wanted),
        pretended_cuda.DRIVER_VARIABLE: str(pretended_cuda.driver_path()),
        "CUDA_ON_CPU_CACHE": str(cache_folder()),
        "CXX": CXX,
    }
