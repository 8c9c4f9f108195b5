# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiling kernels ahead of a run, into CuPy's cache."""

from gpuidx.backends.cuda import pixels, trial_tables
from gpuidx.backends.cuda.axes_search import AXES_FILE, BANDS_FILE
from gpuidx.backends.cuda.kernels import Kernels
from gpuidx.backends.cuda.peakfinder8 import FEW, FILE, MANY, defines
from gpuidx.backends.cuda.trial_directions import DIRECTIONS_FILE, VECTORS_FILE
from gpuidx.backends.cuda.trials import CELLS_FILE, ORIENTATIONS_FILE
from gpuidx.options import PeakOptions


def compile_ahead(device: int) -> int:
    """Compile what runs with the usual options need on a device; gives the number of variants.

    A run with ``--peakfinder8-fast`` or ``--max-pix-count`` above the default compiles its own.
    """
    import cupy

    cupy.cuda.Device(device).use()
    variants = [(p, lanes, rules) for p in pixels.TYPES for lanes in (FEW, MANY) for rules in (False, True)]
    for pixel, lanes, has_rules in variants:
        Kernels(FILE, pixel, defines(PeakOptions(), lanes, has_rules=has_rules)).compile()
    widths = ("u1", "u2", "u4")
    for width in widths:
        Kernels(pixels.FILE, width, pixels.defines()).compile()
    of_trials = (VECTORS_FILE, DIRECTIONS_FILE, ORIENTATIONS_FILE, CELLS_FILE, BANDS_FILE, AXES_FILE)
    for file in of_trials:
        Kernels(file, None, trial_tables.defines()).compile()
    return len(variants) + len(widths) + len(of_trials)
