# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.stages`: messages as they lie in a run, and which times count."""

import math
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from gpuidx.formats import Decoder
from gpuidx.geometry.masks import Masks
from gpuidx.measure.stages import DECODE, StageTimes, copy_seconds, measured
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.pipeline import DECODED_THERE, Pipeline
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings


def subject_of(folder, form):
    return Subject(folder, BuiltIn(128), FrameSettings(dtype="i4"), EncodeSettings(format=form))


def test_pixels_lie_aligned_so_that_decoding_need_not_copy_them(tmp_path):
    subject = subject_of(tmp_path, "msgpack")
    ((message, _, used),) = subject.received(subject.hits[:1])
    frame = Decoder(subject.geometry, subject.options(), Masks(subject.geometry, math.inf, False)).decode(
        message
    )
    assert used == len(message.data)
    assert np.shares_memory(frame.image, np.frombuffer(message.data, np.uint8))


def test_messages_of_a_series_have_its_beginning(tmp_path):
    subject = subject_of(tmp_path, "dectris-v2")
    first, second = (laid.message for laid in subject.received(subject.blanks[:2]))
    assert first.series is second.series
    frames = Decoder(subject.geometry, subject.options(), Masks(subject.geometry, math.inf, False))
    assert frames.decode(second).photon_energy > 1000


@pytest.fixture
def ticks(monkeypatch):
    """A clock that goes on by 1 ns whenever somebody looks: each visit of a stage takes that long."""
    monkeypatch.setattr("gpuidx.measure.stages.time", SimpleNamespace(thread_time_ns=count().__next__))


def test_times_are_medians_over_messages_of_what_each_took_in_all(ticks):
    times = StageTimes()
    for visits in (2, 5, 3):
        times.begin()
        for _ in range(visits):
            with times("decode"):
                pass
    assert (times.median("decode"), times.median("none")) == (3e-9, 0.0)


@pytest.mark.parametrize(("for_device", "visits"), [(False, (3, 4)), (True, (2, 3))])
def test_decoding_is_counted_once_a_message_whatever_its_visits(tmp_path, ticks, for_device, visits):
    """Visits: frames of the message, decoding, pixels as the CPU wants them; those once more for crystals."""
    messages = EncodeSettings(format="seedee", compression="bslz4")
    subject = Subject(tmp_path, BuiltIn(256), FrameSettings(dtype="u2"), messages, words="--min-peaks=2")
    pipeline = Pipeline(subject.options(), subject.geometry, subject.cell)
    place = np.empty(1 << 20, np.uint8).data
    for sent, n in zip((subject.blanks, subject.hits), visits, strict=True):
        times = measured(pipeline, subject.received(sent), place, 1, for_device)
        assert times.median(DECODE) == pytest.approx(n * 1e-9)
    assert (pipeline.take_notes() == [(DECODED_THERE, 1)]) is for_device


def test_a_copy_takes_time():
    assert copy_seconds(1 << 20, n_slot=2, rounds=1) > 0
