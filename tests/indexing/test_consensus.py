# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames agree on a cell, or they do not."""

import itertools

import numpy as np
import pytest

from gpuidx.cell import cell_parameters, parse_cell, real_axes
from gpuidx.indexing.consensus import (
    FEWEST_FRAMES,
    MOST_GROUPS,
    Consensus,
    primitive_parameters,
)
from gpuidx.lattice import primitive_axes
from gpuidx.simulation.peaklists import EXPERIMENTS


def measured(rng, name="lyso", noise=0.001, U=None):
    """Parameters of the reduced cell as a frame would give it, perhaps of a multiple or fraction."""
    cell = EXPERIMENTS[name].cell
    axes = primitive_axes(real_axes(cell.parameters), cell.centering)
    axes = axes @ np.linalg.qr(rng.normal(size=(3, 3)))[0] @ (np.eye(3) + noise * rng.normal(size=(3, 3)))
    if U is not None:
        axes = U @ axes
    return primitive_parameters(np.linalg.inv(axes).T)


TYPES = {
    "lyso": ("tetragonal", "P"), "thau": ("tetragonal", "P"), "psi": ("hexagonal", "P"),
    "insu": ("cubic", "I"), "mono": ("monoclinic", "C"), "p1": ("triclinic", "P"),
    "rhod": ("orthorhombic", "P"), "cys": ("orthorhombic", "P"), "ferr": ("cubic", "F"),
    "rhom": ("hexagonal", "H"), "pseu": ("monoclinic", "P"), "long": ("orthorhombic", "P"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_frames_agree_on_the_true_cell_and_its_lattice_type(name):
    rng, consensus = np.random.default_rng(1), Consensus()
    for number in range(FEWEST_FRAMES):
        assert consensus.proposal() is None
        consensus.add([measured(rng, name)])
        assert consensus.n_lattices == number + 1
    proposal = consensus.proposal()
    assert (proposal.cell.lattice_type, proposal.cell.centering) == TYPES[name]
    assert (proposal.n_frames, proposal.n_lattices) == (FEWEST_FRAMES, FEWEST_FRAMES)
    true = EXPERIMENTS[name].cell.parameters
    if TYPES[name][0] == "orthorhombic":
        true = (*sorted(true[:3]), *true[3:])
    if name == "p1":
        true = (60, 70, 80, 85, 85, 80)  # all angles acute
    np.testing.assert_allclose(proposal.cell.parameters, true, rtol=3e-3)
    relative = np.array(proposal.spread) / (*proposal.cell.parameters[:3], *[57.3] * 3)
    assert 0.0001 < relative.min() <= relative.max() < 0.004


def test_multiples_fractions_and_strangers_do_not_matter_if_they_are_fewer():
    rng, consensus = np.random.default_rng(2), Consensus()
    for _ in range(15):
        consensus.add([measured(rng, "lyso")])
    for _ in range(5):
        consensus.add([measured(rng, "lyso", U=np.diag((1, 1, 2)))])
        consensus.add([measured(rng, "lyso", U=np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]))])
        consensus.add([cell_parameters(rng.normal(size=(3, 3)) * 60)])
    proposal = consensus.proposal()
    assert (proposal.n_frames, proposal.n_lattices) == (15, 30)
    np.testing.assert_allclose(proposal.cell.parameters[:3], (79, 79, 38), rtol=0.002)


def test_frames_that_agree_on_two_cells_agree_on_none():
    rng, consensus = np.random.default_rng(3), Consensus()
    for _ in range(20):
        consensus.add([measured(rng, "lyso")])
        consensus.add([measured(rng, "p1")])
    assert consensus.proposal() is None


def test_a_frame_counts_once_for_each_cell():
    rng, consensus = np.random.default_rng(4), Consensus()
    for _ in range(FEWEST_FRAMES - 1):
        consensus.add([measured(rng, "lyso") for _ in range(3)] + [measured(rng, "p1")])
    assert consensus.proposal() is None
    assert consensus.n_lattices == FEWEST_FRAMES - 1
    consensus.add([measured(rng, "lyso")])
    assert consensus.proposal() is None  # of two cells neither is ahead


def test_chance_lattices_agree_on_nothing_however_many_they_are():
    rng, consensus = np.random.default_rng(5), Consensus()
    for _ in range(600):
        while np.linalg.det(axes := rng.uniform(-100, 100, (3, 3))) < 1e4:
            pass
        consensus.add([primitive_parameters(np.linalg.inv(axes).T)])
        assert consensus.proposal() is None
    assert len(consensus._groups) <= MOST_GROUPS


def test_what_is_no_cell_is_ignored():
    consensus = Consensus()
    for bad in itertools.chain(
        ((0, 0, 0, 0, 0, 0), (1, 1, 1, 90, 90, 180), (1, 1, 1, 120, 120, 130), (), (1, 2, 3)),
        ([np.nan] * 6, [np.inf, 1, 1, 90, 90, 90]),
    ):
        consensus.add([bad])
    assert consensus.n_lattices == 0
    assert consensus.proposal() is None


def test_the_file_is_read_back_with_the_cell_and_what_it_comes_from():
    rng, consensus = np.random.default_rng(6), Consensus()
    for _ in range(20):
        consensus.add([measured(rng, "mono")])
    proposal = consensus.proposal()
    text = proposal.text()
    assert text.isascii()
    cell = parse_cell(text, "x.cell")
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == ("monoclinic", "C", "b")
    assert cell.warnings == ()
    np.testing.assert_allclose(cell.parameters, proposal.cell.parameters, atol=0.006)
    assert "20 of 20 indexed frames agree" in text.splitlines()[1]


def test_a_more_symmetric_cell_that_is_near_is_named_too():
    rng, consensus = np.random.default_rng(7), Consensus()
    for _ in range(20):
        consensus.add([measured(rng, "pseu", noise=0.0005)])
    proposal = consensus.proposal()
    assert (proposal.cell.lattice_type, proposal.nearly.lattice_type) == ("monoclinic", "orthorhombic")
    assert "; nearly orthorhombic P, 50." in proposal.line()
