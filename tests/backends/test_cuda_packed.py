# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel that decodes compressed pixels: the pixels of the CPU's library, and never a byte outside."""

import math
from dataclasses import replace

import emulator
import numpy as np
import pytest
from backends.kernel_mutants import change_kernels, copy_kernels
from backends.packed_mutants import PACKED_MUTANTS, findings
from backends.packed_pixels import (
    DAMAGES,
    LZ4_BLOCK,
    counts,
    decoded,
    fault_of,
    many_sizes,
    module,
    packed,
    reference,
    sent,
)
from backends.peakfinder8_cases import (
    FixedMasks,
    Numbers,
    add_spots,
    make_counts,
    make_frame,
    make_geometry,
    make_panel,
)
from backends.ways import bits, cuda_backend, fresh_device, search_batch
from thorough import sample

from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cuda import sources
from gpuidx.model import NO_LIMITS
from gpuidx.options import PeakOptions

emulator.need("g++", "cupy")

GEOMETRY = make_geometry([make_panel("all", (0, 0, 101, 67), (-45.3, -31.8))], (67, 101))
OPTIONS = PeakOptions(peaks="peakfinder8", threshold=8.0, min_snr=3.0, min_pix_count=1, local_bg_radius=2)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4"])
@pytest.mark.parametrize("mode", ["fast", "check"])
def test_pixels_are_those_of_the_library(dtype, mode):
    rng = np.random.default_rng(3)
    sizes = many_sizes(dtype)
    if mode == "check":
        sizes = [*sizes[:11], LZ4_BLOCK // np.dtype(dtype).itemsize + 11]
    for number, n_pixel in enumerate(sizes):
        for mean in (0, 0.02, 3, 2000) if mode == "fast" else ((0.02, 30)[number % 2],):
            image = counts(rng, n_pixel, dtype, mean)
            found, is_damaged = decoded(sent(image), mode, schedule=number % 3)
            assert not is_damaged
            np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("block", [8, 24, 64, 1000])
def test_blocks_may_have_any_size_up_to_the_largest(block):
    rng = np.random.default_rng(4)
    for dtype in ("u1", "u2", "u4"):
        image = counts(rng, 2 * block + 29, dtype, 1.0)
        one = sent(image, block)
        assert one.block == block
        found, is_damaged = decoded(one, "fast")
        assert not is_damaged
        np.testing.assert_array_equal(found, image)


def test_every_kind_of_match_is_copied_right():
    tile = np.arange(90, dtype=np.uint8)
    for period in (1, 2, 3, 5, 8, 16, 31, 32, 33, 48, 63, 64, 65, 90):
        image = np.resize(tile[:period], 4000)
        one = sent(image)
        found, is_damaged = decoded(one, "fast")
        assert not is_damaged
        np.testing.assert_array_equal(found, reference(one))


def test_damage_is_rejected_or_decoded_as_the_library_does_and_nothing_else_is_touched():
    found = [fault_of(seed) for seed in range(40 * len(DAMAGES))]
    assert [fault for _, fault in found if fault] == []
    assert {"rejected", "decoded"} <= {outcome for outcome, _ in found}


def test_a_damaged_block_becomes_zeros_and_leaves_its_neighbours_alone():
    image = np.full(64, 7, np.uint16)
    one = sent(image, 16)
    chunk = bytearray(one.chunk)
    chunk[int(one.starts[1]) + 4] = 0xFF  # a length that goes beyond the block
    found, is_damaged = decoded(type(one)(bytes(chunk), one.starts, 64, one.dtype, 16))
    assert is_damaged
    np.testing.assert_array_equal(found.reshape(4, 16), [[7] * 16, [0] * 16, [7] * 16, [7] * 16])


@pytest.fixture
def device():
    with fresh_device() as device:
        yield device


def frame_of(seed: int, dtype: str):
    numbers = Numbers(seed)
    image = make_counts(numbers, GEOMETRY, 2, 60, 16)
    add_spots(numbers, GEOMETRY, image, 12, 60)
    return make_frame(GEOMETRY, np.minimum(image, 120).astype(dtype))


def compressed(frame, block: int = 0):
    return replace(frame, image=None, packed=packed(frame.image, block))


def spoiled(frame, number: int = 2):
    """With a block that leads out of the chunk."""
    data = frame.packed.data.copy()
    data[frame.packed.starts[number] + 4] = 0xFF
    return replace(frame, packed=replace(frame.packed, data=data))


def backend_of(**more):
    return cuda_backend(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY), gpu_batch=10, **more)


