# SPDX-License-Identifier: GPL-3.0-or-later
"""Real frames give CrystFEL's intensities for CrystFEL's lattices, in each way to integrate."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from integration.frozen import DATA, made_crystal, options_of, recip_of
from integration.test_reference_frames import frames

from gpuidx.geometry.masks import Masks
from gpuidx.integration.integrator import NO_PROFILE, Integrator
from gpuidx.options import IntegrationOptions

pytestmark = pytest.mark.data

FROZEN = json.loads(gzip.decompress((DATA / "methods_crystfel.json.gz").read_bytes()))


def measured(frame, crystal, geometry, words):
    """Rows as those that were frozen, by indices; and the notes."""
    options: IntegrationOptions = replace(options_of(words), int_radius=(3.0, 4.0, 5.0))
    integrator = Integrator(geometry, Masks(geometry), options)
    found = integrator.measure(frame, [crystal])[0].reflections
    rows = np.column_stack([found.intensity, found.sigma, found.peak, found.background])
    return {tuple(h): row for h, row in zip(found.hkl.tolist(), rows, strict=True)}, integrator.notes


@pytest.mark.parametrize("run", FROZEN)
def test_intensities_are_those_of_crystfel_in_each_way_to_integrate(data_folder, run):
    given = frames(data_folder, run)
    for methods, (_, expected, frame, recip, geometry, _) in zip(FROZEN[run].values(), given, strict=True):
        crystal = made_crystal(recip_of((10 * recip).ravel()), profile_radius=expected["profile_radius"] / 10)
        for words, frozen in methods.items():
            ours, notes = measured(frame, crystal, geometry, words)
            theirs = {tuple(row[:3]): np.array(row[3:]) for row in frozen["rows"]}
            assert len(ours) == frozen["number"]
            assert set(theirs) <= set(ours)
            assert bool(notes[NO_PROFILE]) == (not theirs)
            if not theirs:
                continue
            a, b = (np.array([table[hkl] for hkl in theirs]) for table in (ours, theirs))
            for column in range(4):
                assert np.corrcoef(a[:, column], b[:, column])[0, 1] >= 0.99, words
            # where a rounding decides, a box may lie elsewhere, or the profile may have one spot more
            assert np.isclose(a, b, rtol=1e-3, atol=0.011).all(axis=1).mean() >= 0.95, words
