# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials on a device: the CPU's lattices, and for each frame the same bits whatever is beside it."""

import emulator
import numpy as np
import pytest
from backends.device_trials import (
    LARGEST_ANGLE,
    bits,
    compare,
    compare_lists,
    device_trials,
    index_lists,
    start,
)
from backends.peak_lists import (
    CONDITIONS,
    flat_lattice,
    flat_random,
    lines,
    nearest,
    odd_lists,
    simulated,
    trials,
    with_weak_peaks,
)
from backends.trial_proof import attempts_made, attempts_of_the_cpu
from backends.ways import fresh_device
from thorough import sample, thorough

from gpuidx.backends.constants import ATTEMPTS
from gpuidx.lattice import same_lattice
from gpuidx.options import IndexOptions
from gpuidx.simulation.peaklists import EXPERIMENTS

emulator.need("g++", "cupy")

import cupy  # noqa: E402

from gpuidx.backends.cuda.trials import DeviceTrials, trial_bytes  # noqa: E402

SIGMA = EXPERIMENTS["lyso"].shift_sigma


@pytest.fixture(autouse=True)
def device():
    with fresh_device() as device:
        yield device
    device_trials.cache_clear()  # their memory went with the device


@pytest.mark.parametrize("condition", sample(CONDITIONS, 4))
def test_every_cell_gives_the_lattices_of_the_cpu(condition):
    angles = compare([simulated(name, 40, **CONDITIONS[condition]) for name in EXPERIMENTS])
    assert len(angles) > 10  # of 12 cells
    assert max(angles) < LARGEST_ANGLE


def test_axes_and_shift_are_those_of_the_cpu_to_float_precision():
    lists = [simulated("lyso", seed, shift=(1.0, -0.7)) for seed in range(4)]
    found = index_lists(device_trials("lyso"), [one.q for one in lists], SIGMA)
    for ((candidate,), _), true in zip(found, lists, strict=True):
        ((expected,), _) = trials("lyso").index(true.q, true.shift_sigma)
        np.testing.assert_allclose(candidate.axes, expected.axes, atol=1e-3)
        np.testing.assert_allclose(candidate.shift, expected.shift, atol=1e-7)
        assert candidate.score == pytest.approx(expected.score, abs=0.01)
        assert np.abs(expected.shift).max() > 1e-4


def test_random_peaks_are_no_lattice():
    counts = (10, 14, 30, 100)
    lists = [simulated(name, 100, n_peaks=n, spurious=1.0) for name in ("lyso", "p1") for n in counts]
    assert compare(lists) == []


def test_an_axis_along_the_beam_of_electrons_is_no_evidence():
    lists = [(flat_random(76, 4), SIGMA), (flat_lattice(), SIGMA)]
    (angle,) = compare_lists(trials("lyso"), device_trials("lyso"), lists)
    assert angle < LARGEST_ANGLE


@pytest.mark.parametrize("name", ["lyso", "p1", "cys"])
def test_several_lattices_are_those_of_the_cpu(name):
    lists = [simulated(name, 3, n_peaks=45 * n, n_lattices=n) for n in (1, 2, 3)]
    angles = compare(lists, multi=True)
    assert len(angles) >= 5
    assert max(angles) < LARGEST_ANGLE


def test_weak_peaks_are_left_out_as_on_the_cpu():
    cases = (("lyso", 7), ("lyso", 17), ("p1", 0), ("rhod", 3))  # found in the second to fourth try
    lists = [with_weak_peaks(name, seed) for name, seed in cases]
    for one in lists:
        assert trials(one.cell_name).index(one.q, one.shift_sigma)[0] == []
    angles = compare(lists, retry=True, multi=True)
    assert len(angles) == len(cases)
    assert max(angles) < LARGEST_ANGLE


def test_tries_end_when_few_peaks_are_left():
    assert (
        compare([simulated("lyso", 5, n_peaks=n, spurious=1.0) for n in (5, 6, 9, 10, 11)], retry=True) == []
    )


def test_trials_end_after_as_many_attempts_as_on_the_cpu():
    settings = (
        {},
        {"n_peaks": 5},
        {"bandwidth": 0.005},
        {"cell_error": 0.02},
        {"noise": 2.0},
        {"spurious": 1.0},
    )
    lists = [simulated(name, seed, **s) for name in ("lyso", "psi") for seed in (7, 8) for s in settings]
    counted = [attempts_made(true.cell_name, true.q, true.shift_sigma) for true in lists]
    assert counted == [attempts_of_the_cpu(true.cell_name, true.q, true.shift_sigma) for true in lists]
    assert {1, 2, 4} <= set(counted)


