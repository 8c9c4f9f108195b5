# SPDX-License-Identifier: GPL-3.0-or-later
"""A detector of two panels, and a maker of results."""

import numpy as np
import pytest
from stream.results import GEOMETRY, make_result

from gpuidx.geometry import parse_geometry


@pytest.fixture(scope="session")
def geometry():
    return parse_geometry(GEOMETRY, "two.geom")


@pytest.fixture
def make(geometry):
    """Makes results: ``make(seed, n_peak=..., n_crystal=..., n_reflection=..., image=..., **frame)``."""
    return lambda seed=0, **choices: make_result(geometry, np.random.default_rng(seed), **choices)
