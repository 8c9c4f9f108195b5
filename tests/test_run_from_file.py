# SPDX-License-Identifier: GPL-3.0-or-later
"""Crystals from a file, and records for alignment, in the whole program."""

from pathlib import Path

import numpy as np
import pytest
from live import PEAKS, Server, beamtime, finish, is_right, run, start, write_inputs
from millepede import read_records

DEVICE = str(Path(__file__).with_name("device_program.py"))
N_FRAME = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def write_truth(folder: Path, left_out: int) -> None:
    """The true lattices of the frames but one, as frames on request are named."""
    lines = []
    for number, truth in enumerate(beamtime(N_FRAME).truths):
        for crystal in truth.crystals if number != left_out else ():
            axes = " ".join(f"{x:.7f}" for x in 10 * np.ravel(crystal.recip))
            lines.append(f"ZMQdata //{number + 1} {axes} 0 0 tPc\n")
    (folder / "true.sol").write_text("".join(lines))


@pytest.mark.parametrize("program", [("-m", "gpuidx"), (DEVICE, "with_trials", "1")], ids=["cpu", "device"])
def test_frames_get_the_crystals_of_the_file_and_each_crystal_a_record(folder: Path, program) -> None:
    sent = beamtime(N_FRAME)
    hits = [number for number, truth in enumerate(sent.truths) if truth.hit]
    write_truth(folder, left_out=hits[0])
    with Server("rep", sent.messages) as server:
        words = [*server.request, "--zmq-requests=1", *PEAKS, f"--max-frames={N_FRAME}"]
        words += ["--indexing=file", "--fromfile-input-file=true.sol", "--copy-header=truth_id"]
        words += ["--mille", "--mille-dir=made/here", "--mille-file=align.bin"]
        done = finish(start(folder, *words, program=program), folder)
    assert done.code == 0, done.log
    indexed = [chunk for chunk in done.chunks if chunk.crystals]
    assert sorted(int(chunk.headers["truth_id"]) for chunk in indexed) == hits[1:]
    for chunk in indexed:
        assert is_right(chunk, sent.truths[int(chunk.headers["truth_id"])])
        assert "gpuidx/score" not in chunk.crystals[0].notes
    assert f"frame {hits[0] + 1}: no crystal of this frame in true.sol" in done.log
    records = read_records(folder / "made/here/align.bin")
    for chunk, record in zip(indexed, records, strict=True):
        final = chunk.crystals[0].notes["predict_refine/final_residual"]
        assert sum(one.value**2 for one in record) == pytest.approx(float(final.split()[0]), rel=1e-4)


def test_what_is_missing_or_wrong_is_said_before_anything_is_opened(folder: Path) -> None:
    words = ["--zmq-input=tcp://127.0.0.1:9", "--zmq-request=next", "--indexing=file"]
    done = run(folder, *words, "--fromfile-input-file=true.sol")
    assert (done.code, "true.sol: cannot be read" in done.log) == (1, True)
    (folder / "true.sol").write_text("a b c\n")
    done = run(folder, *words, "--fromfile-input-file=true.sol")
    assert (done.code, "true.sol:1: 3 words; expected 14" in done.log) == (1, True)
    (folder / "true.sol").write_text("")
    done = run(folder, *words, "--fromfile-input-file=true.sol", "--mille", "--mille-file=test.geom")
    assert (done.code, "is not an output of an earlier run" in done.log) == (5, True)
    assert not (folder / "made").exists()