@pytest.mark.parametrize(("order", "types"), [("lazy", ("u2", "i4", "u1")), (3, ("u2", "i4"))])
def test_compressed_frames_give_the_peaks_of_the_others_in_the_same_batch(device, order, types):
    device.set(order=order)
    plain = [frame_of(seed, types[seed % len(types)]) for seed in range(6)]
    sent_so = [compressed(frame, 512 * (k % 3)) for k, frame in enumerate(plain)]
    backend = backend_of()
    expected = search_batch(backend, plain)
    mixed = [sent_so[0], plain[1], *sent_so[2:5], plain[5]]
    for frames in (sent_so, mixed, sent_so[::-1]):
        found = search_batch(backend, frames)
        found = found[::-1] if frames[0] is sent_so[-1] else found
        assert [bits(one.peaks) for one in found] == [bits(one.peaks) for one in expected]
    assert sum(len(one.peaks) for one in expected) > 20


def test_bad_pixels_of_a_series_are_left_out(device):
    plain = [frame_of(seed, "u2") for seed in range(3)]
    rng = np.random.default_rng(7)
    first, second, third = (rng.random(GEOMETRY.slab_shape) < 0.1 for _ in range(3))
    backend = backend_of()
    for masks, n_left in (
        ((None, first, first), 0),
        ((second, third, second), 0),
        ((first, second, third), 1),
    ):
        frames = [compressed(frame) for frame in plain]
        frames = [
            replace(frame, packed=replace(frame.packed, masked=mask))
            for frame, mask in zip(frames, masks, strict=True)
        ]
        found = search_batch(backend, frames)
        assert sum(one is None for one in found) == n_left  # a batch has room for two tables
        for frame, mask, one in zip(plain, masks, found, strict=True):
            expected = PeakFinder(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY, mask)).find(frame)
            assert one is None or bits(one.peaks) == bits(expected)


@pytest.mark.parametrize(
    ("dtype", "limits"),
    [
        ("u2", (-math.inf, 60.0)),
        ("u4", (-math.inf, 4294967040.0)),
        ("i4", (3.0, math.inf)),
        ("u1", (1.0, 90.0)),
    ],
)
def test_values_beyond_the_limits_of_a_frame_are_left_out(device, dtype, limits):
    frame = frame_of(4, dtype)
    frame.image[3::9, ::5] = np.iinfo(dtype).max if dtype != "i4" else np.iinfo(dtype).min
    one = compressed(frame)
    backend = backend_of()
    for given in (limits, NO_LIMITS):
        (found,) = search_batch(backend, [replace(one, packed=replace(one.packed, limits=given))])
        outside = (frame.image < given[0]) | (frame.image > given[1])
        assert outside.any() == (given is limits)
        wide = replace(frame, image=frame.image.astype({"u1": "u2"}.get(dtype, dtype)))
        expected = PeakFinder(GEOMETRY, OPTIONS, FixedMasks(GEOMETRY, outside)).find(wide)
        assert bits(found.peaks) == bits(expected)


def test_a_damaged_frame_is_left_to_the_cpu_and_harms_no_other(device):
    device.set(check=True)
    plain = [frame_of(seed, "u2") for seed in range(3)]
    backend = backend_of()
    expected = search_batch(backend, plain)
    frames = [compressed(frame, 512) for frame in plain]
    for bad in range(3):
        found = search_batch(
            backend, [spoiled(frame) if k == bad else frame for k, frame in enumerate(frames)]
        )
        assert [one is None for one in found] == [k == bad for k in range(3)]
        for one, other in zip(found, expected, strict=True):
            assert one is None or bits(one.peaks) == bits(other.peaks)
    again = search_batch(backend, plain)  # nothing stays behind
    assert [bits(one.peaks) for one in again] == [bits(one.peaks) for one in expected]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"block": 12}, "blocks of 12 pixels"),
        ({"block": 8192}, "blocks of 8192 pixels"),
        ({"starts": np.zeros(3, np.int32)}, "3 places"),
        ({"dtype": np.dtype(">u2")}, "expected integers"),
        ({"data": np.zeros(67 * 101, np.uint8)}, "bytes"),
    ],
)
def test_what_a_device_has_no_room_for_is_refused(device, change, text):
    frame = compressed(frame_of(1, "u2"), 512)
    with pytest.raises(TypeError, match=text):
        backend_of().upload([replace(frame, packed=replace(frame.packed, **change))])


@pytest.mark.parametrize("mutant", sample(PACKED_MUTANTS, 5), ids=lambda mutant: mutant.says)
def test_a_defect_of_the_kernel_is_caught(mutant, tmp_path, monkeypatch):
    folder = copy_kernels(tmp_path)
    monkeypatch.setattr(sources, "folder", lambda: folder)
    change_kernels(folder, mutant)
    module.cache_clear()
    try:
        found = findings()
    finally:
        module.cache_clear()
    assert not found.isdisjoint(mutant.caught_by.split(" or ")), found
