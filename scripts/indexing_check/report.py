# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on bars, which are remembered, and times for tables."""

from collections.abc import Iterable

import numpy as np

MISSED: list[str] = []
"""What was missed so far."""


def bar(what: str, holds: bool) -> str:
    """A word for the table; what is missed is remembered."""
    if not holds:
        MISSED.append(what)
    return "ok" if holds else "MISSED"


def percentiles(ms: Iterable[float], *percent: float) -> str:
    """Of the times of lists; "-" where a time means nothing (NaN)."""
    values = np.array(list(ms))
    if np.isnan(values).any():
        return "-"
    return " / ".join(f"{value:.2f}" for value in np.percentile(values, percent))
