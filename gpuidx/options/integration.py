# SPDX-License-Identifier: GPL-3.0-or-later
"""Prediction and integration."""

import math
from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.values import INTEGRATION, numbers


@dataclass(frozen=True, kw_only=True)
class IntegrationOptions:
    """Prediction and integration."""

    integration: str = option(
        "rings-nocen-nosat-nograd", group=INTEGRATION, metavar="METHOD",
        help="none, or rings or prof2d with -cen, -sat, -grad or their opposites -nocen, -nosat, -nograd",
    )  # fmt: skip
    fix_profile_radius: float | None = option(
        None, group=INTEGRATION, metavar="R", help="profile radius in m⁻¹ instead of that of the peaks"
    )
    fix_divergence: float = option(
        0.0,
        group=INTEGRATION,
        metavar="RAD",
        help="beam divergence, for the stream only; a negative one is 0",
    )
    int_radius: tuple[float, ...] = option(
        (4.0, 5.0, 7.0), group=INTEGRATION, metavar="R1,R2,R3", type=numbers(3),
        help="radii of the peak and of its background ring, px",
    )  # fmt: skip
    push_res: float = option(
        math.inf, group=INTEGRATION, metavar="NM-1", type=float,
        help="integrate this far beyond the resolution limit of the frame, nm⁻¹",
    )  # fmt: skip
    overpredict: bool = option(False, group=INTEGRATION, help="predict with five times the profile radius")
    cell_parameters_only: bool = option(False, group=INTEGRATION, help="no prediction, no integration")
