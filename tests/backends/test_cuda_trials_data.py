# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexing trials on a device give the CPU's lattices of the reference data."""

import emulator
import numpy as np
import pytest
from backends.device_trials import LARGEST_ANGLE, compare, compare_lists, device_trials
from backends.peak_lists import a_few_of_each, read_benchmark
from backends.test_trials_measured import FRAMES, ONE_TRY, SHIFT_SIGMA, lists_of
from backends.test_trials_measured import lysozyme as measured_lysozyme
from backends.ways import fresh_device
from thorough import sample

from gpuidx.backends.cpu.trials import Trials
from gpuidx.backends.cuda.trials import DeviceTrials
from gpuidx.cell import read_cell

emulator.need("g++", "cupy")

lysozyme = measured_lysozyme  # a fixture


@pytest.fixture(autouse=True)
def device():
    with fresh_device() as device:
        yield device
    device_trials.cache_clear()  # their memory went with the device


@pytest.mark.data
@pytest.mark.parametrize("quarter", sample(range(4), 4))
def test_benchmark_lists_give_the_lattices_of_the_cpu(data_folder, quarter):
    """Of the pseudo-symmetric cell rounding may decide between its settings: hence not all."""
    benchmark = read_benchmark(data_folder)
    cells = sorted({one.cell_name for one in benchmark})[quarter::4]
    lists = [one for one in a_few_of_each(benchmark, 1) if one.cell_name in cells]
    angles = compare(lists) + compare([one for one in lists if one.set_name in ("lat2", "lat3")], multi=True)
    assert len(lists) == 11 * 3
    assert len(angles) == (10 + 2 + 3) * 3
    assert np.mean(np.array(angles) < LARGEST_ANGLE) >= 0.95
    assert max(angles) < 0.5


@pytest.mark.data
def test_measured_lists_give_the_lattices_of_the_cpu(lysozyme):
    own, lists = lysozyme
    some = [(lists[name], SHIFT_SIGMA) for name in ("image0_local", "image4_radial", "image9_peakfinder8")]
    angles = compare_lists(own, DeviceTrials(own.cell, ONE_TRY, 4), some)
    assert len(angles) == 3
    assert max(angles) < LARGEST_ANGLE


@pytest.mark.data
@pytest.mark.parametrize("name", FRAMES)
def test_real_frames_give_the_lattices_of_the_cpu(data_folder, name):
    (cell_file,) = (data_folder / "images" / FRAMES[name]).glob("*.cell")
    stream = data_folder / "streams" / "from_frames" / f"{name}.stream.gz"
    cell, frames = lists_of(stream, read_cell(cell_file))
    own = Trials(cell, ONE_TRY)
    some = [(q, sigma) for q, sigma, _ in frames]
    angles = compare_lists(own, DeviceTrials(own.cell, ONE_TRY, len(some)), some)
    assert len(angles) == len(frames)
    assert max(angles) < LARGEST_ANGLE