def mixed_lists(name: str) -> list[np.ndarray]:
    """Frames that go different ways through the trials."""
    lists = [simulated(name, 0, n_peaks=30).q, simulated(name, 1, n_peaks=10).q]
    lists += [simulated(name, 9, n_peaks=11, spurious=1.0).q, simulated(name, 4, n_peaks=50, n_lattices=2).q]
    return lists + [odd_lists()[case] for case in ("no peaks", "three peaks", "all NaN")]


@pytest.mark.parametrize(("name", "n"), [("p1", 9), pytest.param("lyso", 64, marks=thorough)])
def test_a_frame_has_the_same_bits_alone_and_in_any_batch(name, n):
    lists, options = mixed_lists(name), {"retry": True, "multi": True}
    alone = [bits(index_lists(device_trials(name, **options, most_frames=1), [q], SIGMA)[0]) for q in lists]
    assert len(set(map(len, alone))) == 3  # none, one and two lattices
    order = np.random.default_rng(1).permutation(n) % len(lists)
    for place, found in zip(
        order, index_lists(device_trials(name, **options), [lists[k] for k in order], SIGMA), strict=True
    ):
        assert bits(found) == alone[place]


def test_frames_of_a_batch_have_camera_lengths_of_their_own():
    true = simulated("lyso", 1, shift=(1.5, -1.4))
    sigmas = [SIGMA, SIGMA / 50, SIGMA]
    found = index_lists(device_trials("lyso"), [true.q] * 3, sigmas)
    shifts = [candidates[0].shift for candidates, _ in found]
    assert bits(found[0]) == bits(found[2])
    assert np.linalg.norm(shifts[1]) < 0.5 * np.linalg.norm(shifts[0])
    for ((candidate,), _), sigma in zip(found, sigmas, strict=True):
        ((expected,), _) = trials("lyso").index(true.q, sigma)
        np.testing.assert_allclose(candidate.shift, expected.shift, atol=1e-6)


@pytest.mark.parametrize("name", ["lyso", "p1"])
def test_order_of_peaks_does_not_matter(name):
    rng = np.random.default_rng(3)
    q = simulated(name, 2, spurious=0.3).q
    first, *others = index_lists(device_trials(name), [q, rng.permutation(q), q[::-1]], SIGMA)
    assert len(first[0]) == 1
    assert [bits(found) for found in others] == [bits(first)] * 2


FEW_ODD = [case for case in odd_lists() if not case.startswith("2048")]


def test_senseless_peaks_are_not_indexed():
    lists = [odd_lists()[case] for case in FEW_ODD]
    found = index_lists(device_trials("lyso", multi=True), lists, SIGMA)
    for case, result in zip(FEW_ODD, found, strict=True):
        assert result == ((), 0 if case == "no peaks" else 1), case


def test_evenly_spaced_peaks_on_a_line_are_no_lattice():
    found = index_lists(device_trials("psi"), lines(16), SIGMA)
    assert [candidates for candidates, _ in found] == [()] * 16


def test_senseless_peaks_among_good_ones_are_ignored():
    q = simulated("lyso", 0).q
    holes = np.insert(q, [0, 7, 30], [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 0]], axis=0)
    plain, found = index_lists(device_trials("lyso", multi=True), [q, holes], SIGMA)
    assert len(plain[0]) == 1
    assert bits(found) == bits(plain)


def test_thousands_of_peaks_give_the_lattice_of_the_cpu():
    true = simulated("psi", 0, n_peaks=2048, spurious=0.6)
    equal = odd_lists()["2048 equal peaks"]
    many, none = index_lists(device_trials("psi"), [true.q[:2048], equal], true.shift_sigma)
    ((expected,), _) = trials("psi").index(true.q[:2048], true.shift_sigma)
    assert nearest(many[0][0].axes, true.truth)[0] == 0
    assert same_lattice(many[0][0].axes, expected.axes)[1] < LARGEST_ANGLE
    assert many[0][0].score == pytest.approx(expected.score, rel=1e-4)
    assert none == ((), 1)


