# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compiled ahead goes the whole way: a frame that does not index would leave half of it out."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from backends.ways import all_options

from gpuidx import warm
from gpuidx.model import PIXEL_TYPES
from gpuidx.options import OPTIONAL_PARTS, PeakOptions


def test_a_frame_of_each_pixel_type_is_indexed_while_compiling_ahead() -> None:
    assert len(PIXEL_TYPES) == warm.INDEXED


def note(place):
    (Path(os.environ["NUMBA_CACHE_DIR"]) / f"{place}-{os.getpid()}.nbi").touch()


def here(parts):
    note("here")


def there(parts):
    note("there")
    raise SystemExit(1)  # one that fails must not keep the others from working


@pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # here are threads, in the forkserver are none
def test_an_empty_cache_is_filled_by_several_processes_and_a_filled_one_by_none(
    monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(warm, "usable_cpus", lambda: [0, 1])
    monkeypatch.setattr(warm, "APART", (there, here, here))
    for _ in range(2):
        warm.compile_apart(())
        places = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
        assert places == ["here", "here", "there"]
    assert not list(tmp_path.glob(f"*-{os.getpid()}.nbi"))


@pytest.mark.parametrize(
    ("peaks", "has_cell", "parts"),
    [
        (PeakOptions(peaks="peakfinder8"), True, []),
        (PeakOptions(peaks="zaef", median_filter=2), True, ["zaef", "filters"]),
        (PeakOptions(peaks="peakfinder9"), False, ["peakfinder9", "no cell"]),
    ],
)
def test_only_what_a_run_needs_is_compiled_for_it(peaks, has_cell, parts) -> None:
    options = replace(all_options(peaks), indexing=None)
    assert options.optional_parts(has_cell) == parts
    assert set(parts) <= set(OPTIONAL_PARTS)


def test_profile_fitting_is_compiled_only_for_runs_that_ask_for_it() -> None:
    options = all_options(PeakOptions(peaks="peakfinder8"))
    assert replace(options, integration="prof2d-nocen").optional_parts(has_cell=True) == ["prof2d"]
    assert "prof2d" in OPTIONAL_PARTS
