# SPDX-License-Identifier: GPL-3.0-or-later
"""A saturation map in the file of a frame counts as one in a file of its own."""

from dataclasses import replace

from integration.frozen import case_of, frame_of, geometry_of, lines, saturation_map

from gpuidx.geometry.masks import Masks
from gpuidx.integration.integrator import Integrator


def test_reflections_are_those_of_crystfel_with_the_map_in_a_file():
    case, geometry = case_of("saturation_map"), geometry_of(before="saturation_map = /sat\n")
    masks = Masks(geometry)
    assert masks.saturation_map is None
    limits = masks.saturation_in_frame(
        lambda data, panel: saturation_map("sat.h5", data)[
            panel.min_ss : panel.max_ss + 1, panel.min_fs : panel.max_fs + 1
        ]
    )
    integrator, frame = Integrator(geometry, masks, case.options), frame_of(geometry)
    crystals = integrator.measure(replace(frame, saturation=limits), case.crystals())
    without = integrator.measure(frame, case.crystals())
    for crystal, other, expected in zip(crystals, without, case.expected, strict=True):
        assert lines(crystal.reflections) == expected["lines"]
        assert crystal.reflections.n_saturated == expected["saturated"] > other.reflections.n_saturated
