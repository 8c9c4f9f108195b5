# SPDX-License-Identifier: GPL-3.0-or-later
"""Of two settings that look alike the right one is taken."""

import numpy as np
import pytest
from indexing.stills import candidate_of, geometry_of, make_still

from gpuidx.cell import UnitCell
from gpuidx.indexing.alternatives import pseudo_symmetric_turns
from gpuidx.indexing.cell_check import TargetCell
from gpuidx.indexing.lattices import Acceptance
from gpuidx.options import IndexOptions, IntegrationOptions

TOLERANCE = (5.0, 5.0, 5.0, 1.5, 1.5, 1.5)
PSEUDO = UnitCell(parameters=(50.2, 60.1, 50.9, 90.0, 90.4, 90.0), lattice_type="monoclinic", unique_axis="b")


@pytest.mark.parametrize(
    ("parameters", "centering", "number"),
    [
        ((50.2, 60.1, 50.9, 90, 90.4, 90), "P", 4),
        ((79, 79, 38, 90, 90, 90), "P", 1),
        ((60, 70, 80, 85, 95, 100), "P", 1),
        ((79, 79, 79.5, 90, 90, 90), "I", 3),
        ((81, 81, 142, 90, 90, 120), "H", 1),
    ],
)
def test_number_of_settings_that_look_alike(parameters, centering, number):
    cell = UnitCell(parameters=tuple(map(float, parameters)), centering=centering)
    turns = pseudo_symmetric_turns(TargetCell(cell, TOLERANCE))
    assert len(turns) == number
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)


@pytest.mark.parametrize(("n_peak", "strain"), [(60, 0.0), (20, 0.0), (60, 0.003)])
def test_axes_get_their_right_names(n_peak, strain):
    geometry = geometry_of()
    acceptance = Acceptance(geometry, PSEUDO, IndexOptions(), IntegrationOptions())
    right = 0
    for seed in range(15):
        still = make_still(geometry, PSEUDO, seed, n_peak=n_peak, strain=strain, radius=0.0012)
        candidate = candidate_of(still.axes[0], "P", seed, amount=3e-3)
        (crystal,) = acceptance.crystals(still.frame, still.peaks, [candidate])
        M = np.rint(np.linalg.inv(crystal.recip).T @ np.linalg.inv(still.axes[0]))
        # true settings: the identity, and the turn by 180 degrees about b
        right += any(np.array_equal(np.diag(signs), M) for signs in ([1, 1, 1], [-1, 1, -1]))
    assert right >= 14
