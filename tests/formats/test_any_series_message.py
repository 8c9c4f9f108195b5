# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage to messages of detectors' own protocols is never worse than a rejection, and costs little memory."""

import tracemalloc

import numpy as np
import pytest
from formats.damage import cases, check_any, damaged
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = cases()

MOST_MEMORY = 20_000_000
"""Bytes that a damaged message of some 10 kB may make us ask for."""


@pytest.mark.parametrize("name", CASES)
def test_the_message_itself_is_a_frame(name):
    case = CASES[name]
    assert check_any(case.decoder, case.parts, case.start) == ""


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_damaged_messages_are_decoded_or_rejected(name, seed):
    case = CASES[name]
    check_any(case.decoder, damaged(case.parts, np.random.default_rng(seed)), case.start)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_damaged_starts_of_series_do_no_harm(name, seed):
    case = CASES[name]
    check_any(case.decoder, case.parts, damaged(case.start, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", CASES)
@given(data=st.binary(max_size=300))
@settings(max_examples=30, deadline=None)
def test_random_bytes_are_rejected(name, data):
    case = CASES[name]
    for beginning in (b"", case.parts[0][:40]):
        assert check_any(case.decoder, [beginning + data, *case.parts[1:]], case.start) or beginning


@pytest.mark.parametrize("name", CASES)
def test_damaged_messages_ask_for_little_memory(name):
    case, rng = CASES[name], np.random.default_rng(5)
    tracemalloc.start()
    try:
        for _ in range(40):
            check_any(case.decoder, damaged(case.parts, rng), damaged(case.start, rng))
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
