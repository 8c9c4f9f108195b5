# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole program with each search of peaks other than peakfinder8, and with a filter."""

from pathlib import Path

import pytest
from live import Server, beamtime, is_right, numbers, run, write_inputs

ZAEF = ("--threshold=12", "--min-squared-gradient=100", "--min-snr=4", "--peak-radius=2,3,5")
"""--peaks=zaef is the default."""

SEARCHES = {
    "zaef": ZAEF,
    "zaef, median": ("--peaks=zaef", *ZAEF, "--threshold=9", "--median-filter=3"),
    "peakfinder8, median": ("--peaks=peakfinder8", "--threshold=9", "--median-filter=3"),
    "peakfinder9": ("--peaks=peakfinder9", "--min-sig=1.5", "--local-bg-radius=4"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SEARCHES)
def test_hits_are_found_and_indexed(folder: Path, name: str) -> None:
    sent = beamtime(6)
    with Server("rep", sent.messages) as server:
        done = run(
            folder, *server.request, *SEARCHES[name], "--min-peaks=10", "--max-frames=6",
            "--copy-header=truth_id",
        )  # fmt: skip
    assert done.code == 0, done.log
    assert numbers(done.chunks) == list(range(6))
    for chunk in done.chunks:
        truth = sent.truths[int(chunk.headers["truth_id"])]
        assert chunk.hit == truth.hit
        assert bool(chunk.crystals) == truth.hit
        assert not chunk.crystals or is_right(chunk, truth)


def test_reflections_are_measured_in_the_image_as_it_was_sent(folder: Path) -> None:
    sent, backgrounds = beamtime(6), []
    for words in (("--peaks=peakfinder8", "--threshold=10"), SEARCHES["peakfinder8, median"]):
        with Server("rep", sent.messages) as server:
            done = run(
                folder, *server.request, *words, "--min-peaks=10", "--max-frames=6", "--copy-header=truth_id"
            )
        crystals = [crystal for chunk in done.chunks for crystal in chunk.crystals]
        backgrounds.append(sum(float(c.reflections["background"].mean()) for c in crystals) / len(crystals))
    assert backgrounds[0] > 0.5
    assert backgrounds[1] == pytest.approx(backgrounds[0], rel=0.1)


def test_the_noise_filter_leaves_no_peaks_and_says_so(folder: Path) -> None:
    with Server("rep", beamtime(6).messages) as server:
        done = run(folder, *server.request, *ZAEF, "--filter-noise", "--max-frames=6", "--indexing=none")
    assert done.code == 0, done.log
    assert [len(chunk.peaks) for chunk in done.chunks] == [0] * 6
    assert "--filter-noise leaves no peaks" in done.log
