# SPDX-License-Identifier: GPL-3.0-or-later
"""What the usual run of the tests leaves out because it takes long and says little new: marked ``thorough``.

``scripts/test -m thorough -n auto`` runs what is left out.
"""

from collections.abc import Iterable
from typing import Any

import pytest

thorough = pytest.mark.thorough


def sample(values: Iterable[Any], every: int) -> list[Any]:
    """Values of a parameter, of which the usual run takes the first and then one of so many."""
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=thorough if number % every else ()
        )
        for number, value in enumerate(values)
    ]
