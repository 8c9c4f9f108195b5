# SPDX-License-Identifier: GPL-3.0-or-later
"""``--integration`` is understood as CrystFEL understands it."""

import pytest

from gpuidx.errors import OptionError
from gpuidx.integration.method import Method, parse_method


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("rings", Method()),
        ("rings-nocen-nosat-nograd", Method()),
        ("rings-cen-sat-grad", Method(centre=True, saturated=True, gradient=True)),
        ("rings,cen,nocen", Method()),
        ("rings-sat-rings-grad", Method(gradient=True)),
        ("prof2d", Method(profile=True, centre=True)),
        ("prof2d-nocen-grad", Method(profile=True, gradient=True)),
        ("prof2d,rings,sat", Method(saturated=True)),
        ("none", None),
        ("rings-none", None),
    ],
)
def test_reads_words_in_their_order(text, method):
    assert parse_method(text) == method


@pytest.mark.parametrize("text", ["rings-foo", "prof3d", "", "rings-", "rings-rescut"])
def test_refuses_what_it_does_not_know(text):
    with pytest.raises(OptionError, match="not understood"):
        parse_method(text)