def test_frames_with_fewer_peaks_than_wanted_are_not_tried():
    q = simulated("lyso", 0).q
    own = device_trials("lyso", min_peaks=20)
    found = index_lists(own, [q[:20], q[:19], q[:0], q], SIGMA)
    assert [n_tries for _, n_tries in found] == [1, 0, 0, 1]
    assert [len(candidates) for candidates, _ in found] == [1, 0, 0, 1]


@pytest.mark.parametrize("sigma", [0.0, np.nan, np.inf, 1e-30])
def test_a_senseless_error_of_the_beam_centre_harms_nobody(sigma):
    q = simulated("lyso", 0).q
    alone, *others = (index_lists(device_trials("lyso"), [q, q], (SIGMA, s)) for s in (SIGMA, sigma))
    assert bits(others[0][0]) == bits(alone[0])
    for candidate in others[0][1][0]:
        assert np.isfinite(candidate.axes).all()


def test_memory_is_as_reckoned():
    own = DeviceTrials(trials("lyso").cell, IndexOptions(), 5)
    tables = ("anchors", "grid", "angles", "plan")
    shared = sum(array.nbytes for name, array in own.arrays.items() if name not in tables)
    batches = sum(array.nbytes for _ in range(2) for array in own.new_batch().arrays.values())
    assert trial_bytes(5, 2, trials("lyso").cell) == shared + batches


def test_a_batch_without_frames_is_done_at_once():
    assert index_lists(device_trials("lyso"), [np.empty((1, 3))][:0], SIGMA) == []


@pytest.mark.parametrize("order", sample(["lazy", "eager", 3, 4], 2))
def test_batches_that_overlap_do_not_disturb_each_other(device, order):
    lists = [simulated("lyso", s, n_peaks=10, spurious=share).q for s in (0, 1) for share in (0.0, 1.0, 0.0)]
    own = device_trials("lyso", retry=True, most_frames=3)
    expected = [
        bits(found) for found in index_lists(own, lists[:3], SIGMA) + index_lists(own, lists[3:], SIGMA)
    ]
    device.set(order=order)
    stream = cupy.cuda.Stream(non_blocking=True)
    one, other = (start(own, part, SIGMA, stream) for part in (lists[:3], lists[3:]))
    for _ in range(10_000):
        if own.advance(one, stream) & own.advance(other, stream):
            break
    assert own.advance(one, stream)
    assert own.advance(other, stream)
    assert [bits(found) for found in own.results(one) + own.results(other)] == expected


def test_a_batch_costs_no_memory_and_no_wait(device):
    own, q = device_trials("lyso", retry=True, most_frames=2), simulated("lyso", 0).q
    stream = cupy.cuda.Stream(non_blocking=True)
    batch = start(own, [q, q], SIGMA, stream)
    own.finish(batch, stream)
    names = ("malloc", "pinned", "sync_event", "sync_stream", "sync_device", "launch", "copy_dh")
    before = {name: device.count(name) for name in names}
    inputs = (batch.arrays[name] for name in ("q", "n_given", "shift_sigma"))
    own.start(batch, *inputs, 2, stream)
    spent = {name: device.count(name) - before[name] for name in names}
    assert spent == {
        "malloc": 0, "pinned": 0, "sync_event": 0, "sync_stream": 0, "sync_device": 0,
        "launch": 1 + 13 * len(ATTEMPTS), "copy_dh": 2,
    }  # fmt: skip
    own.finish(batch, stream)
    assert [len(candidates) for candidates, _ in own.results(batch)] == [1, 1]


@pytest.mark.parametrize("schedule", sample([1, 0, 2], 3))
def test_no_kernel_races_strays_or_reads_what_was_not_written(device, schedule):
    two = simulated("lyso", 1, n_peaks=50, n_lattices=2).q
    lists = [two, simulated("lyso", 3, n_peaks=12, spurious=1.0).q, np.repeat(two[:1], 20, axis=0)]
    options = {"retry": True, "multi": True, "most_frames": 3}
    expected = [bits(found) for found in index_lists(device_trials("lyso", **options), lists, SIGMA)]
    device_trials.cache_clear()
    device.set(check=True, schedule=schedule)
    with cupy.cuda.using_allocator(None):  # each array with a guard of its own
        found = index_lists(device_trials("lyso", **options), lists, SIGMA)
    assert [bits(one) for one in found] == expected
    assert [len(candidates) for candidates, _ in found] == [2, 0, 0]
    assert device.messages == []
