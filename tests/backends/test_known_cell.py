# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of a known cell."""

import time

import numpy as np
import pytest

from gpuidx.backends.constants import SCAN_CYCLES, STEP, TURN_CYCLES
from gpuidx.backends.known_cell import KnownCell, direction_grids
from gpuidx.cell import UnitCell, cell_parameters
from gpuidx.errors import BackendError
from gpuidx.lattice import rotations
from gpuidx.simulation.peaklists import EXPERIMENTS

# name: reduced lengths, angles up to supplements in pairs, volume, rotations at 0.02 and 1e-3,
# (order of the stabiliser, signs to try) of each anchor
EXPECTED = {
    "lyso": ((38.00, 79.00, 79.00), (90, 90, 90), 237158.0, 8, 8, [(4, 1), (2, 1), (2, 1)]),
    "thau": ((58.50, 58.50, 151.50), (90, 90, 90), 518470.9, 8, 8, [(2, 1), (2, 1), (4, 1)]),
    "psi": ((165.00, 281.00, 281.00), (60, 90, 90), 11283068.3, 12, 12, [(6, 1), (2, 1), (2, 1)]),
    "insu": ((68.33, 68.33, 68.33), (109.47, 70.53, 70.53), 245584.5, 24, 24, [(3, 1), (3, 1), (3, 1)]),
    "mono": ((44.30, 50.38, 64.20), (74.33, 90.00, 63.92), 122737.4, 2, 2, [(2, 2), (1, 2), (1, 1)]),
    "p1": ((60.00, 70.00, 80.00), (85, 95, 100), 328746.8, 1, 1, [(1, 2), (1, 2), (1, 2)]),
    "rhod": ((61.00, 91.00, 151.00), (90, 90, 90), 838201.0, 4, 4, [(2, 1), (2, 1), (2, 1)]),
    "cys": ((5.43, 8.12, 12.19), (90, 90, 90), 537.5, 4, 4, [(2, 1), (2, 1), (2, 1)]),
    "ferr": ((127.99, 127.99, 127.99), (60, 60, 60), 1482435.2, 24, 24, [(2, 1), (2, 1), (2, 1)]),
    "rhom": ((34.00, 48.96, 48.96), (114.81, 76.62, 76.62), 66803.0, 6, 6, [(3, 1), (1, 1), (1, 1)]),
    "pseu": ((50.20, 50.90, 60.10), (90, 90, 90.4), 153562.6, 4, 2, [(2, 1), (2, 1), (2, 1)]),
    "long": ((52.00, 60.00, 380.00), (90, 90, 90), 1185600.0, 4, 4, [(2, 1), (2, 1), (2, 1)]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_reduced_cells_and_symmetries_are_as_tabulated(name):
    lengths, angles, volume, n_near, n_true, anchors = EXPECTED[name]
    known = KnownCell(EXPERIMENTS[name].cell)
    parameters = cell_parameters(known.reduced)
    assert parameters[:3] == pytest.approx(lengths, abs=0.005)
    assert np.abs(np.array(parameters[3:]) - 90) == pytest.approx(np.abs(np.array(angles) - 90), abs=0.006)
    hand = [np.prod(np.cos(np.radians(each))) for each in (parameters[3:], angles)]
    assert hand[0] == pytest.approx(hand[1], abs=1e-4)
    assert np.linalg.det(known.reduced) == pytest.approx(volume, abs=0.05)
    assert len(known.rotations) == n_near
    assert len(rotations(known.reduced, 1e-3)) == n_true
    assert [(s, 1 + p) for s, p in zip(known.stabiliser, known.tables.polar, strict=True)] == anchors


@pytest.mark.parametrize("name", EXPECTED)
def test_local_rows_are_the_reduced_rows_turned(name):
    known = KnownCell(EXPERIMENTS[name].cell)
    for anchor, local in enumerate(known.tables.local):
        rows = known.reduced[[anchor, (anchor + 1) % 3, (anchor + 2) % 3]]
        np.testing.assert_allclose(local @ local.T, rows @ rows.T, rtol=1e-9, atol=1e-6)
        assert np.linalg.det(local) > 0
        np.testing.assert_allclose(local[0, :2], 0, atol=1e-9)
        np.testing.assert_allclose(local[1, 1], 0, atol=1e-9)
        np.testing.assert_allclose(known.tables.metric_inverse[anchor] @ rows @ rows.T, np.eye(3), atol=1e-9)


def test_grids_cover_the_half_sphere_at_the_step_of_their_level():
    grid, start = direction_grids()
    assert list(np.diff(start)) == [4468, 10053, 20176, 40212]
    assert (grid[2] > 0).all()
    np.testing.assert_allclose((grid**2).sum(0), 1, rtol=1e-6)
    rng = np.random.default_rng(0)
    anywhere = rng.normal(size=(300, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1)[:, None]
    for level, cycles in enumerate(SCAN_CYCLES):
        cosine = np.abs(anywhere @ grid[:, start[level] : start[level + 1]]).max(1)
        assert np.degrees(np.arccos(cosine.min())) < np.degrees(STEP / cycles)


def test_angles_cover_the_turn_that_the_stabiliser_leaves():
    known = KnownCell(EXPERIMENTS["lyso"].cell)
    t = known.tables
    for anchor, stabiliser in enumerate(known.stabiliser):
        for level, cycles in enumerate(TURN_CYCLES):
            steps = t.turn_steps[anchor, level]
            at = slice(t.turn_start[anchor, level], t.turn_start[anchor, level] + steps)
            angle = np.unwrap(np.arctan2(t.sine[at], t.cosine[at]))
            step = np.diff(angle)
            np.testing.assert_allclose(step, 2 * np.pi / stabiliser / steps, rtol=1e-3, atol=1e-6)
            assert steps == 8 or step.max() <= STEP / cycles * 1.05


def test_tables_are_made_in_a_moment():
    begun = time.process_time()
    for experiment in EXPERIMENTS.values():
        KnownCell(experiment.cell)
    assert time.process_time() - begun < 0.2 * len(EXPERIMENTS)


def test_a_cell_without_parameters_is_refused():
    with pytest.raises(BackendError, match="no parameters"):
        KnownCell(UnitCell(parameters=None))


def test_a_cell_that_is_none_is_refused():
    with pytest.raises(BackendError, match="makes no lattice"):
        KnownCell(UnitCell(parameters=(50.0, 50.0, 50.0, 60.0, 60.0, 120.0)))
