# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.device_costs`: frames as a device finds them, and what is made of times."""

import numpy as np
import pytest

from gpuidx.measure.device import SearchTimes
from gpuidx.measure.device_costs import costs_from, on_device
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.pipeline import Pipeline
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings


def test_frames_lie_in_the_slots_as_compressed_as_in_a_run(tmp_path):
    messages = EncodeSettings(format="seedee", compression="bslz4")
    subject = Subject(tmp_path, BuiltIn(64), FrameSettings(dtype="u2"), messages)
    pipeline = Pipeline(subject.options(), subject.geometry, subject.cell)
    slots = np.empty((len(subject.hits), subject.slot_bytes), np.uint8)
    for laid, slot in zip(subject.received(subject.hits, slots), slots, strict=True):
        frame = on_device(pipeline, laid)
        assert frame.image is None
        assert all(np.shares_memory(part, slot) for part in (frame.packed.data, frame.packed.starts))


@pytest.mark.parametrize(("hit", "trials"), [(1.5e-3, 0.5e-3), (0.9e-3, 0.0)])
def test_costs_of_a_frame_are_its_share_of_a_batch_and_trials_what_hits_take_longer(hit, trials):
    times = SearchTimes(
        upload=8.0, search=4.0, download=1.0, kernels={}, n_candidate=1.0, n_peak=1.0, copied=(1, 1)
    )
    costs = costs_from(times, 4, 1e-3, hit)
    assert (costs.upload, costs.search, costs.trials) == pytest.approx((2e-3, 1e-3, trials))
