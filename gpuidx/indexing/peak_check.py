# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a lattice explains enough of the peaks.  CrystFEL 0.12, behaviour of ``--check-peaks``."""

import numpy as np
from numpy.typing import NDArray

SINGLE_SHARE = 0.5
MULTI_ALWAYS = 70
MULTI_MANY, MULTI_SHARE_OF_MANY = 25, 0.3
MULTI_SHARE = 0.4

TRIES = 6
FEWEST_TO_SHORTEN = 6
WEAKEST_SHARE = 10
"""A further try leaves out one peak in so many."""


def is_enough(n_explained: int, n_peak: int, multi: bool) -> bool:
    """Whether a lattice that explains so many of the peaks is taken."""
    if multi:
        return (
            n_explained > MULTI_ALWAYS
            or (n_explained > MULTI_MANY and n_explained > MULTI_SHARE_OF_MANY * n_peak)
            or n_explained > MULTI_SHARE * n_peak
        )
    return n_peak > 0 and n_explained / n_peak >= SINGLE_SHARE


def list_lengths(n_peak: int, retry: bool) -> list[int]:
    """How many peaks, strongest first, CrystFEL's tries have: all, then each time 10 % fewer."""
    lengths = [n_peak]
    while retry and len(lengths) < TRIES:
        weakest = lengths[-1] // WEAKEST_SHARE
        if lengths[-1] < FEWEST_TO_SHORTEN or weakest == 0:
            break
        lengths.append(lengths[-1] - weakest)
    return lengths


def passes(explained: NDArray[np.bool_], intensity: NDArray[np.float64], multi: bool, retry: bool) -> bool:
    """Whether a lattice explains enough of the peaks, or with *retry* of the stronger ones.

    In CrystFEL a lattice that explains too few is looked for again among fewer peaks, up to five times.
    Here it is known already, so only the share is taken again.

    Parameters
    ----------
    explained : (peak,)
        Whether the lattice explains each peak.
    intensity : (peak,)
        Decides which peaks are the weakest.
    """
    strongest_first = np.argsort(-intensity, kind="stable")
    number = np.cumsum(explained[strongest_first])
    return any(
        is_enough(int(number[length - 1]), length, multi)
        for length in list_lengths(len(explained), retry)
        if length > 0
    )
