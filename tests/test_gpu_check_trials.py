# SPDX-License-Identifier: GPL-3.0-or-later
"""What `scripts/gpu-check` makes of the indexing trials; test_gpu_check.py runs all of it."""

from dataclasses import replace
from pathlib import Path

import emulator
import numpy as np
import pytest
from backends.device_axes import cpu_axes
from backends.device_trials import device_trials, start
from backends.peak_lists import simulated, trials
from backends.ways import fresh_device

from gpuidx.backends.constants import ATTEMPTS
from gpuidx.backends.unknown_cell_constants import MOST_VECTORS
from gpuidx.errors import BackendError

ROOT = Path(__file__).resolve().parent.parent
KERNELS_OF_AN_ATTEMPT = [
    "list_tasks", "take_peaks", "select_vectors", "scan_directions", "select_directions", "refine_directions",
    "keep_directions", "turn_about", "pick_orientations", "refine_orientations", "choose_orientations",
    "fit_cells", "finish_attempt",
]  # fmt: skip


@pytest.fixture
def parts(monkeypatch):
    """The folder of the script's parts on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.fixture
def device():
    emulator.need("g++", "cupy")
    with fresh_device() as device:
        yield device
    device_trials.cache_clear()  # their memory went with the device


@pytest.fixture
def report(parts, tmp_path):
    from gpu_check.report import Report

    return Report(tmp_path, 1000.0)


def test_times_of_trials_are_those_of_each_kernel_of_a_round(device):
    import cupy

    from gpuidx.backends.cuda.trial_timing import TimedTrials

    own, stream = device_trials("lyso", retry=True, most_frames=2), cupy.cuda.Stream(non_blocking=True)
    lists = [simulated("lyso", 0, n_peaks=10), simulated("lyso", 0, n_peaks=10, spurious=1.0)]
    batch = start(own, [one.q for one in lists], lists[0].shift_sigma, stream)
    own.finish(batch, stream)
    before = own.results(batch)
    launches = list(batch.begin), list(batch.attempt)
    times = TimedTrials(own, batch, stream).measure(1)
    assert list(times.kernels) == ["begin_trials", *KERNELS_OF_AN_ATTEMPT]
    assert times.kernels["begin_trials"] == 1.0  # the pretended device's time between any two events
    assert times.kernels["scan_directions"] == len(ATTEMPTS)
    assert times.launches == 1 + len(ATTEMPTS) * len(KERNELS_OF_AN_ATTEMPT)
    assert times.rounds == 2  # ten peaks, then nine
    assert 0 < times.enqueue < times.wall
    assert (batch.begin, batch.attempt) == launches
    assert [n_tries for _, n_tries in own.results(batch)] == [n_tries for _, n_tries in before] == [1, 2]


def outcome(name, **settings):
    true = simulated(name, 0, **settings)
    return trials(name).index(true.q, true.shift_sigma)


def test_results_that_differ_from_the_cpus_are_named(parts):
    from gpu_check.trial_parity import Compared

    (one,), n_tries = outcome("lyso")
    turn = np.array([[1.0, -0.001, 0.0], [0.001, 1.0, 0.0], [0.0, 0.0, 1.0]])  # 0.057 degrees
    cases = {
        "same": ((one,), n_tries),
        "none": ((), n_tries),
        "tries": ((one,), n_tries + 1),
        "score": ((replace(one, score=1.01 * one.score),), n_tries),
        "turned": ((replace(one, axes=one.axes @ turn),), n_tries),
        "left": ((replace(one, axes=-one.axes),), n_tries),
    }
    compared = Compared()
    for name, found in cases.items():
        compared.add(name, found, ((one,), n_tries))
    assert [text.split(":")[0] for text in compared.differences] == ["none", "tries", "left"]
    assert [text[:14] for text in compared.apart] == ["score: 0.000 d", "turned: 0.057 "]
    assert (compared.lists, compared.lattices) == (6, 6)
    compared.add_bits("alone", list(cases.values()), [cases["same"]] * 6)
    assert len(compared.differences) == 3 + 5


def test_more_than_one_lattice_in_a_hundred_must_not_be_apart(report):
    from gpu_check import trial_parity

    check = trial_parity.Check()
    check.compared.lattices, check.compared.apart = 200, ["one", "two"]
    trial_parity._judge(report, trial_parity.MADE_UP, check)
    assert report.failures == []
    check.compared.lattices = 199
    trial_parity._judge(report, trial_parity.MADE_UP, check)
    assert len(report.failures) == 1


def test_every_list_of_the_benchmark_must_be_right_and_none_random_accepted(report):
    from backends.peak_lists import Tally
    from gpu_check import trial_parity

    check = trial_parity.Check()
    check.tallies["one lattice"] = {
        "clean": Tally(n_lists=84, n_right=84), "few10": Tally(n_lists=84, n_right=83),
        "bw1": Tally(n_lists=84, n_right=83, n_wrong=1), "random": Tally(n_lists=120, n_wrong=1),
    }  # fmt: skip
    trial_parity._judge(report, trial_parity.MADE_UP, check)
    assert report.failures == []
    trial_parity._judge(report, trial_parity.BENCHMARK, check)
    assert [text.split(": ")[1] for text in report.failures] == ["few10", "bw1", "random"]


def test_made_up_lists_of_a_cell_fill_one_batch(parts):
    from backends.device_trials import MOST_FRAMES
    from gpu_check.plan import FULL
    from gpu_check.trial_lists import made_lists

    for name in ("lyso", "p1", "psi", "cys"):
        lists = made_lists(name, FULL.trials)
        assert MOST_FRAMES - 4 <= len(lists) <= MOST_FRAMES
        assert min(len(one.q) for one in lists) == 0
    assert max(len(one.q) for one in made_lists("psi", FULL.trials)) > 2000


@pytest.mark.data
def test_benchmark_lists_are_judged(device, report, data_folder, monkeypatch):
    from gpu_check import trial_lists, trial_parity
    from gpu_check.plan import TINY, TrialPlan

    monkeypatch.setattr(trial_lists, "DATA", data_folder)
    chosen = TrialPlan(cells=("lyso",), sets=("few10", "random"), per_set=1, odd=False, alone=0, benchmark=1)
    trial_parity.check_all(report, replace(TINY, trials=chosen), 0)
    found = report.data["trials"]["the benchmark"]
    assert (found["sets"]["few10"]["right"], found["sets"]["random"]["wrong"]) == (1, 0)
    assert report.failures == []


def test_a_crystal_on_a_small_detector_is_found(parts):
    from gpu_check.frames import CELL, PEAK_OPTIONS, CrystalImages, backend_options

    from gpuidx.backends.cpu.peakfinder8 import PeakFinder
    from gpuidx.backends.cpu.trials import Trials
    from gpuidx.backends.known_cell import shift_sigma

    images = CrystalImages(128)
    finder, own = PeakFinder(images.geometry, PEAK_OPTIONS, images.masks), Trials(CELL, backend_options(1))
    counts = []
    for image in (*images.hits, *images.blanks):
        frame = images.frame(image)
        peaks = finder.find(frame)
        q = frame.detector.q(peaks.panel.astype(np.intp), peaks.fs, peaks.ss, frame.wavelength)
        candidates, _ = own.index(q, shift_sigma(frame.detector, frame.wavelength))
        counts.append(len(candidates))
    assert counts == [1] * len(images.hits) + [0] * len(images.blanks)


@pytest.mark.parametrize("error", [BackendError, MemoryError, RuntimeError])
def test_what_there_is_no_memory_for_is_not_measured_but_the_rest_is(device, report, monkeypatch, error):
    from gpu_check import trial_rates
    from gpu_check.plan import TINY

    def refuse_two(cell_name, kind, n_peak, n_list, repeats):
        if n_list == 2:
            raise error("too little memory")
        result = {"cell": cell_name, "kind": kind, "n_peak": n_peak, "n_list": n_list, "indexed": 1}
        times = dict.fromkeys(("device", "first_round", "wall", "enqueue", "rounds", "launches"), 1)
        return result | {"ms_a_list": 1.0, "wall_ms_a_list": 1.0, "times": times | {"kernels": {}}}

    def refuse(*_):
        raise error("too little memory")

    monkeypatch.setattr(trial_rates, "measure_lists", refuse_two)
    monkeypatch.setattr(trial_rates, "measure_path", refuse)
    trial_rates.measure_all(report, TINY, 0)
    assert [one["n_list"] for one in report.data["trial_rates"]] == [1]
    assert report.data["trial_paths"] == []
    assert report.failures == []


def test_axes_are_compared_and_the_lattices_that_are_made_of_them(parts, monkeypatch):
    from gpu_check import axes_parity
    from gpu_check.plan import AxesPlan

    one, plan = simulated("cys", 4, n_peaks=30), AxesPlan(axis_range=(5.0, 13.0))
    same = np.zeros((1, 2, MOST_VECTORS, 4), np.float32)
    for kind in range(2):
        own = cpu_axes(one.q, kind, plan.axis_range)
        same[0, kind, : len(own)] = own
    monkeypatch.setattr(axes_parity, "axes_of", lambda lists, axis_range: [same, 0 * same, None])
    compared = axes_parity.compare([one] * 3, plan)
    assert (compared.searches, compared.left, compared.lattices) == (4, 1, 2)
    assert compared.apart == [f"cys, simulated, list 1, kind {kind}" for kind in range(2)]
    (text,) = compared.differences
    assert text.startswith("cys, simulated, list 1: 0 lattices")


def test_goals_of_the_trials_are_judged_by_the_figures(report):
    from gpu_check import verdict

    hits = {"kind": "hits", "cell": verdict.RATE_CELL, "n_peak": 100}
    case = {"side": 2048, "dtype": "u2", "content": "20 % hits"}
    report.data["trial_rates"] = [
        hits | {"n_list": 64, "ms_a_list": 0.09, "wall_ms_a_list": 0.1},
        hits | {"n_list": 1, "ms_a_list": 1.0, "wall_ms_a_list": 1.9},
        hits | {"n_list": 64, "ms_a_list": 0.01, "wall_ms_a_list": 0.01, "cell": "cys"},
    ]
    report.data["trial_paths"] = [
        {"case": case | {"n_frame": 32}, "frames_per_s": 1900.0},
        {"case": case | {"n_frame": 64}, "frames_per_s": 2100.0},
        {"case": case | {"side": 1024, "n_frame": 64}, "frames_per_s": 9000.0},
    ]
    verdict.judge(report)
    goals = {goal["what"]: (goal["value"], goal["verdict"]) for goal in report.data["goals"]}
    assert goals["indexing trials, 100 peaks, batches of 64, ms a hit"] == (0.09, "MISSED")
    assert goals["indexing trials, 100 peaks, one frame alone, ms"] == (1.9, "met")
    assert goals["host memory to candidate lattices, 20 % hits, best batch, frames/s"] == (2100.0, "met")
    assert report.failures == []
