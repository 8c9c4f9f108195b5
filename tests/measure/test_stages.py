# SPDX-License-Identifier: GPL-3.0-or-later
"""`gpuidx.measure.stages`: messages as they lie in a run, and which times count."""

import math

import numpy as np

from gpuidx.formats import Decoder
from gpuidx.geometry.masks import Masks
from gpuidx.measure.stages import StageTimes, copy_seconds
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings


def subject_of(folder, form):
    return Subject(folder, BuiltIn(128), FrameSettings(dtype="i4"), EncodeSettings(format=form))


def test_pixels_lie_aligned_so_that_decoding_need_not_copy_them(tmp_path):
    subject = subject_of(tmp_path, "msgpack")
    (message,) = subject.received(subject.hits[:1])
    frame = Decoder(subject.geometry, subject.options(), Masks(subject.geometry, math.inf, False)).decode(
        message
    )
    assert np.shares_memory(frame.image, np.frombuffer(message.data, np.uint8))


def test_messages_of_a_series_have_its_beginning(tmp_path):
    subject = subject_of(tmp_path, "dectris-v2")
    first, second = subject.received(subject.blanks[:2])
    assert first.series
    frames = Decoder(subject.geometry, subject.options(), Masks(subject.geometry, math.inf, False))
    assert frames.decode(second).photon_energy > 1000


def test_times_are_medians_by_stage():
    times = StageTimes()
    times.seconds["decode"] = [1.0, 5.0, 2.0]
    assert (times.median("decode"), times.median("none")) == (2.0, 0.0)
    with times("text"):
        sum(range(100_000))
    assert 0 < times.median("text") < 10


def test_a_copy_takes_time():
    assert copy_seconds(1 << 20, n_slot=2, rounds=1) > 0
