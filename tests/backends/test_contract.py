# SPDX-License-Identifier: GPL-3.0-or-later
"""What every backend must do: the same body for each; and how one is chosen."""

import math
from dataclasses import replace

import numpy as np
import pytest
from backends.peak_lists import nearest
from backends.ways import cuda_backend

from gpuidx import handover
from gpuidx.backends import choose_backend
from gpuidx.backends.cpu import unknown_cell
from gpuidx.backends.known_cell import shift_sigma
from gpuidx.cell import parse_cell
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks
from gpuidx.lattice import primitive_axes, same_lattice
from gpuidx.model import PeakList
from gpuidx.options import Options
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings

BACKENDS = ["cpu", "cuda"]
SIZE = 512


@pytest.fixture(scope="module")
def geometry():
    return parse_geometry(default_geometry(SIZE), "test.geom")


@pytest.fixture(scope="module")
def cell():
    return parse_cell(LYSOZYME, "test.cell")


@pytest.fixture(scope="module")
def simulated(geometry, cell):
    """Eight frames with their truth; the third is blank."""
    simulator = Simulator(geometry, cell, FrameSettings(seed=3, photons=400.0))
    blank = Simulator(geometry, cell, FrameSettings(seed=3, hit_fraction=0.0))
    return [(blank if number == 2 else simulator).numbered(number) for number in range(8)]


class WithWorker:
    """A device and a worker, which makes the trials of frames that had peaks of their own."""

    def __init__(self, device, cpu):
        self.device, self.cpu = device, cpu
        self.upload, self.find_peaks, self.index = device.upload, device.find_peaks, device.index

    def results(self, batch):
        frames = batch.frames
        return [self._complete(*pair) for pair in zip(frames, self.device.results(batch), strict=True)]

    def _complete(self, frame, found):
        if found.candidates is not None:
            return found
        return process(self.cpu, [replace(frame, peaks=found.peaks)])[0]


@pytest.fixture(params=BACKENDS)
def make(request, geometry, cell):
    """Makes a backend from options."""

    def make(**given):
        options, masks = options_of(**given), masks_of(geometry)
        cpu = choose_backend(options, geometry, masks, cell)
        if request.param == "cpu":
            return cpu
        return WithWorker(cuda_backend(geometry, options, masks, cell, gpu_batch=65), cpu)

    return make


def options_of(**options):
    chosen = {
        "geometry": "test.geom", "output": "test.stream", "pdb": "test.cell", "zmq_input": ("tcp://test:1",),
        "zmq_request": "next", "peaks": "peakfinder8", "threshold": 15.0, "min_snr": 4.0,
        "min_pix_count": 2, "min_peaks": 10,
    }  # fmt: skip
    return Options(**(chosen | options))


def masks_of(geometry):
    return Masks(geometry, math.inf, False)


def process(backend, frames):
    batch = backend.upload(frames)
    backend.find_peaks(batch)
    backend.index(batch)
    return backend.results(batch)


def bits(found):
    peaks = found.peaks
    arrays = [peaks.fs, peaks.ss, peaks.panel, peaks.intensity]
    for candidate in found.candidates:
        arrays += [candidate.axes, candidate.shift, np.array(candidate.score)]
    return found.n_tries, [array.tobytes() for array in arrays]


def with_peaks(frame, peaks):
    return replace(frame, peaks=peaks, image=None)


def test_hits_are_indexed_and_blanks_are_not(make, simulated):
    results = process(make(), [s.frame() for s in simulated])
    for number, (found, true) in enumerate(zip(results, simulated, strict=True)):
        if number == 2:
            assert (found.candidates, found.n_tries) == ((), 0)
            assert len(found.peaks) < 10
            continue
        (candidate,) = found.candidates
        truth = primitive_axes(np.linalg.inv(true.truth.crystals[0].recip).T, "P")
        assert nearest(candidate.axes, truth[None])[0] == 0
        assert len(found.peaks) >= 10
        assert found.n_tries >= 1


def test_a_frame_alone_and_among_others_gives_the_same_bits(make, simulated, request):
    backend = make(multi=True)
    half = 5 if "cuda" in request.node.name else 32  # the emulator takes its time
    frames = [s.frame() for s in simulated]
    batch = [frames[k % 7 + 1] for k in range(half)] + [frames[0]] + [frames[k % 5 + 3] for k in range(half)]
    together = process(backend, batch)
    (alone,) = process(backend, frames[:1])
    assert alone.candidates
    assert bits(together[half]) == bits(alone)
    assert [bits(f) for f in together[:4]] == [bits(f) for f in process(make(multi=True), batch[:4])]


