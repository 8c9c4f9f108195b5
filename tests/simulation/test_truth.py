# SPDX-License-Identifier: GPL-3.0-or-later
"""The side file of the truth."""

import numpy as np
import pytest

from gpuidx.errors import InputFileError
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings
from gpuidx.simulation.truth import TruthFile, read_truth


@pytest.mark.parametrize("name", ["truth.jsonl", "truth.jsonl.gz"])
def test_what_is_written_is_read(four, cell, tmp_path, name):
    simulator = Simulator(four, cell, FrameSettings(lattices=2, hit_fraction=0.5))
    truths = [simulator.numbered(i).truth for i in range(5)]
    assert {truth.hit for truth in truths} == {True, False}
    with TruthFile(tmp_path / name, {"seed": 0}) as file:
        for truth in truths:
            file.write(truth)
    found = list(read_truth(tmp_path / name))
    assert len(found) == 5
    for mine, truth in zip(found, truths, strict=True):
        assert (mine.number, mine.hit, mine.wavelength, mine.clen) == (
            truth.number,
            truth.hit,
            truth.wavelength,
            truth.clen,
        )
        assert len(mine.crystals) == len(truth.crystals)
        for read, made in zip(mine.crystals, truth.crystals, strict=True):
            np.testing.assert_array_equal(read.recip, made.recip)
            for field in ("hkl", "panel", "counts"):
                np.testing.assert_array_equal(getattr(read.spots, field), getattr(made.spots, field))
                assert getattr(read.spots, field).dtype == getattr(made.spots, field).dtype
            for field in ("fs", "ss", "photons", "partiality"):
                np.testing.assert_allclose(getattr(read.spots, field), getattr(made.spots, field), atol=6e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]\n", "truth:1: no truth of a frame"),
        ('{"format": "other"}\n', "truth:1: the format is not"),
        ('{"format": "gpuidx truth 1"}\n{"number": 1}\n', "truth:2: no truth of a frame"),
        ('{"format": "gpuidx truth 1"}\nxyz\n', "truth:2: no truth of a frame"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "truth").write_text(text)
    with pytest.raises(InputFileError, match=message):
        list(read_truth(tmp_path / "truth"))
