# SPDX-License-Identifier: GPL-3.0-or-later
"""How a pixel's value is read: as float32, and as NaN if the value itself says that the pixel is bad.

A NaN fails every comparison, so it is neither above nor below a limit and counts nowhere; nobody has to ask
for a mask once a value has been read.  For masks that do not depend on values see `gpuidx.geometry.masks`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.masks import ValueRules
from gpuidx.jit import jit
from gpuidx.model import PIXEL_TYPES

NAN = np.float32(np.nan)
LARGEST = np.finfo(np.float32).max
SMALLEST = np.finfo(np.float32).smallest_normal


class Rules(NamedTuple):
    """Values that mean "bad in this frame": below, above, or equal when rounded; float32, ADU.

    The first two are finite, so that infinite pixels are bad; *equal* is NaN for no rule.
    """

    lessthan: np.float32
    morethan: np.float32
    equal: np.float32


def float32_rules(rules: ValueRules) -> Rules:
    """The rules of a geometry, for kernels."""
    return Rules(
        max(np.float32(rules.lessthan), -LARGEST),
        min(np.float32(rules.morethan), LARGEST),
        np.float32(rules.equal),
    )


def check_image(image: NDArray[Any], shape: tuple[int, int], types: Sequence[str] = PIXEL_TYPES) -> None:
    """Refuse what kernels are not compiled for: another kind of array would be compiled in mid-run.

    Raises
    ------
    TypeError
        If the image is not a slab as `Frame` promises: other shape, dtype or memory layout.
    """
    flags = image.flags
    if image.shape != shape or image.dtype.str[1:] not in types or not image.dtype.isnative:
        raise TypeError(f"image is {image.dtype} {image.shape}; the slab is {shape}, one of {types}")
    if not (flags.c_contiguous and flags.writeable and flags.aligned):
        raise TypeError("image must be C-contiguous, writable and aligned")


@jit
def is_bad(value: np.float32, rules: Rules) -> bool:
    """Whether a value says that its pixel is bad; False for NaN, which speaks for itself.

    As in CrystFEL 0.12 a value is rounded before it is compared with ``flag_equal``, half to even.
    """
    return bool((value < rules.lessthan) | (value > rules.morethan) | (np.rint(value) == rules.equal))


@jit
def value_of(image: NDArray[Any], pixel: int, rules: Rules) -> np.float32:
    """Value of a pixel of the flat slab; NaN if it is bad in this frame."""
    value = np.float32(image[pixel])
    return NAN if is_bad(value, rules) else value


@jit
def drop_bad(values: NDArray[np.float32], rules: Rules) -> None:
    """Put NaN in place of values that say that their pixel is bad."""
    for k in range(len(values)):
        if is_bad(values[k], rules):
            values[k] = NAN
