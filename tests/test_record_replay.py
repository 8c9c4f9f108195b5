# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated frames, recorded, replayed and processed: the programs as a user starts them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from live import PATIENCE, PEAKS, SIZE, beamtime, is_right, numbers, run, write_inputs

from gpuidx.cli import call
from gpuidx.recording.file import Recording

N_FRAME = 4


@contextmanager
def sender(*words: str) -> Iterator[str]:
    """A program that serves, and its address."""
    command = [sys.executable, "-m", "gpuidx", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"tcp://\S+", process.stdout.readline())[0]
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0


def test_a_replayed_stream_is_that_which_was_recorded_and_gives_its_crystals(tmp_path):
    simulate = ("simulate", f"--size={SIZE}", f"--frames={N_FRAME}", "--seed=5", "--hit-fraction=0.65")
    recording = str(tmp_path / "a.rec")
    with sender(*simulate, "--serve=push") as address:
        words = [f"--zmq-input={address}", "--zmq-pull", "-o", recording, f"--max-frames={N_FRAME}"]
        assert call(["record", *words]) == 0
    recorded = [bytes(part) for message in Recording(recording) for part in message.parts]
    assert recorded == beamtime(N_FRAME).messages  # so a direct run gets the same bytes
    write_inputs(tmp_path)
    with sender("replay", recording, "--serve=rep", "--speed=10") as address:
        words = [f"--zmq-input={address}", "--zmq-request=next", f"--max-frames={N_FRAME}", "-j1", *PEAKS]
        done = run(tmp_path, *words, "--copy-header=truth_id")
    assert done.code == 0, done.log
    assert numbers(done.chunks) == list(range(N_FRAME))  # several requests are under way: in any order
    for chunk in done.chunks:
        truth = beamtime(N_FRAME).truths[int(chunk.headers["truth_id"])]
        assert bool(chunk.crystals) == truth.hit
        assert not chunk.crystals or is_right(chunk, truth)
