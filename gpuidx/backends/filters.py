# SPDX-License-Identifier: GPL-3.0-or-later
"""``--median-filter`` and ``--filter-noise``: what is done to an image before its peaks are looked for.

Only searches, and the check of supplied peaks, see what comes out; everything else takes the image as it
was sent.  Which pixels are bad is settled before: the geometry's rules are for values as they were sent.
CrystFEL 0.12, behaviour of ``filter_median`` and ``filter_noise``; the median by a window that slides (Huang,
Yang & Tang 1979, IEEE Trans. ASSP 27, 13), here without a histogram.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.values import Rules, float32_rules, is_bad
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks, ValueRules
from gpuidx.jit import jit
from gpuidx.options import PeakOptions

NO_RULES = float32_rules(ValueRules())

ABSENT = np.int32(np.iinfo(np.int32).max)
"""Stands in a window for what is not there: beyond the panel, or without a value."""

SIGN = np.int32(0x7FFFFFFF)


class Filters:
    """The filters of a run; owns the buffers that it gives, which hold until the next image.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    """

    def __init__(self, geometry: Geometry, options: PeakOptions, masks: Masks) -> None:
        self._radius, self._noise = options.median_filter, options.filter_noise
        self._rules = float32_rules(masks.rules)
        self._rect = np.array([(p.slab_x, p.slab_y, p.width, p.height) for p in geometry.panels], np.int32)
        self._values = np.zeros(geometry.slab_shape, np.float32)
        self._flagged = np.zeros(geometry.slab_shape, np.bool_)
        side = 2 * self._radius + 1
        self._strip = np.empty((int(self._rect[:, 2].max()), side), np.int32)

    @classmethod
    def wanted(cls, geometry: Geometry, options: PeakOptions, masks: Masks) -> "Filters | None":
        """The filters that the options ask for; None without any."""
        return cls(geometry, options, masks) if options.filters else None

    def values(self, image: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_], Rules]:
        """A slab filtered, bad pixels included.

        Parameters
        ----------
        image : (ss, fs)
            As sent.

        Returns
        -------
        values, flagged : (ss, fs)
            ADU; whether the value that was sent says that the pixel is bad.
        rules
            For the filtered values: none.
        """
        for panel in range(len(self._rect)):
            _take_panel(image, self._rect[panel], self._rules, self._values, self._flagged)
            if self._radius > 0:
                _subtract_median(self._values, self._rect[panel], self._radius, self._strip)
            if self._noise:
                _silence(self._values, self._rect[panel])
        return self._values, self._flagged, NO_RULES

    def image(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """A slab filtered, with NaN where pixels are bad by the values that were sent; no rules apply."""
        values, flagged, _ = self.values(image)
        values[flagged] = np.nan
        return values


@jit
def _take_panel(
    image: NDArray[Any],
    rect: NDArray[np.int32],
    rules: Rules,
    values: NDArray[np.float32],
    flagged: NDArray[np.bool_],
) -> None:
    """Copy a panel, and note which of its pixels are bad by value."""
    for ss in range(rect[1], rect[1] + rect[3]):
        for fs in range(rect[0], rect[0] + rect[2]):
            value = np.float32(image[ss, fs])
            values[ss, fs] = value
            flagged[ss, fs] = is_bad(value, rules) or np.isnan(value)


@jit
def _subtract_median(
    values: NDArray[np.float32], rect: NDArray[np.int32], radius: int, strip: NDArray[np.int32]
) -> None:
    """Take off each pixel of a panel the median of the square around it, as far as it is on the panel.

    Of an even number of values the median is the upper one of the middle.  Pixels that are NaN are left out
    of the squares of others; with them CrystFEL's median is arbitrary.

    Parameters
    ----------
    values : (ss, fs)
        A row is changed when all squares that need it are past.
    strip : (fs, 2 radius + 1)
        Room for the columns of the squares of one row.
    """
    x0, y0, n_fs, n_ss = rect[0], rect[1], rect[2], rect[3]
    side = 2 * radius + 1
    strip[:n_fs] = ABSENT
    present = np.zeros(n_fs, np.int64)
    bits = np.empty(1, np.float32)
    for ss in range(-radius, n_ss):
        new = ss + radius
        for fs in range(n_fs):
            place = new % side
            present[fs] -= strip[fs, place] != ABSENT
            strip[fs, place] = ABSENT
            if new < n_ss:
                bits[0] = values[y0 + new, x0 + fs]
                strip[fs, place] = _as_integer(bits)
            present[fs] += strip[fs, place] != ABSENT
        if ss >= 0:
            _subtract_medians_of_row(strip[:n_fs], present, radius, bits, values[y0 + ss, x0 : x0 + n_fs])


@jit
def _as_integer(bits: NDArray[np.float32]) -> np.int32:
    """A number in the order of the float32 in *bits*; `ABSENT` for NaN."""
    number = bits.view(np.int32)[0]
    if np.isnan(bits[0]):
        return ABSENT
    return number if number >= 0 else np.int32(number ^ SIGN)


@jit
def _subtract_medians_of_row(
    strip: NDArray[np.int32],
    present: NDArray[np.int64],
    radius: int,
    bits: NDArray[np.float32],
    row: NDArray[np.float32],
) -> None:
    """Slide the square along a row: most of it stays, and the median is near the one before.

    Known of the square all along: how many numbers are below the median, and how many equal it.
    """
    n_fs = len(row)
    median, n, below, equal = np.int32(0), 0, 0, 0
    for fs in range(min(radius, n_fs)):
        n += present[fs]
        below += _count_below(strip[fs], median)
        equal += _count_equal(strip[fs], median)
    for fs in range(n_fs):
        if fs + radius < n_fs:
            n += present[fs + radius]
            below += _count_below(strip[fs + radius], median)
            equal += _count_equal(strip[fs + radius], median)
        if fs - radius > 0:
            n -= present[fs - radius - 1]
            below -= _count_below(strip[fs - radius - 1], median)
            equal -= _count_equal(strip[fs - radius - 1], median)
        if n == 0:
            continue
        square = strip[max(fs - radius, 0) : min(fs + radius + 1, n_fs)].reshape(-1)
        while below > n // 2:
            median = _next_below(square, median)
            equal = _count_equal(square, median)
            below -= equal
        while below + equal <= n // 2:
            median = _next_above(square, median)
            below += equal
            equal = _count_equal(square, median)
        bits.view(np.int32)[0] = median if median >= 0 else np.int32(median ^ SIGN)
        row[fs] -= bits[0]


@jit
def _count_below(numbers: NDArray[np.int32], limit: np.int32) -> int:
    n = 0
    for k in range(len(numbers)):  # by index, so that it is done many at a time
        n += numbers[k] < limit
    return n


@jit
def _count_equal(numbers: NDArray[np.int32], limit: np.int32) -> int:
    n = 0
    for k in range(len(numbers)):
        n += numbers[k] == limit
    return n


@jit
def _next_below(numbers: NDArray[np.int32], limit: np.int32) -> np.int32:
    """The greatest number below a limit, of which there is one."""
    nearest = np.int32(-ABSENT)
    for k in range(len(numbers)):
        nearest = max(nearest, numbers[k] if numbers[k] < limit else np.int32(-ABSENT))
    return nearest


@jit
def _next_above(numbers: NDArray[np.int32], limit: np.int32) -> np.int32:
    """The least number above a limit, of which there is one."""
    nearest = ABSENT
    for k in range(len(numbers)):
        nearest = min(nearest, numbers[k] if numbers[k] > limit else ABSENT)
    return nearest


@jit
def _silence(values: NDArray[np.float32], rect: NDArray[np.int32]) -> None:
    """Make a panel 0 but for its border, which becomes 0 where it is negative.

    CrystFEL's manual says that a pixel becomes 0 if one of its neighbours is negative.  What its filter does
    is to make 0 what has a neighbour that is not 0, itself included, and that is everything.
    """
    x0, y0, n_fs, n_ss = rect[0], rect[1], rect[2], rect[3]
    for ss in range(n_ss):
        for fs in range(n_fs):
            inside = 0 < fs < n_fs - 1 and 0 < ss < n_ss - 1
            if inside or values[y0 + ss, x0 + fs] < 0:
                values[y0 + ss, x0 + fs] = 0
