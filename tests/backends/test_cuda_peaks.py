# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of frames on a device: the CPU's peaks to the last bit, whatever else is in the batch.

What a peak is, rule by rule, is tested in test_peakfinder8.py for all ways.
"""

from dataclasses import replace

import emulator
import numpy as np
import pytest
from backends.peakfinder8_cases import (
    FixedMasks,
    Numbers,
    add_spots,
    make_counts,
    make_frame,
    make_geometry,
    make_panel,
    small_case,
)
from backends.ways import bits, cuda_backend, finished, fresh_device, search_batch
from thorough import sample

from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cuda import backend as backend_module
from gpuidx.backends.cuda.backend import UNFINISHED
from gpuidx.backends.cuda.buffers import Sizes
from gpuidx.backends.peak_table import strongest_first
from gpuidx.geometry.description import Lookup
from gpuidx.geometry.masks import Masks, ValueRules
from gpuidx.model import PIXEL_TYPES
from gpuidx.options import PeakOptions

emulator.need("g++", "cupy")

import cupy  # noqa: E402

WIDTH, HEIGHT = 96, 64
PANELS = [  # side by side in the slab, so that positions are not pixels
    make_panel("left", (0, 0, 40, HEIGHT), (-45.3, -31.8), max_adu=300.0),
    make_panel("right", (44, 8, 52, 50), (-3.2, -20.1), (0.998, 0.06), (-0.06, 0.998)),
]
GEOMETRY = make_geometry(PANELS, (HEIGHT, WIDTH))
OPTIONS = PeakOptions(peaks="peakfinder8", threshold=8.0, min_snr=3.0, min_pix_count=1, local_bg_radius=2)
TYPES = ("u1", "i1", *PIXEL_TYPES)
ORDERS = ("lazy", "eager", 3, 4)


@pytest.fixture(autouse=True)
def device():
    with fresh_device() as device:
        yield device


def image_of(seed: int, n_spot: int = 12, dtype: str = "u2") -> np.ndarray:
    """A frame of photon counts with spots; fractions and negative values too where the type has them."""
    numbers = Numbers(seed)
    counts = make_counts(numbers, GEOMETRY, 2, 60, 16)
    add_spots(numbers, GEOMETRY, counts, n_spot, 60)
    image = np.minimum(counts, 120).astype(dtype)
    if np.dtype(dtype).kind == "f":
        image *= np.float32(0.37)
    if np.dtype(dtype).kind in "if":
        image[5::9, 3::7] -= 2
    return image


def frames_of(n: int, dtype: str = "u2", **more):
    return [make_frame(GEOMETRY, image_of(seed, dtype=dtype), **more) for seed in range(n)]


def expected(frame, options: PeakOptions = OPTIONS, masks: FixedMasks | None = None):
    """What the CPU finds; single bytes are widened for it."""
    if frame.image.itemsize == 1:
        frame = replace(frame, image=frame.image.astype(frame.image.dtype.str[1] + "2"))
    return PeakFinder(GEOMETRY, options, masks or FixedMasks(GEOMETRY)).find(frame)


def assert_same(results, frames, options: PeakOptions = OPTIONS, masks: FixedMasks | None = None) -> int:
    """Compare; gives the number of peaks."""
    total = 0
    for found, frame in zip(results, frames, strict=True):
        peaks = expected(frame, options, masks)
        assert bits(found.peaks) == bits(peaks)
        total += len(peaks)
    return total


def make(options: PeakOptions = OPTIONS, masks: FixedMasks | None = None, **more):
    return cuda_backend(GEOMETRY, options, masks or FixedMasks(GEOMETRY), **more)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_pixel_type_gives_the_peaks_of_the_cpu(dtype: str) -> None:
    frames = frames_of(3, dtype)
    assert assert_same(search_batch(make(gpu_batch=8), frames), frames) > 8


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 31, 32, 33, 40])
def test_batches_of_any_size_give_the_peaks_of_the_cpu(n: int) -> None:
    frames = frames_of(n)
    assert assert_same(search_batch(make(gpu_batch=40), frames), frames) > 5 * n


@pytest.mark.parametrize("order", ORDERS)
def test_batches_that_overlap_do_not_disturb_each_other(device, order) -> None:
    device.set(order=order)
    backend = make(gpu_batch=3)
    frames = frames_of(14)
    batches = [frames[first : first + 3] for first in range(0, 14, 3)]
    running, results = [], []
    for frames_of_batch in batches:
        if len(running) == backend.in_flight:
            results += backend.results(running.pop(0))
        batch = backend.upload(frames_of_batch)
        backend.find_peaks(batch)
        backend.index(batch)
        running.append(batch)
    for batch in running:
        results += backend.results(batch)
    assert assert_same(results, frames) > 70


@pytest.mark.parametrize("order", ORDERS)
def test_a_batch_is_done_some_time_after_it_was_begun(device, order) -> None:
    device.set(order=order)
    backend, frames = make(gpu_batch=4), frames_of(4)
    batch = backend.upload(frames)
    backend.find_peaks(batch)
    assert_same(finished(backend, batch), frames)
    assert backend.finished(batch) == []


def test_a_batch_costs_no_memory_and_one_wait(device) -> None:
    backend = make(gpu_batch=4)
    search_batch(backend, frames_of(4))
    names = ("malloc", "pinned", "sync_event", "sync_stream", "sync_device", "launch", "copy_hd")
    before = {name: device.count(name) for name in names}
    search_batch(backend, frames_of(4))
    spent = {name: device.count(name) - before[name] for name in names}
    assert spent == {
        "malloc": 0, "pinned": 0, "sync_event": 1, "sync_stream": 0, "sync_device": 0, "launch": 7,
        "copy_hd": 4 + 4,
    }  # fmt: skip


def test_frames_are_taken_straight_from_page_locked_memory(device) -> None:
    """What changes in the ring before the device has read it is seen: nothing was copied on the way."""
    ring = np.zeros((2, HEIGHT, WIDTH), np.uint16)
    with_ring = make(gpu_batch=2, ring=memoryview(ring).cast("B"))
    ring[0], ring[1] = image_of(1), image_of(2)
    frames = [make_frame(GEOMETRY, image) for image in ring]
    batch = with_ring.upload(frames)
    ring[1] = image_of(3)
    with_ring.find_peaks(batch)
    assert_same(with_ring.results(batch), [make_frame(GEOMETRY, image_of(seed)) for seed in (1, 3)])
    with_ring.close()
    assert with_ring.notes == []


def test_memory_that_cannot_be_page_locked_only_costs_time() -> None:
    ring = np.zeros((2, HEIGHT, WIDTH), np.uint16)
    cupy.cuda.runtime.hostRegister(ring.ctypes.data, ring.nbytes, 0)
    backend = make(gpu_batch=2, ring=memoryview(ring).cast("B"))
    ring[0] = image_of(1)
    frames = [make_frame(GEOMETRY, ring[0])]
    assert assert_same(search_batch(backend, frames), frames) > 5
    assert "cannot be page-locked" in backend.notes[0]
    backend.close()
    cupy.cuda.runtime.hostUnregister(ring.ctypes.data)


@pytest.mark.parametrize("schedule", [0, 1, 2, 3])
@pytest.mark.parametrize(("dtype", "n"), [("u2", 9), ("f4", 3)])
def test_no_kernel_races_strays_or_reads_what_was_not_written(device, dtype, n, schedule) -> None:
    device.set(check=True, schedule=schedule)
    rules = FixedMasks(GEOMETRY, None, ValueRules(lessthan=-1.0, morethan=100.0, equal=7.0))
    options = replace(OPTIONS, use_saturated=False)
    rules.saturation_map = np.full((HEIGHT, WIDTH), 60, np.float32)
    frames = frames_of(n, dtype)
    with cupy.cuda.using_allocator(None):  # each array with a guard of its own
        results = search_batch(make(options, rules, gpu_batch=n), frames)
    assert_same(results, frames, options, rules)
    assert device.messages == []


def test_a_blank_frame_among_others_has_no_peaks() -> None:
    frames = frames_of(3)
    frames[1] = make_frame(GEOMETRY, np.zeros((HEIGHT, WIDTH), np.uint16))
    results = search_batch(make(gpu_batch=3), frames)
    assert assert_same(results, frames) > 10
    assert len(results[1].peaks) == 0


def test_with_all_pixels_masked_nothing_is_found() -> None:
    masks = FixedMasks(GEOMETRY, np.ones((HEIGHT, WIDTH), bool))
    for found in search_batch(make(masks=masks, gpu_batch=2), frames_of(2)):
        assert len(found.peaks) == 0


def test_frames_of_different_types_positions_and_wavelengths_share_a_batch() -> None:
    frames = [
        make_frame(GEOMETRY, image_of(seed, dtype=dtype), shift_x=shift)
        for seed, (dtype, shift) in enumerate(
            [("u2", 0.0), ("i4", 0.0), ("u2", 3e-4), ("i4", 0.0), ("u2", 0.0)]
        )
    ]
    frames = [replace(f, wavelength=1.0 + 0.1 * k) for k, f in enumerate(frames)]
    assert assert_same(search_batch(make(gpu_batch=8), frames), frames) > 40


def test_frames_at_more_positions_than_a_batch_may_have_are_left_to_the_cpu() -> None:
    backend = make(gpu_batch=7)
    places = (0, 1, 2, 2, 3, 1, 2)
    frames = [make_frame(GEOMETRY, image_of(seed), shift_x=1e-4 * at) for seed, at in enumerate(places)]
    for _ in range(2):
        results = search_batch(backend, frames)
        assert [at for at, found in zip(places, results, strict=True) if found] == [1, 2, 2, 1, 2]
        done = [(found, frame) for found, frame in zip(results, frames, strict=True) if found]
        assert_same(*zip(*done, strict=True))
    others = [frame for frame, at in zip(frames, places, strict=True) if at in (0, 3)]
    assert_same(search_batch(backend, others), others)


def test_each_frame_is_searched_with_the_mask_of_its_own_wavelength() -> None:
    """More masks than are kept, so that arrays come and go while a batch is put together."""
    frames = [
        replace(make_frame(GEOMETRY, image_of(seed % 3)), wavelength=1.0 + 0.02 * seed) for seed in range(30)
    ]
    highres = 2.1 / frames[0].detector.max_q
    backend = cuda_backend(GEOMETRY, OPTIONS, Masks(GEOMETRY, highres), gpu_batch=32)
    finder = PeakFinder(GEOMETRY, OPTIONS, Masks(GEOMETRY, highres))
    total = 0
    for frame, found in zip(frames, search_batch(backend, frames), strict=True):
        if found:
            total += len(found.peaks)
            assert bits(found.peaks) == bits(finder.find(frame)), frame.wavelength
    assert total > 5
    for frame in frames[::7]:
        (found,) = search_batch(backend, [frame])
        assert bits(found.peaks) == bits(finder.find(frame)), frame.wavelength


def test_the_memory_that_is_taken_is_what_was_computed(device) -> None:
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        backend, running = make(gpu_batch=4), []
        for step in range(4):  # each batch with two positions of its own
            shifts = (3e-4 * step, 3e-4 * step + 1e-4)
            if len(running) == backend.in_flight:
                backend.results(running.pop(0))
            running.append(
                backend.upload([make_frame(GEOMETRY, image_of(1), shift_x=shift) for shift in shifts])
            )
            backend.find_peaks(running[-1])
        rect = np.array([(p.slab_x, p.slab_y, p.width, p.height) for p in PANELS], np.int32)
        needed = Sizes.of(rect, GEOMETRY.slab_shape).bytes_needed(4, backend.in_flight, UNFINISHED)
        assert 0.9 * needed < pool.total_bytes() < 1.1 * needed


def test_a_device_that_fails_says_so_when_a_batch_is_asked_about(device) -> None:
    """Not only at the next copy: with enough batches under way there is none."""
    backend = make(gpu_batch=2)
    search_batch(backend, frames_of(2))
    device.set(lose_after=2)
    batch = backend.upload(frames_of(2))
    backend.find_peaks(batch)
    looks = (backend.finished(batch) for _ in range(1000))
    with pytest.raises(RuntimeError, match="IllegalAddress"):
        any(looks)
    device.reset()
    device.messages.clear()


def test_scattering_vectors_are_those_of_the_detector() -> None:
    frames = [
        replace(
            make_frame(GEOMETRY, image_of(seed)),
            wavelength=1.0 + 0.07 * seed,
            detector=GEOMETRY.detector(0.08 + 0.01 * (seed % 3), 1e-4 * (seed % 2), 2e-4),
        )
        for seed in range(5)
    ]
    backend = make(gpu_batch=5)
    batch = backend.upload(frames)
    backend.find_peaks(batch)
    rows, buffers = batch.rows, batch.buffers
    results = backend.results(batch)
    for number, (frame, found) in enumerate(zip(frames, results, strict=True)):
        peaks, n = found.peaks, len(found.peaks)
        q = frame.detector.q(peaks.panel, peaks.fs, peaks.ss, frame.wavelength)
        assert n > 5
        assert (
            buffers.outcome.q[rows[number], :n].get().tobytes()
            == q[strongest_first(peaks.intensity)].tobytes()
        )


@pytest.mark.parametrize("numbers", sample([range(300, 306), range(306, 330)], 2))
@pytest.mark.parametrize("fast", [False, True])
def test_random_frames_give_the_peaks_of_the_cpu(fast: bool, numbers: range) -> None:
    total = 0
    for number in numbers:
        case = small_case(number)
        options = replace(case.options, peakfinder8_fast=fast)
        frames = [case.frame, replace(case.frame, image=np.ascontiguousarray(case.image[::-1, ::-1]))]
        backend = cuda_backend(case.geometry, options, case.masks, gpu_batch=2)
        finder = PeakFinder(case.geometry, options, case.masks)
        for found, frame in zip(search_batch(backend, frames), frames, strict=True):
            peaks = finder.find(frame)
            assert bits(found.peaks) == bits(peaks), number
            total += len(peaks)
    assert total > 10 * len(numbers)


def many_spots() -> np.ndarray:
    """More spots than are copied back at first."""
    image = np.ones((HEIGHT, WIDTH), np.uint16)
    image[::2] = 2
    image[3:62:3, 2:95:3] = 90
    return image


def test_more_peaks_than_are_copied_back_at_first_all_arrive() -> None:
    options = replace(OPTIONS, min_snr=0.5)
    frames = [make_frame(GEOMETRY, image) for image in (image_of(1), many_spots(), image_of(2))]
    results = search_batch(make(options, gpu_batch=3), frames)
    assert_same(results, frames, options)
    assert len(results[1].peaks) > 300


def test_further_peaks_of_one_batch_do_not_wait_for_the_next(device) -> None:
    options = replace(OPTIONS, min_snr=0.5)
    backend = make(options, gpu_batch=1)
    running = []
    for _ in range(2):
        running.append(backend.upload([make_frame(GEOMETRY, many_spots())]))
        backend.find_peaks(running[-1])
    assert len(backend.results(running[0])[0].peaks) > 300
    under_way = device.pending
    backend.results(running[1])
    assert under_way > device.pending + 6  # its kernels, at least


def test_a_frame_with_too_many_candidates_is_left_to_the_cpu(monkeypatch) -> None:
    from gpuidx.backends.cuda import peakfinder8

    monkeypatch.setattr(peakfinder8, "FEWEST_CANDIDATES", 100)
    options = replace(OPTIONS, min_snr=0.5)
    frames = [make_frame(GEOMETRY, image) for image in (image_of(1, 2), many_spots(), image_of(2, 2))]
    first, over, last = search_batch(make(options, gpu_batch=3), frames)
    assert over is None
    assert_same([first, last], [frames[0], frames[2]], options)


def test_a_frame_with_a_larger_peak_than_there_is_room_for_is_left_to_the_cpu() -> None:
    image = np.zeros((HEIGHT, WIDTH), np.uint16)
    image[::2] = 1
    image[10:60, 2:38] = 200
    options = replace(OPTIONS, max_pix_count=5000, min_snr=0.1)
    masks = FixedMasks(GEOMETRY)
    frames = [make_frame(GEOMETRY, image_of(1)), make_frame(GEOMETRY, image)]
    ordinary, over = search_batch(make(options, masks, gpu_batch=2), frames)
    assert over is None
    assert_same([ordinary], frames[:1], options)
    (rejected,) = search_batch(
        make(gpu_batch=1), frames[1:]
    )  # with a limit below the room it is just no peak
    assert_same([rejected], frames[1:])


def test_frames_with_peaks_or_without_pixels_pass_through() -> None:
    frames = frames_of(4)
    given = expected(frames[1])
    frames[1] = replace(frames[1], peaks=given)
    frames[2] = replace(frames[2], image=None)
    results = search_batch(make(gpu_batch=2), frames)
    assert results[1].peaks is given
    assert len(results[2].peaks) == 0
    assert_same([results[0], results[3]], [frames[0], frames[3]])
    assert [found.candidates for found in results] == [None] * 4
    assert search_batch(make(gpu_batch=2), []) == []


def test_a_detector_out_of_range_is_left_to_the_cpu_and_costs_the_others_nothing() -> None:
    backend = make(gpu_batch=3)
    frames = frames_of(2)
    impossible = make_frame(GEOMETRY, image_of(3), shift_x=5.0)
    for _ in range(3):
        first, left, last = search_batch(backend, [frames[0], impossible, frames[1]])
        assert left is None
        assert_same([first, last], frames)
    assert search_batch(backend, [impossible]) == [None]


def test_more_than_was_agreed_is_refused() -> None:
    backend, frames = make(gpu_batch=2), frames_of(3)
    with pytest.raises(ValueError, match="3 frames"):
        backend.upload(frames)
    batches = [backend.upload(frames[:2]) for _ in range(backend.in_flight)]
    assert not backend.has_room
    with pytest.raises(ValueError, match="0 free buffers"):
        backend.upload(frames[:2])
    for batch in batches:
        backend.find_peaks(batch)
        assert_same(backend.results(batch), frames[:2])


def test_a_panel_may_be_anywhere_along_the_beam_before_a_frame_says_where_the_detector_is() -> None:
    panels = tuple(replace(panel, coffset=-0.1) for panel in GEOMETRY.panels)
    clen = Lookup(value=None, header="/clen", unit="m", line=1)
    geometry = replace(GEOMETRY, panels=panels, clen=clen)
    backend = cuda_backend(geometry, OPTIONS, FixedMasks(geometry), compile_for=("u2",), gpu_batch=1)
    frame = make_frame(GEOMETRY, image_of(1))
    assert_same(search_batch(backend, [frame]), [frame])


@pytest.mark.parametrize("radius", [23171, 2**30, 2**31 - 1])
def test_a_background_may_be_larger_than_the_panel(radius: int) -> None:
    options = replace(OPTIONS, local_bg_radius=radius)
    frames = frames_of(2)
    assert assert_same(search_batch(make(options, gpu_batch=2), frames), frames, options) > 5


def test_everything_is_compiled_before_the_first_frame(device, monkeypatch) -> None:
    made = []

    class Counted(backend_module.Kernels):
        def __init__(self, *args) -> None:
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(backend_module, "Kernels", Counted)
    backend = make(gpu_batch=9, compile_for=("u2", "f4"))
    assert len(made) == 4
    for n in (1, 9):
        search_batch(backend, [*frames_of(n - 1), *frames_of(1, "f4")])
        search_batch(backend, frames_of(n))
    assert len(made) == 4
