# SPDX-License-Identifier: GPL-3.0-or-later
"""Axes without a cell on a device are the CPU's, and a worker takes them for its own."""

import emulator
import numpy as np
import pytest
from backends.axes_proof import AXES_MUTANTS, findings
from backends.device_axes import are_the_same, axes_of, cpu_axes, lengths_of, start
from backends.kernel_mutants import change_kernels, copy_kernels
from backends.peak_lists import simulated
from backends.ways import fresh_device
from thorough import sample

from gpuidx.backends.constants import FEWEST_PEAKS, STEP
from gpuidx.backends.cpu import unknown_cell
from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.backends.cuda import axes_search, sources
from gpuidx.backends.cuda.axes_search import LENGTH_BLOCKS, AxesSearch
from gpuidx.backends.cuda.trial_tables import MOST_DIRECTIONS
from gpuidx.backends.known_cell import direction_grids
from gpuidx.backends.unknown_cell_constants import MOST_PEAKS_UNKNOWN, MOST_VECTORS
from gpuidx.options import IndexOptions

emulator.need("g++", "cupy")

import cupy  # noqa: E402


@pytest.fixture
def device():
    with fresh_device() as device:
        yield device


@pytest.mark.parametrize("check", [False, True])
def test_the_proof_finds_nothing_in_the_kernels_as_they_are(check):
    assert findings(check=check) == set()


@pytest.mark.parametrize("mutant", sample(AXES_MUTANTS, 5), ids=lambda mutant: mutant.says)
def test_a_defect_of_a_kernel_is_caught(mutant, tmp_path, monkeypatch):
    folder = copy_kernels(tmp_path)
    monkeypatch.setattr(sources, "folder", lambda: folder)
    change_kernels(folder, mutant)
    found = findings(check=mutant.check)
    assert mutant.caught_by in found, found
    assert "CompileException" not in found


def test_a_worker_looks_for_axes_itself_where_a_device_did_not(monkeypatch):
    calls = []
    monkeypatch.setattr(
        unknown_cell, "find_axes", lambda *given: calls.append(given[2]) or 2 * (np.empty((0, 3)),)
    )
    trials = UnknownCellTrials(IndexOptions(axis_range=(60.0, 75.0), retry=True))
    q = simulated("insu", 1, n_peaks=12).q
    monkeypatch.setattr(unknown_cell, "distinct", lambda *_: np.empty(0, np.int64))
    none = np.zeros((2, 2, MOST_VECTORS, 4), np.float32)
    for given, n_call in ((none, 0), (none[:1], 2), (None, 4)):
        calls.clear()
        assert trials.index(q, 0.0, given) == ([], 2)
        assert len(calls) == n_call  # two kinds of each try


def test_lengths_to_look_for_follow_from_the_peaks(device, monkeypatch):
    q = simulated("lyso", 4, n_peaks=10).q
    shortest, _ = lengths_of(q, None)
    monkeypatch.setattr(axes_search, "LONGEST_AXIS", 1.1 * shortest)  # to be quick
    (axes,) = axes_of([q], None)
    assert shortest > 10.0
    assert are_the_same(axes[0, 0], cpu_axes(q, 0, (shortest, 1.1 * shortest)))


def test_few_peaks_far_out_take_many_lengths(device):
    q = simulated("lyso", 4, n_peaks=60).q
    far = q[np.argsort(np.linalg.norm(q, axis=1))[-8:]]
    (axes,) = axes_of([far], (300.0, 315.0))
    assert 15.0 * np.linalg.norm(far, axis=1).max() / STEP > LENGTH_BLOCKS
    assert are_the_same(axes[0, 0], cpu_axes(far, 0, (300.0, 315.0)))


def test_a_list_has_the_same_bits_alone_and_in_any_batch(device):
    one, other = simulated("cys", 4, n_peaks=20).q, simulated("cys", 5, n_peaks=12).q
    (alone,) = axes_of([one], (5.0, 5.5))
    beside, _, again = axes_of([one, other, one[::-1]], (5.0, 5.5))
    assert (alone[0, :, 0, 3] > 0).all()
    assert alone.tobytes() == beside.tobytes() == again.tobytes()


def test_few_or_senseless_peaks_have_no_axes_and_harm_nobody(device):
    q, further = simulated("cys", 4, n_peaks=20).q, simulated("cys", 6, n_peaks=20).q
    nothing = np.full((MOST_PEAKS_UNKNOWN - len(q), 3), np.nan)
    holes = np.concatenate([q[:7], [[0, np.inf, 0], [0, 0, 0]], nothing[2:], q[7:], further])
    far = 900.0 * np.concatenate([np.eye(3), -np.eye(3)])
    lists = [q, holes, q[: FEWEST_PEAKS - 1], q[:0], nothing[:9], far]
    plain, same, few, none, no_number, left = axes_of(lists, (5.0, 6.0))
    assert plain.any()
    assert plain.tobytes() == same.tobytes()
    assert not few.any()
    assert not none.any()
    assert not no_number.any()
    assert left is None  # too many lengths to sample
    (wanting,) = axes_of([q[:19]], (5.0, 6.0), min_peaks=20)
    assert not wanting.any()


def test_buffers_are_as_reckoned_and_a_batch_costs_no_memory_and_no_wait(device):
    options, q = IndexOptions(axis_range=(5.0, 5.2), retry=True), simulated("cys", 4, n_peaks=8).q
    search, stream = AxesSearch(options, 3), cupy.cuda.Stream(non_blocking=True)
    reckoned = sum(array.nbytes for name, array in search.arrays.items() if not name.startswith("grid"))
    assert axes_search.axes_bytes(3, options) == reckoned
    assert np.diff(direction_grids()[1]).max() == MOST_DIRECTIONS
    batch = start(search, [q, q], stream)
    search.finish(batch, stream)
    names = ("malloc", "pinned", "sync_event", "sync_stream", "sync_device", "launch", "copy_dh")
    before = {name: device.count(name) for name in names}
    q_there, n_given_there = batch.launches[0].values[:2]
    search.start(batch, q_there, n_given_there, None, 2, stream)
    spent = {name: device.count(name) - before[name] for name in names}
    assert spent == {
        "malloc": 0, "pinned": 0, "sync_event": 0, "sync_stream": 0, "sync_device": 0,
        "launch": 6, "copy_dh": 2,
    }  # fmt: skip
    search.finish(batch, stream)
    assert len(batch.outcomes) == 2
