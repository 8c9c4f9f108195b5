# SPDX-License-Identifier: GPL-3.0-or-later
"""What the main process makes of the cells that workers find."""

import logging

import numpy as np
import pytest

from gpuidx.cell import UnitCell, read_cell
from gpuidx.errors import OptionError
from gpuidx.indexing.consensus import FEWEST_FRAMES
from gpuidx.options import Options
from gpuidx.proposal import CellSearch, cell_of_task

CELL = (38.0, 79.0, 79.0, 90.0, 90.0, 90.0)


def options(**given):
    return Options(geometry="a.geom", output="a.stream", input="list", peaks="peakfinder8", **given)


def fed(search, count, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        search.add([tuple(np.array(CELL) * (1 + 0.001 * rng.normal(size=6)))])
    return search


def test_workers_get_the_cell_only_if_asked_for_and_only_once_enough_frames_agree():
    search = fed(CellSearch(options(consensus_cell=True), None), FEWEST_FRAMES - 1)
    assert search.for_workers is None
    fed(search, 1, seed=2)
    cell = cell_of_task(search.for_workers)
    assert (cell.lattice_type, cell.centering, cell.unique_axis) == ("tetragonal", "P", "c")
    before = search.for_workers
    assert fed(search, 20, seed=3).for_workers is before
    assert fed(CellSearch(options(), None), 50).for_workers is None
    assert cell_of_task(None) is None


def test_the_cell_is_saved_when_it_is_proposed_and_again_in_the_end(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "found.cell"
    search = fed(CellSearch(options(save_cell=str(path)), None), FEWEST_FRAMES)
    assert f"{FEWEST_FRAMES} of {FEWEST_FRAMES} indexed frames agree" in path.read_text()
    fed(search, 30, seed=2).conclude()
    assert f"{FEWEST_FRAMES + 30} of {FEWEST_FRAMES + 30} indexed frames agree" in path.read_text()
    assert read_cell(path).lattice_type == "tetragonal"
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "proposed cell",
        "cell of all frames",
    ]


def test_without_agreement_that_is_said_in_the_end(caplog):
    caplog.set_level(logging.INFO)
    fed(CellSearch(options(), None), 3).conclude()
    assert caplog.messages == ["the 3 frames with a lattice agree on no cell"]


@pytest.mark.parametrize(
    ("given", "cell"),
    [({"indexing": "none"}, None), ({}, UnitCell(parameters=(79.0, 79.0, 38.0, 90.0, 90.0, 90.0)))],
)
def test_nothing_is_looked_for_with_a_target_cell_or_without_indexing(given, cell, caplog):
    caplog.set_level(logging.INFO)
    search = fed(CellSearch(options(consensus_cell=True, **given), cell), 50)
    search.conclude()
    assert search.for_workers is None
    assert caplog.messages == []


def test_a_file_that_cannot_be_written_is_an_error_before_the_run(tmp_path):
    with pytest.raises(OptionError, match="--save-cell"):
        CellSearch(options(save_cell=str(tmp_path / "missing" / "x.cell")), None)
