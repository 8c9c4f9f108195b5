# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compiled ahead goes the whole way: a frame that does not index would leave half of it out."""

from dataclasses import replace

import pytest
from backends.ways import all_options

from gpuidx import warm
from gpuidx.model import PIXEL_TYPES
from gpuidx.options import OPTIONAL_PARTS, PeakOptions


def test_a_frame_of_each_pixel_type_is_indexed_while_compiling_ahead() -> None:
    assert len(PIXEL_TYPES) == warm.INDEXED


@pytest.mark.parametrize(
    ("peaks", "has_cell", "parts"),
    [
        (PeakOptions(peaks="peakfinder8"), True, []),
        (PeakOptions(peaks="zaef", median_filter=2), True, ["zaef", "filters"]),
        (PeakOptions(peaks="peakfinder9"), False, ["peakfinder9", "no cell"]),
    ],
)
def test_only_what_a_run_needs_is_compiled_for_it(peaks, has_cell, parts) -> None:
    assert all_options(peaks).optional_parts(has_cell) == parts
    assert set(parts) <= set(OPTIONAL_PARTS)


def test_profile_fitting_is_compiled_only_for_runs_that_ask_for_it() -> None:
    options = all_options(PeakOptions(peaks="peakfinder8"))
    assert replace(options, integration="prof2d-nocen").optional_parts(has_cell=True) == ["prof2d"]
    assert "prof2d" in OPTIONAL_PARTS
