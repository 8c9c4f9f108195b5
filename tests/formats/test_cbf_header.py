# SPDX-License-Identifier: GPL-3.0-or-later
"""Header lines of mini-CBF."""

import pytest

from gpuidx.formats.cbf_header import binary_fields, header_values


def test_header_lines_of_any_form_are_read():
    text = (
        "###CBF: VERSION 1.5\n# Flux\n#Key=5\n# 2019-09-11T13:20:28.989\n# a 1\n# a 2\n# big "
        + "1" * 60
        + "\n"
        "# half .5\n# exp -1e3 x\n# nan nan\n# under 1_0\n# Beam_xy (x, 2\n"
        "# dotted.name-2 : 7 8\nb 3\n#\n# \n"
        "# Energy_range (0, 0) eV\n# Pixel_size 172e-6 m x 172e-6 m\n"
    )
    assert header_values(text) == {
        "Key": 5, "a": 1, "big": "1" * 60, "half": 0.5, "exp": -1000.0, "nan": "nan", "under": "1_0",
        "Beam_xy": "(x, 2", "dotted.name-2": 7, "Energy_range": "(0, 0) eV", "Pixel_size": 172e-6,
    }  # fmt: skip


@pytest.mark.parametrize("line", ["# a" + " " * 250_000, "# " + "1" * 250_000, "# b " + "1" * 250_000,
                                  "# c_xy (" + "1" * 250_000, "conversions" + " " * 250_000])  # fmt: skip
@pytest.mark.timeout(5)
def test_long_lines_take_no_time(line):
    header_values(line)
    binary_fields(line)