def test_frames_with_peaks_keep_them(make, simulated):
    searched = process(make(), [s.frame() for s in simulated])
    frames = [with_peaks(s.frame(), f.peaks) for s, f in zip(simulated, searched, strict=True)]
    for given, found, again in zip(
        searched, process(make(), frames), process(make(peaks="msgpack"), frames), strict=True
    ):
        assert found.peaks is given.peaks
        assert bits(found) == bits(again)
        assert [len(f.candidates) for f in (found, given)] == [len(given.candidates)] * 2
        for one, other in zip(found.candidates, given.candidates, strict=True):
            assert nearest(one.axes, other.axes[None])[0] == 0


def test_order_of_peaks_does_not_matter(make, simulated):
    ((searched,), rng) = process(make(), [simulated[0].frame()]), np.random.default_rng(0)
    shuffled = searched.peaks.select(rng.permutation(len(searched.peaks)))
    (found,) = process(make(), [with_peaks(simulated[0].frame(), shuffled)])
    assert nearest(found.candidates[0].axes, searched.candidates[0].axes[None])[0] == 0


def test_nothing_is_searched_with_peaks_none(make, simulated):
    (found,) = process(make(peaks="none"), [simulated[0].frame()])
    assert len(found.peaks) == 0
    assert (found.candidates, found.n_tries) == ((), 0)


def test_no_trials_with_indexing_none(make, simulated):
    (found,) = process(make(indexing="none"), [simulated[0].frame()])
    assert len(found.peaks) > 10
    assert (found.candidates, found.n_tries) == ((), 0)


def test_no_trials_of_frames_that_are_no_hits(make, simulated):
    (hit,) = process(make(), [simulated[0].frame()])
    count = len(hit.peaks)
    for least, n_candidates in ((count, 1), (count + 1, 0)):
        (found,) = process(make(min_peaks=least), [simulated[0].frame()])
        assert len(found.candidates) == n_candidates
        assert (found.n_tries > 0) == (n_candidates > 0)


