# SPDX-License-Identifier: GPL-3.0-or-later
"""A run without a target cell: frames are indexed all the same, and a cell is proposed, saved and used."""

from pathlib import Path

from live import PEAKS, Server, beamtime, finish, is_right, start, write_inputs

from gpuidx.cell import read_cell

N_FRAME = 40


def without_cell(folder: Path, *words: str):
    write_inputs(folder)
    sent = beamtime(N_FRAME)
    with Server("rep", sent.messages) as server:
        options = [*server.request, *PEAKS, f"--max-frames={N_FRAME}", "--copy-header=truth_id", "-j", "2"]
        done = finish(start(folder, *options, *words, has_cell=False), folder)
    assert done.code == 0, done.log
    return done, sent.truths


def right_share(chunks, truths) -> float:
    return sum(is_right(c, truths[int(c.headers["truth_id"])]) for c in chunks) / len(chunks)


def test_frames_are_indexed_without_a_cell_as_triclinic_and_the_cell_is_proposed(tmp_path):
    done, truths = without_cell(tmp_path, "--save-cell=found.cell")
    hits = [chunk for chunk in done.chunks if chunk.hit]
    indexed = [chunk for chunk in hits if chunk.crystals]
    assert len(indexed) >= 0.9 * len(hits)
    assert right_share(indexed, truths) >= 0.9
    assert all(
        (c.lattice_type, c.centering) == ("triclinic", "P") for chunk in indexed for c in chunk.crystals
    )
    assert "no target cell: frames are indexed without one" in done.log
    assert "proposed cell: tetragonal P" in done.log
    assert "with this cell from now on" not in done.log
    found = read_cell(tmp_path / "found.cell")
    assert (found.lattice_type, found.centering, found.unique_axis) == ("tetragonal", "P", "c")
    for ours, true in zip(found.parameters, read_cell(tmp_path / "test.cell").parameters, strict=True):
        assert abs(ours - true) < 0.005 * true


def test_the_workers_use_the_cell_that_frames_agree_on_if_asked_to(tmp_path):
    done, truths = without_cell(tmp_path, "--consensus-cell", "--slots=6")
    indexed = [chunk for chunk in done.chunks if chunk.crystals]
    assert "frames are indexed with this cell from now on (--consensus-cell)" in done.log
    later = [chunk for chunk in indexed if chunk.crystals[0].lattice_type == "tetragonal"]
    assert 4 <= len(later) < len(indexed) - 8
    assert right_share(later, truths) == 1.0
