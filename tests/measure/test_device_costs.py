# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.device_costs` on a pretended device."""

import json
import os
import subprocess
import sys

from emulator import need, program

BODY = """
import json, sys
from dataclasses import asdict
from pathlib import Path

from gpuidx.measure import device_costs as own
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings

own.LEAST_BATCHES, own.REPEATS = 1, 1
frames, messages = FrameSettings(dtype="u2"), EncodeSettings(format="seedee")
subject = Subject(Path(sys.argv[1]), BuiltIn(64), frames, messages, words="--indexing=none")
print(json.dumps(asdict(own.device_costs(subject, 0, batch=2))))
"""


def test_copies_and_kernels_of_a_frame_are_timed(tmp_path):
    need("g++", "cupy")
    done = subprocess.run(
        [sys.executable, "-c", BODY, tmp_path],
        capture_output=True, text=True, env=os.environ | program.environment(), timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout)
    assert costs["upload"] > 0
    assert costs["search"] > 0
    assert costs["trials"] >= 0
