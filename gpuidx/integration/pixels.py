# SPDX-License-Identifier: GPL-3.0-or-later
"""Pixels about a spot: which belong to its disc, to the ring of background, to neither; sums over them.

Pixels are addressed in the flat slab by unsigned numbers: signed ones cost a test for negative values
each.  Loops take the arrays out of `Pixels` first: within them that would count references for every
pixel (20 times slower, measured).  A table has one row a pixel of a box, with the columns `D_FS`, `D_SS`,
`STEP` and `MOST`.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.jit import jit

D_FS, D_SS, STEP, MOST = range(4)
"""Columns of a table: steps from the centre along fs and ss, the same in the flat slab, and the number
of spots whose discs may hold the pixel; in more of them it is left out."""

Table = NDArray[np.int64]
Rules = tuple[float, float, float]


class Pixels(NamedTuple):
    """The pixels of one frame, and what makes them bad or saturated.

    Attributes
    ----------
    image : (pixel,)
        The slab, flat.
    mask : (pixel,)
        True = bad.
    counts : (pixel,) int16
        In the discs of how many spots it is.
    rules
        Values that make a pixel bad: less than, more than, equal; see `value_rules`.
    limits : (pixel,) or (0,) float32
        Value above which a pixel is saturated; empty if the geometry has no such map.
    """

    image: NDArray[Any]
    mask: NDArray[np.bool_]
    counts: NDArray[np.int16]
    rules: Rules
    limits: NDArray[np.float32]


class Tables(NamedTuple):
    """The pixels of a box: disc, ring, all of it in raster order, and the disc that is marked.

    Attributes
    ----------
    disc, ring, box, mark : (pixel, 4)
        Tables.
    half
        The box has 2·half + 1 pixels along each side.
    """

    disc: Table
    ring: Table
    box: Table
    mark: Table
    half: int


class Sums(NamedTuple):
    """Number, sum and greatest of the good pixels of a table, and how many are bad."""

    number: int
    total: float
    highest: float
    bad: int


def box_tables(radii: tuple[float, ...], width: int) -> Tables:
    """Tables for three radii in px, and a slab of a width in pixels.

    Radii are cut to whole pixels, but for the disc that is marked (CrystFEL 0.12, behaviour of
    ``--int-radius``).
    """
    inner, middle, outer = (int(radius) for radius in radii)
    d_ss, d_fs = np.mgrid[-outer : outer + 1, -outer : outer + 1]
    distance = d_fs**2 + d_ss**2
    in_ring = (distance >= middle**2) & (distance <= outer**2)
    in_disc = (distance <= inner**2) & ~in_ring
    box = np.stack([d_fs, d_ss, d_ss * width + d_fs, in_disc], axis=-1).astype(np.int64)
    return Tables(
        disc=np.ascontiguousarray(box[in_disc]),
        ring=np.ascontiguousarray(box[in_ring]),
        box=np.ascontiguousarray(box.reshape(-1, 4)),
        mark=np.ascontiguousarray(box[distance <= radii[0] ** 2]),
        half=outer,
    )


def value_rules(lessthan: float, morethan: float, equal: float) -> Rules:
    """Rules for `Pixels`: so narrow that infinity is bad without a test of its own.

    −inf, inf and NaN stand for a rule that the geometry does not have.
    """
    largest = float(np.finfo(np.float32).max)
    return max(lessthan, -largest), min(morethan, largest), equal


@jit
def mark_discs(
    counts: NDArray[np.int16],
    position: NDArray[np.float64],
    panel: NDArray[np.int32],
    rect: NDArray[np.int32],
    width: int,
    mark: Table,
    step: int,
) -> None:
    """Add *step* to the pixels of the spots' discs; called again with −1 it cleans up.

    So no map as large as the frame has to be cleared for each frame.

    Parameters
    ----------
    counts : (pixel,)
        Changed.
    position, panel : (spot, 2), (spot,)
        fs and ss within the panel, px.
    rect : (panel, 4)
        As in `Detector`.
    width
        Of the slab.
    mark
        Table.
    """
    for spot in range(len(position)):
        place = rect[panel[spot]]
        for row in range(len(mark)):
            fs, ss = int(position[spot, 0] + mark[row, D_FS]), int(position[spot, 1] + mark[row, D_SS])
            if 0 <= fs < place[2] and 0 <= ss < place[3]:
                counts[np.uint64((place[1] + ss) * width + place[0] + fs)] += step


@jit
def is_bad(masked: bool, value: float, rules: Rules) -> bool:
    """Whether a pixel must not be used, by the mask or by its value alone."""
    lessthan, morethan, equal = rules
    if masked or not (lessthan <= value <= morethan):
        return True
    return abs(value - equal) <= 0.5 and np.rint(value) == equal


@jit
def sum_pixels(pixels: Pixels, table: Table, centre: int, values: NDArray[np.float64]) -> Sums:
    """Sums over the pixels of a table about a pixel of the flat slab.

    Values are rounded to float32 first, as CrystFEL holds them.  Those of the good pixels are also written
    to *values* (pixel,), for a second pass.
    """
    image, mask, counts, rules = pixels.image, pixels.mask, pixels.counts, pixels.rules
    number, total, highest, bad = 0, 0.0, -math.inf, 0
    for row in range(len(table)):
        at = np.uint64(centre + table[row, STEP])
        value = float(np.float32(image[at]))
        if is_bad(mask[at], value, rules):
            bad += 1
        elif counts[at] <= table[row, MOST]:
            values[number] = value
            number += 1
            total += value
            highest = max(highest, value)
    return Sums(number, total, highest, bad)


@jit
def variance(values: NDArray[np.float64], mean: float) -> float:
    """Mean squared deviation from the mean: a second pass, so a high background cancels nothing."""
    total = 0.0
    for value in values:
        total += (value - mean) ** 2
    return total / len(values)


@jit
def is_saturated(pixels: Pixels, table: Table, centre: int) -> bool:
    """Whether a used pixel is above its own limit in the saturation map."""
    image, mask, counts, rules = pixels.image, pixels.mask, pixels.counts, pixels.rules
    limits = pixels.limits
    for row in range(len(table)):
        at = np.uint64(centre + table[row, STEP])
        value = float(np.float32(image[at]))
        if value > limits[at] and counts[at] <= table[row, MOST] and not is_bad(mask[at], value, rules):
            return True
    return False
