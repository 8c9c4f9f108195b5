# SPDX-License-Identifier: GPL-3.0-or-later
"""A small detector whose panels are turned and tilted, and a cell."""

import pytest

from gpuidx.cell import parse_cell
from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.settings import FrameSettings

TILTED = """
photon_energy = 9000 eV
clen = 0.06
adu_per_photon = 2
res = 10000
data = image
left/min_fs = 0
left/max_fs = 199
left/min_ss = 0
left/max_ss = 299
left/corner_x = -210
left/corner_y = -150
left/fs = +0.97x +0.2431z
left/ss = y
right/min_fs = 200
right/max_fs = 399
right/min_ss = 0
right/max_ss = 299
right/corner_x = 10
right/corner_y = 150
right/fs = +0.98x -0.198997z
right/ss = -y
right/adu_per_photon = 10
"""


@pytest.fixture(scope="session")
def cell():
    return parse_cell(LYSOZYME, "lysozyme.cell")


@pytest.fixture(scope="session")
def tilted():
    return parse_geometry(TILTED, "tilted.geom")


@pytest.fixture(scope="session")
def four():
    """The built-in detector, small."""
    return parse_geometry(default_geometry(256), "four.geom")


@pytest.fixture(scope="session")
def dark():
    """Settings without background."""
    return FrameSettings(background=(0.0, 0.0), photons=500.0)
