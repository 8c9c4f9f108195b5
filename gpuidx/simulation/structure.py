# SPDX-License-Identifier: GPL-3.0-or-later
"""Intensities of a made-up structure: random, but the same for a reflection whenever it is asked for."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.jit import jit
from gpuidx.lattice import rotations

SAME_METRIC = 1e-4
"""Relative difference of lengths below which a rotation of the cell is one of its lattice."""


@jit
def mixed(state: Any) -> Any:
    """Scramble 64 bits (the output function of SplitMix64; Steele, Lea, Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@jit
def structure_factors(hkl: Any, operators: Any, seed: Any) -> Any:
    """Squared structure factors without fall-off: acentric Wilson statistics, mean 1; (spot,).

    A number depends only on the class of hkl under *operators* and inversion, and on the seed
    (Wilson 1949: the intensities of acentric reflections are distributed exponentially).

    Parameters
    ----------
    hkl : (spot, 3) int32
    operators : (operator, 3, 3) int64
        hkl as a row times one of them is an equivalent reflection.
    seed
        uint64.
    """
    out = np.empty(len(hkl))
    for i in range(len(hkl)):
        key = np.int64(-(1 << 62))
        for operator in range(len(operators)):
            code = np.int64(0)
            for column in range(3):
                index = np.int64(0)
                for row in range(3):
                    index += np.int64(hkl[i, row]) * operators[operator, row, column]
                code = code * 4096 + index
            key = max(key, abs(code))
        bits = mixed(mixed(np.uint64(key) + np.uint64(0x9E3779B97F4A7C15)) ^ seed)
        uniform = (np.float64(bits >> np.uint64(11)) + 0.5) / 9007199254740992.0
        out[i] = -math.log(uniform)
    return out


def operators_of(axes: NDArray[np.float64], symmetry: str) -> NDArray[np.int64]:
    """Matrices that carry hkl (a row) to reflections of equal intensity; inversion apart."""
    if symmetry == "lattice":
        M = rotations(axes, SAME_METRIC)
        known = {m.tobytes() for m in M}
        if all((m @ n).tobytes() in known for m in M for n in M):  # else the cell is not reduced
            return np.ascontiguousarray(M.transpose(0, 2, 1), np.int64)
    return np.eye(3, dtype=np.int64)[None]
