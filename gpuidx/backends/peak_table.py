# SPDX-License-Identifier: GPL-3.0-or-later
"""The last step of the peak search, the same for every backend: columns of numbers to a `PeakList`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.model import PeakList


def unsaturated(
    highest: NDArray[np.float32], saturated: NDArray[Any], panel: NDArray[Any], max_adu: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which peaks stay with ``--no-use-saturated``; (peak,).

    Those go that are above ``max_adu`` without their background, as in CrystFEL 0.12, or have a pixel above
    the saturation map, which CrystFEL does not look at here.

    Parameters
    ----------
    highest, saturated, panel : (peak,)
        Largest value above the background, ADU; not 0 for a pixel above the map; panel number.
    max_adu : (panel,)
        ADU.
    """
    keep: NDArray[np.bool_] = (highest <= max_adu[panel.astype(np.intp)]) & (saturated == 0)
    return keep


def peak_list(
    fs: NDArray[np.float32], ss: NDArray[np.float32], panel: NDArray[Any], intensity: NDArray[np.float32]
) -> PeakList:
    """Columns as the search found them, (peak,), as a list; positions are pixel indices.

    Half a pixel is added in double precision, as in CrystFEL.
    """
    return PeakList(
        fs=fs.astype(np.float64) + 0.5,
        ss=ss.astype(np.float64) + 0.5,
        panel=panel.astype(np.int32),
        intensity=intensity.astype(np.float64),
    )


def strongest_first(intensity: NDArray[Any]) -> NDArray[np.intp]:
    """Order of falling intensity, equal ones as they came, NaN last."""
    return np.argsort(-intensity, kind="stable")
