# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.device_costs`: on a pretended device, and what is made of times."""

import json
import os
import subprocess
import sys

import pytest
from emulator import need, program

from gpuidx.measure.device import SearchTimes
from gpuidx.measure.device_costs import costs_from

BODY = """
import json, sys
from dataclasses import asdict
from pathlib import Path

from gpuidx.measure import device_costs as own
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings

own.LEAST_BATCHES, own.REPEATS = 1, 1
frames, messages = FrameSettings(dtype="u2"), EncodeSettings(format="seedee", compression="bslz4")
subject = Subject(Path(sys.argv[1]), BuiltIn(64), frames, messages, words="--indexing=none --gpu-batch=2")
batches, timed = [], own.search_times
own.search_times = lambda batch, *more: (batches.append(batch), timed(batch, *more))[1]
costs = asdict(own.device_costs(subject, 0))
print(json.dumps(costs | {"packed": [frame.packed is not None for frame in batches[0]]}))
"""


def test_copies_and_kernels_of_a_frame_are_timed_with_pixels_as_compressed_as_in_a_run(tmp_path):
    need("g++", "cupy")
    done = subprocess.run(
        [sys.executable, "-c", BODY, tmp_path],
        capture_output=True, text=True, env=os.environ | program.environment(), timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout)
    assert costs["upload"] > 0
    assert costs["search"] > 0
    assert costs["packed"] == [True, True]


@pytest.mark.parametrize(("hit", "trials"), [(1.5e-3, 0.5e-3), (0.9e-3, 0.0)])
def test_costs_of_a_frame_are_its_share_of_a_batch_and_trials_what_hits_take_longer(hit, trials):
    times = SearchTimes(
        upload=8.0, search=4.0, download=1.0, kernels={}, n_candidate=1.0, n_peak=1.0, copied=(1, 1)
    )
    costs = costs_from(times, 4, 1e-3, hit)
    assert (costs.upload, costs.search, costs.trials) == pytest.approx((2e-3, 1e-3, trials))
