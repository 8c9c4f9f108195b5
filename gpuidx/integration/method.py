# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``--integration`` asks for."""

import re
from dataclasses import dataclass, replace

from gpuidx.errors import OptionError

_SWITCHES = {
    "cen": ("centre", True),
    "nocen": ("centre", False),
    "sat": ("saturated", True),
    "nosat": ("saturated", False),
    "grad": ("gradient", True),
    "nograd": ("gradient", False),
}


@dataclass(frozen=True, slots=True)
class Method:
    """How reflections are integrated.

    Attributes
    ----------
    profile
        Fit a profile (``prof2d``), not sum pixels (``rings``).
    centre
        Move the box to the brightest pixel (``-cen``).
    saturated
        Keep reflections with saturated pixels (``-sat``).
    gradient
        Fit a plane to the background (``-grad``), not a constant.
    """

    profile: bool = False
    centre: bool = False
    saturated: bool = False
    gradient: bool = False


_DEFAULTS = {"rings": Method(), "prof2d": Method(profile=True, centre=True)}


def parse_method(text: str) -> Method | None:
    """The method that ``--integration`` names; None for ``none``.

    Words are separated by hyphens or commas; a later one overrides an earlier one, and ``rings`` and
    ``prof2d`` set all back to their defaults (CrystFEL 0.12, behaviour of ``--integration``).

    Raises
    ------
    OptionError
        If a word is not known.
    """
    method = Method()
    for word in re.split("[-,]", text):
        if word == "none":
            return None
        if word in _DEFAULTS:
            method = _DEFAULTS[word]
        elif word in _SWITCHES:
            name, value = _SWITCHES[word]
            method = replace(method, **{name: value})
        else:
            raise OptionError(
                f"--integration={text}: '{word}' is not understood; for instance rings-nocen-nosat"
            )
    return method
