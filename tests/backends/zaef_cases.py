# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames for the tests of zaef and of the filters: those of peakfinder8, larger and with other options."""

from dataclasses import dataclass, replace

import numpy as np
from backends.peakfinder8_cases import FixedMasks, Numbers, small_case
from backends.ways import all_options

from gpuidx.backends.cpu.backend import _finder
from gpuidx.geometry.detector import Geometry
from gpuidx.model import Frame, PeakList
from gpuidx.options import Options, PeakOptions

RADII = ((1.0, 2.0, 3.0), (2.0, 3.0, 4.0), (3.0, 4.0, 5.0), (4.0, 5.0, 7.0), (2.5, 3.4, 5.2))


@dataclass
class Case:
    geometry: Geometry
    frame: Frame
    options: PeakOptions
    masks: FixedMasks


def zaef_case(number: int) -> Case:
    """A frame of `small_case` for zaef."""
    case, numbers = small_case(number), Numbers(5000 + number)
    options = PeakOptions(
        peaks="zaef",
        threshold=float(numbers.one_of((-50, 1, 2, 8, 20))),
        min_squared_gradient=float(numbers.one_of((0, 1, 4, 20, 400))),
        min_snr=numbers.one_of((0.0, 1.5, 2.5, 4.0)),
        peak_radius=numbers.one_of(RADII),
        use_saturated=numbers.chance(75),
    )
    bad = case.masks.bad
    if bad.mean() > 0.005:  # else hardly a ring would be without one
        bad &= (numbers.words(bad.size).reshape(bad.shape) % np.uint64(40) == 0) | (bad.mean() < 0.02)
    return Case(case.geometry, case.frame, options, case.masks)


def filter_case(number: int) -> Case:
    """A frame of `small_case` for zaef or peakfinder8 after a filter."""
    numbers = Numbers(7000 + number)
    case = small_case(200 + number) if number % 2 else zaef_case(200 + number)
    options = replace(
        case.options,
        median_filter=numbers.one_of((0, 1, 2, 2, 3, 4, 5, 9)),
        threshold=case.options.threshold / 2,
        peakfinder8_fast=False,
    )
    noise = options.median_filter == 0 or numbers.chance(10)
    return Case(case.geometry, case.frame, replace(options, filter_noise=noise), case.masks)


def run_options(options: PeakOptions) -> Options:
    """The options of a run that searches so."""
    return all_options(options)


def found(case: Case) -> PeakList:
    """The peaks of a case, as a worker finds them."""
    finder = _finder(case.geometry, run_options(case.options), case.masks)  # type: ignore[arg-type]
    assert finder is not None
    return finder.find(case.frame)
