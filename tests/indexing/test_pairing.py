# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs, residuals, profile radius and resolution limit are CrystFEL's."""

from dataclasses import replace

import numpy as np
import pytest
from integration.frozen import case_of, frame_of, geometry_of, load, names, peaks, recip_of

from gpuidx.indexing.observed import peaks_of
from gpuidx.indexing.pairing import (
    distances,
    explain,
    index_peak,
    pair_peaks,
    profile_radius,
    residual,
    resolution_limit,
)


def axes_of(recip):
    return np.ascontiguousarray(np.linalg.inv(recip).T)


@pytest.mark.parametrize(
    "name", [name for name in names() if "radius" not in case_of(name).options.integration]
)
def test_profile_radius_and_resolution_limit_are_crystfels(name):
    case = case_of(name)
    frame = frame_of(case.geometry)
    view = peaks_of(frame, peaks(), case.geometry.bandwidth, case.shift)
    for recip, expected in zip(case.recip, case.expected, strict=True):
        if case.options.fix_profile_radius is None:
            radius = profile_radius(pair_peaks(view, axes_of(recip), recip))
            assert f"{10 * (radius or 0.002):.5f}" == expected["radius"]
        limit = resolution_limit(explain(view, axes_of(recip), recip))
        assert f"{10 * (limit or 0.0):.2f}" == expected["limit"]


@pytest.mark.parametrize("number", range(8))
def test_residual_before_constraints_is_crystfels(number):
    note = load()["notes"][number]
    geometry = geometry_of(note["bandwidth"])
    recip = recip_of(note["recip"])
    view = peaks_of(frame_of(geometry), peaks(), geometry.bandwidth)
    pairs = pair_peaks(view, axes_of(recip), recip)
    np.testing.assert_allclose(
        residual(view, pairs, recip), [float(value) for value in note["before"]], atol=1.1e-6, rtol=1e-7
    )


def test_pairs_come_by_rising_error_without_the_outliers():
    geometry = geometry_of()
    recip = case_of("plain").recip[0]
    view = peaks_of(frame_of(geometry), peaks(), geometry.bandwidth)
    pairs = pair_peaks(view, axes_of(recip), recip)
    assert (np.diff(pairs.error) >= 0).all()
    assert len(set(pairs.peak.tolist())) == len(pairs.peak)
    assert len(pairs.peak) < len(peaks())
    assert (np.abs(pairs.hkl).max(axis=1) > 0).all()


def test_a_peak_that_is_no_number_is_no_pair():
    geometry = geometry_of()
    recip = case_of("plain").recip[0]
    listed = peaks()
    frame = frame_of(geometry)
    whole = pair_peaks(peaks_of(frame, listed, geometry.bandwidth), axes_of(recip), recip)
    fs = np.append(listed.fs, np.nan)
    ss = np.append(listed.ss, 3.0)
    spoilt = replace(
        listed,
        fs=fs,
        ss=ss,
        panel=np.append(listed.panel, np.int32(0)),
        intensity=np.append(listed.intensity, 1.0),
    )
    view = peaks_of(frame, spoilt, geometry.bandwidth)
    pairs = pair_peaks(view, axes_of(recip), recip)
    np.testing.assert_array_equal(pairs.peak, whole.peak)
    assert np.isnan(explain(view, axes_of(recip), recip)[-1])
    assert index_peak(axes_of(recip), np.full(3, np.nan), np.empty(3)) == np.inf


def test_distances_from_the_lattice_are_those_of_all_indices_together():
    geometry = geometry_of()
    recip = case_of("plain").recip[0]
    view = peaks_of(frame_of(geometry), peaks(), geometry.bandwidth)
    exact = view.q @ np.linalg.inv(recip)
    expected = np.linalg.norm(exact - np.rint(exact), axis=1)
    np.testing.assert_allclose(distances(view, axes_of(recip)), expected, atol=1e-12)
    explained = ~np.isnan(explain(view, axes_of(recip), recip))
    assert explained[expected < 0.25].all()
    assert not explained[expected > 0.25 * 3**0.5].any()
    view.q[0] = np.nan
    assert distances(view, axes_of(recip))[0] == np.inf


def test_too_few_peaks_give_no_radius_and_no_limit():
    geometry = geometry_of()
    recip = case_of("plain").recip[0]
    few = peaks().select(np.arange(2))
    view = peaks_of(frame_of(geometry), few, geometry.bandwidth)
    assert profile_radius(pair_peaks(view, axes_of(recip), recip)) is None
    assert resolution_limit(explain(view, axes_of(recip), recip)) is None