def test_the_strongest_peaks_are_kept_in_repetitions(make, simulated):
    (hit,) = process(make(), [simulated[0].frame()])
    rng = np.random.default_rng(1)
    n_good, n_weak = 13, 100
    good = hit.peaks.select(np.argsort(-hit.peaks.intensity)[:n_good])
    outcomes = set()
    for _ in range(20):
        where = rng.uniform(0, SIZE // 2, (2, n_weak))
        weak = PeakList(
            fs=np.concatenate([where[0], good.fs]),
            ss=np.concatenate([where[1], good.ss]),
            panel=np.concatenate([rng.integers(0, 4, n_weak), good.panel]).astype(np.int32),
            intensity=np.concatenate([np.full(n_weak, 1.0), good.intensity]),
        )
        frame = with_peaks(simulated[0].frame(), weak)
        (once,), (again,) = process(make(retry=False), [frame]), process(make(), [frame])
        assert once.n_tries == 1
        outcomes.add((bool(once.candidates), bool(again.candidates)))
        if not once.candidates:
            assert 1 < again.n_tries <= 6
    assert (False, True) in outcomes
    assert (True, False) not in outcomes


def test_peaks_without_finite_positions_are_no_trouble(make, simulated):
    (hit,) = process(make(), [simulated[0].frame()])
    nan = np.full(5, np.nan)
    peaks = PeakList(
        fs=np.concatenate([nan, hit.peaks.fs]),
        ss=np.concatenate([nan, hit.peaks.ss]),
        panel=np.concatenate([np.zeros(5, np.int32), hit.peaks.panel]),
        intensity=np.concatenate([nan, hit.peaks.intensity]),
    )
    (found,) = process(make(), [with_peaks(simulated[0].frame(), peaks)])
    assert nearest(found.candidates[0].axes, hit.candidates[0].axes[None])[0] == 0


def test_an_empty_batch_gives_nothing(make):
    assert process(make(), []) == []


def test_results_without_the_earlier_steps_are_empty(make, simulated):
    backend = make()
    (found,) = backend.results(backend.upload([simulated[0].frame()]))
    assert (len(found.peaks), found.candidates, found.n_tries) == (0, (), 0)


def test_two_batches_may_be_under_way(make, simulated):
    backend = make()
    first, second = (backend.upload([s.frame()]) for s in simulated[:2])
    for batch in (first, second):
        backend.find_peaks(batch)
    for batch in (second, first):
        backend.index(batch)
    found = [*backend.results(first), *backend.results(second)]
    assert [bits(f) for f in found] == [bits(f) for f in process(backend, [s.frame() for s in simulated[:2]])]


def test_a_frame_that_takes_a_device_long_keeps_neither_results_nor_room(geometry, cell, simulated):
    device = cuda_backend(geometry, options_of(), masks_of(geometry), cell, gpu_batch=4)
    other = parse_cell(LYSOZYME.replace("79.10", "61.30").replace("37.90", "98.20"), "other.cell")
    slow = Simulator(geometry, other, FrameSettings(seed=3, photons=400.0)).numbered(0).frame()
    batch = device.upload([slow, *(s.frame() for s in simulated[1:4])])
    device.find_peaks(batch)
    device.index(batch)
    given = []
    while not given:
        given += device.finished(batch)
    assert [number for number, _ in given] == [1, 2, 3]
    further = [device.upload([s.frame()]) for s in simulated[4:6]]  # as many as without it
    assert not device.has_room
    while len(given) < 4:
        given += device.finished(batch)
    number, found = given[3]
    assert (number, found.candidates) == (0, ())
    assert found.n_tries > 1
    for one in further:
        device.results(one)


def test_backends_are_named(geometry, cell):
    assert choose_backend(options_of(), geometry, masks_of(geometry), cell).name == "cpu"


def test_without_a_cell_lattices_of_any_cell_are_looked_for_until_there_is_one(geometry, cell, simulated):
    backend = choose_backend(options_of(), geometry, masks_of(geometry), None)
    frame = simulated[0].frame()
    (found,) = process(backend, [frame])
    assert len(found.peaks) > 10
    assert found.n_tries >= 1
    backend.use_cell(cell)
    (known,) = process(backend, [frame])
    expected = choose_backend(options_of(), geometry, masks_of(geometry), cell)
    (theirs,) = process(expected, [frame])
    assert len(known.candidates) == len(theirs.candidates) == 1
    np.testing.assert_array_equal(known.candidates[0].axes, theirs.candidates[0].axes)


def test_without_a_cell_a_worker_goes_on_with_the_axes_of_a_device(geometry, simulated, monkeypatch):
    run, masks = options_of(axis_range=(36.0, 81.0), retry=False), masks_of(geometry)
    frames = [simulated[0].frame(), simulated[2].frame()]
    worker, place = choose_backend(run, geometry, masks, None), memoryview(bytearray(handover.FOUND_BYTES))
    expected = process(worker, frames)
    found = process(cuda_backend(geometry, run, masks, gpu_batch=2), frames)
    monkeypatch.setattr(unknown_cell, "find_axes", None)  # the worker looks for none
    for frame, own, theirs in zip(frames, found, expected, strict=True):
        assert own.candidates is None
        assert handover.write_found(place, own)
        read = handover.read_found(place)
        batch = worker.upload([replace(frame, peaks=read.peaks)])
        worker.find_peaks(batch)
        worker.index(batch, read.axes)
        (done,) = worker.results(batch)
        assert (len(done.candidates), done.n_tries) == (len(theirs.candidates), theirs.n_tries)
        for one, other in zip(done.candidates, theirs.candidates, strict=True):
            assert same_lattice(one.axes, other.axes)[1] < 0.01
    assert [len(one.candidates) for one in expected] == [1, 0]


def test_without_indexing_there_are_no_trials(geometry, cell, simulated):
    for given in (cell, None):
        backend = choose_backend(options_of(indexing="none"), geometry, masks_of(geometry), given)
        (found,) = process(backend, [simulated[0].frame()])
        assert (found.candidates, found.n_tries) == ((), 0)


def test_expected_shift_is_one_and_a_half_pixels(geometry):
    for clen in (0.08, -0.08):
        detector = geometry.detector(clen)
        pitch = detector.pitch[0]
        assert shift_sigma(detector, 1.3) == pytest.approx(1.5 * pitch / (0.08 * 1.3))


def test_a_barrel_about_the_sample_has_an_expected_shift(geometry):
    detector = geometry.detector(0.08)
    barrel = replace(detector, clen=0.0)
    corner = np.linalg.norm(detector.corner, axis=1).mean() * detector.pitch[0]
    assert shift_sigma(barrel, 1.3) == pytest.approx(1.5 * detector.pitch[0] / (corner * 1.3), rel=1e-3)
