# SPDX-License-Identifier: GPL-3.0-or-later
"""Small geometry files, and what reading them gives."""

import pytest

from gpuidx.errors import GeometryError
from gpuidx.geometry import parse_geometry

TOP = """photon_energy = 9000 eV
clen = 0.08
res = 10000
adu_per_photon = 1
"""


def panel(name="p0", x=0, y=0, width=20, height=10, **fields):
    """Lines of a panel at pixels (x, y) of the data array; a field of None is left out."""
    lines = {
        "min_fs": x,
        "max_fs": x + width - 1,
        "min_ss": y,
        "max_ss": y + height - 1,
        "corner_x": -5.5,
        "corner_y": -3.5,
        "fs": "+1.0x",
        "ss": "+1.0y",
        **fields,
    }
    return "".join(f"{name}/{key} = {value}\n" for key, value in lines.items() if value is not None)


ONE = TOP + panel()
TWO = TOP + panel("a") + panel("b", y=10, corner_y=20)


def read(text):
    return parse_geometry(text, "t.geom")


def refusal(text):
    """All errors of a text that must be refused."""
    with pytest.raises(GeometryError) as caught:
        read(text)
    return str(caught.value)


def warnings_of(text):
    return "\n".join(read(text).warnings)
