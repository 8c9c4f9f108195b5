# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of files, as a user gives them: prefixes, events, paths with %, files that come late."""

import os
from pathlib import Path

import h5py
import pytest
from live import PEAKS, SIZE, beamtime, finish, start, wait_for_word, workers, write_inputs

from gpuidx.simulation.detector import default_geometry


def write_shots(path: Path, numbers: list[int]) -> None:
    """A file with a group for each frame."""
    with h5py.File(path.with_suffix(".part"), "w") as file:
        for number in numbers:
            frame = beamtime(6).frames[number]
            file[f"/run/shot{number}/image"] = frame.image
            file[f"/run/shot{number}/energy"] = frame.truth.photon_energy
            file[f"/run/shot{number}/distance"] = 1e3 * frame.truth.clen
    path.with_suffix(".part").rename(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = default_geometry(SIZE, "hdf5")
    for old, new in (
        ("/entry/data", "/run/%/image"),
        ("/entry/beam_energy", "/run/%/energy"),
        ("/entry/detector_distance", "/run/%/distance"),
        ("dim0 = %\n", ""),
        ("dim1 =", "dim0 ="),
        ("dim2 =", "dim1 ="),
    ):
        assert old in text
        text = text.replace(old, new)
    write_inputs(tmp_path, text)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker by /proc: run it on Linux")
def test_late_files_with_a_prefix_and_paths_with_placeholders_are_processed_by_a_pinned_worker(
    folder: Path,
) -> None:
    write_shots(folder / "data/first.h5", [2, 0, 1])
    (folder / "list").write_text(
        "/far/away/late.h5\n/far/first.h5\n/far/first.h5  shot2//\nfirst.h5 shot7//\n"
    )
    words = ("-i", "list", "--basename", "-x", "data", "--wait-for-file=-1", "--cpu-pin", "-j1")
    process = start(folder, *words, *PEAKS, "--status-interval=0.2")
    wait_for_word(process, folder, "4 images processed")
    (worker,) = workers(process.pid)
    usable, pinned = os.sched_getaffinity(0), os.sched_getaffinity(worker)
    assert len(pinned) == 1
    assert os.sched_getaffinity(process.pid).isdisjoint(pinned) or len(usable) == 1
    write_shots(folder / "data/late.h5", [4])
    done = finish(process, folder)
    assert done.code == 0, done.log
    assert [f"{chunk.filename} {chunk.event}" for chunk in done.chunks] == [
        "data/first.h5 shot0//", "data/first.h5 shot1//", "data/first.h5 shot2//", "data/first.h5 shot2//",
        "data/late.h5 shot4//",
    ]  # fmt: skip
    for chunk in done.chunks:
        assert bool(chunk.crystals) == beamtime(6).truths[int(chunk.event[4])].hit
    assert (done.count("received"), done.count("rejected")) == (6, 1)
    for text in (
        "taken as data/",
        "waiting for data/late.h5",
        "data/first.h5: no data set at '/run/shot7/image'",
    ):
        assert text in done.log
