# SPDX-License-Identifier: GPL-3.0-or-later
"""A lattice must explain enough of the peaks, by CrystFEL's rules."""

import numpy as np
import pytest

from gpuidx.indexing.peak_check import is_enough, list_lengths, passes


@pytest.mark.parametrize(
    ("n_explained", "n_peak", "multi", "enough"),
    [
        (30, 60, False, True),
        (29, 60, False, False),
        (0, 0, False, False),
        (70, 1000, True, False),
        (71, 1000, True, True),
        (26, 80, True, True),
        (25, 80, True, False),
        (24, 80, True, False),
        (9, 20, True, True),
        (8, 20, True, False),
        (0, 0, True, False),
    ],
)
def test_share_that_is_enough(n_explained, n_peak, multi, enough):
    assert is_enough(n_explained, n_peak, multi) == enough


def test_tries_leave_out_a_tenth_each_time():
    assert list_lengths(100, retry=True) == [100, 90, 81, 73, 66, 60]
    assert list_lengths(100, retry=False) == [100]
    assert list_lengths(12, retry=True) == [12, 11, 10, 9]
    assert list_lengths(5, retry=True) == [5]
    assert list_lengths(0, retry=True) == [0]


def test_with_retry_the_stronger_peaks_alone_may_do():
    # 11 of 23 are explained, and 11 of the strongest 21
    explained = np.array([True] * 11 + [False] * 12)
    intensity = np.arange(23, 0, -1.0)
    order = np.random.default_rng(0).permutation(23)
    assert passes(explained[order], intensity[order], multi=False, retry=True)
    assert not passes(explained[order], intensity[order], multi=False, retry=False)
    assert not passes(explained[order], -intensity[order], multi=False, retry=True)


def test_nothing_explains_no_peaks():
    nothing = np.zeros(0)
    assert not passes(nothing.astype(bool), nothing, multi=False, retry=True)
