# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels without a measured value: those that carry the sender's mark, and those of the series' pixel mask.

Kernels leave a pixel out by its value, if the geometry's flags say so (`Masks.rules`), or if it is NaN.  So
where there is a flagged value, bad pixels are given it, in place; else the image becomes f4 with NaN, which
costs a pass over it.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.formats.frame import without_bad
from gpuidx.formats.setting import Setting
from gpuidx.geometry.masks import ValueRules
from gpuidx.model import NO_LIMITS

MOST_EXACT = 1 << 24
"""Up to here float32 tells whole numbers apart."""


def unused_value(dtype: np.dtype[Any]) -> int | None:
    """What detectors send for a pixel without a value: the largest unsigned, the smallest signed integer."""
    if dtype.kind == "u":
        return int(np.iinfo(dtype).max)
    return int(np.iinfo(dtype).min) if dtype.kind == "i" else None


def _next_to(value: int, towards: float) -> float:
    """The float32 number next to a whole one."""
    return float(np.nextafter(np.float32(value), np.float32(towards)))


def is_flagged(value: float, rules: ValueRules) -> bool:
    """Whether kernels leave out a pixel of this value, which they read as float32."""
    read = np.float32(value)
    return bool(
        read < np.float32(rules.lessthan)
        or read > np.float32(rules.morethan)
        or np.rint(read) == np.float32(rules.equal)
    )


def flagged_value(dtype: np.dtype[Any], rules: ValueRules) -> int | None:
    """A pixel value of an integer type that kernels leave out; None if there is none."""
    if dtype.kind not in "ui":
        return None
    limits = np.iinfo(dtype)
    equal = int(rules.equal) if math.isfinite(rules.equal) else 0
    for value in (equal, int(limits.max), int(limits.min)):
        if limits.min <= value <= limits.max and is_flagged(value, rules):
            return value
    return None


class NoData:
    """Takes pixels without a value out of images.

    Parameters
    ----------
    setting
        Of the run; its notes count images that are converted, with what the geometry could say to save it.
    """

    def __init__(self, setting: Setting) -> None:
        self.masks, self.buffers, self.notes = setting.masks, setting.buffers, setting.notes

    def limits(
        self, dtype: np.dtype[Any], unused: int | None, greatest: int | None = None
    ) -> tuple[float, float] | None:
        """`Packed.limits` that leave out by value what `taken_out` would; None if none do."""
        if self.masks is None:
            return NO_LIMITS
        unused, greatest = _unknown(unused, greatest, self.masks.rules)
        low, high = NO_LIMITS
        if greatest is not None:
            if greatest > MOST_EXACT:
                return None
            high = float(greatest)
        if unused is not None:
            if dtype.kind not in "ui" or unused not in (np.iinfo(dtype).min, np.iinfo(dtype).max):
                return None
            if unused == np.iinfo(dtype).max:
                high = min(high, _next_to(unused, -np.inf))
            else:
                low = _next_to(unused, np.inf)
        return low, high

    def taken_out(
        self,
        image: NDArray[Any],
        unused: int | None,
        masked: NDArray[np.bool_] | None = None,
        greatest: int | None = None,
    ) -> NDArray[Any]:
        """The image with its bad pixels flagged or NaN.

        Parameters
        ----------
        image : (ss, fs)
            A slab; its pixels may be changed.
        unused
            Value of pixels without one, as sent; None if there is none.
        masked : (ss, fs)
            Pixels that are bad in the whole series.
        greatest
            Valid value, as the sender says; None if it does not.
        """
        if self.masks is None:
            return image
        rules, bad = self.masks.rules, self.masks.flagged(image)
        marked = _marked(image, unused, greatest, rules)
        mark = flagged_value(image.dtype, rules)
        if mark is not None:
            for some in (marked, masked):
                if some is not None:
                    np.putmask(image, some, mark)
            return without_bad(image, bad, self.buffers)
        for some in (marked, masked):
            if some is not None:
                bad = some if bad is None else bad | some
        if bad is not None and image.dtype.kind != "f" and unused is not None:
            self.notes[f"frames converted for their bad pixels; flag_equal = {unused} would save it"] += 1
        return without_bad(image, bad, self.buffers)


def _marked(
    image: NDArray[Any], unused: int | None, greatest: int | None, rules: ValueRules
) -> NDArray[np.bool_] | None:
    """Pixels whose value says that they are bad, those left out that kernels know; None if there are none."""
    found: NDArray[np.bool_] | None = None
    unused, greatest = _unknown(unused, greatest, rules)
    if greatest is not None:
        found = image > greatest
    if unused is not None:
        equal = image == unused
        found = equal if found is None else found | equal
    return found if found is not None and found.any() else None


def _unknown(unused: int | None, greatest: int | None, rules: ValueRules) -> tuple[int | None, int | None]:
    """The same two without what kernels know, or what goes without saying."""
    if greatest is not None and unused is not None and 0 <= unused - greatest <= 1:
        greatest = None  # nothing but the unused value is above it
    is_above = greatest is not None and unused is not None and unused > greatest
    is_seen = unused is None or is_above or is_flagged(unused, rules)
    is_limited = greatest is None or rules.morethan <= greatest
    return None if is_seen else unused, None if is_limited else greatest
