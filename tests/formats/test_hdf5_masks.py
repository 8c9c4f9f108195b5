# SPDX-License-Identifier: GPL-3.0-or-later

import h5py
import numpy as np
import pytest
from formats.making import RNG, image_of
from formats.making_files import FILE, FRAMES, files_decoder, read, write
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats import Decoder
from gpuidx.geometry import parse_geometry
from gpuidx.geometry.masks import Masks

MASKED = FILE.replace(
    "{extra}",
    "dim0 = %\ndim1 = ss\ndim2 = fs\nmask0_data = /entry/mask\nmask0_goodbits = 0\nmask0_badbits = 2",
)
MASK = RNG.integers(0, 4, (64, 64)).astype("u1")


def masked_decoder(text: str = MASKED) -> Decoder:
    return files_decoder(text, masks=Masks(parse_geometry(text, "test.geom")))


@pytest.mark.parametrize(
    "mask", [MASK, np.stack([MASK] * 3), MASK[None]], ids=["for all", "each", "one of one"]
)
def test_masks_beside_the_frames_make_pixels_bad(tmp_path, mask):
    filename, using = write(tmp_path / "a.h5", FRAMES), masked_decoder()
    with h5py.File(filename, "a") as file:
        file["entry/mask"] = mask
    for i in range(3):
        image = image_of(read(filename, f"//{i}", using))
        assert_array_equal(np.isnan(image), MASK & 2 != 0)
        assert_array_equal(image[~np.isnan(image)], FRAMES[i][MASK & 2 == 0])


def test_each_frame_may_have_a_mask_of_its_own(tmp_path):
    filename, using = write(tmp_path / "a.h5", FRAMES), masked_decoder()
    masks = RNG.integers(0, 4, (3, 64, 64)).astype("u1")
    with h5py.File(filename, "a") as file:
        file["entry/mask"] = masks
    for i in (0, 2, 1):
        assert_array_equal(np.isnan(image_of(read(filename, f"//{i}", using))), masks[i] & 2 != 0)


def test_each_file_has_masks_of_its_own(tmp_path):
    using, names = masked_decoder(), [write(tmp_path / f"{i}.h5", FRAMES) for i in range(2)]
    for i, name in enumerate(names):
        with h5py.File(name, "a") as file:
            file["entry/mask"] = MASK if i else np.zeros_like(MASK)
    for i in (0, 1, 0, 1):
        assert np.isnan(image_of(read(names[i], "//1", using))).any() == bool(i)


@pytest.mark.parametrize(
    ("mask", "why", "text"),
    [
        (None, "missing key", "'/entry/mask' is not there"),
        (MASK[:40], "bad mask", "panel p1 is larger"),
        (MASK[0], "bad mask", "has shape (64,)"),
        (np.stack([MASK] * 2), "bad mask", "there is no index 2"),
        (np.full((64, 64), b"a"), "bad mask", "expected numbers"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(tmp_path, mask, why, text):
    filename = write(tmp_path / "a.h5", FRAMES)
    if mask is not None:
        with h5py.File(filename, "a") as file:
            file["entry/mask"] = mask
    with pytest.raises(Rejected) as caught:
        read(filename, "//2", masked_decoder())
    assert caught.value.reason == why
    assert text in caught.value.detail


SATURATED = FILE.replace("{extra}", "dim0 = %\ndim1 = ss\ndim2 = fs\nsaturation_map = /entry/limits")
LIMITS = RNG.random((64, 64)) * 1e4


def test_saturation_maps_beside_the_frames_come_with_them(tmp_path):
    filename, using = write(tmp_path / "a.h5", FRAMES), masked_decoder(SATURATED)
    with h5py.File(filename, "a") as file:
        file["entry/limits"] = LIMITS
    for i in (0, 2):
        frame = read(filename, f"//{i}", using)
        assert frame.saturation is not None
        assert_array_equal(frame.saturation, LIMITS.astype("f4"))
        assert_array_equal(image_of(frame), FRAMES[i])
    other = write(tmp_path / "b.h5", FRAMES)
    with h5py.File(other, "a") as file:
        file["entry/limits"] = np.stack([LIMITS, LIMITS + 1, LIMITS + 2])
    for i in (2, 0):
        frame = read(other, f"//{i}", using)
        assert frame.saturation is not None
        assert_array_equal(frame.saturation, (LIMITS + i).astype("f4"))


def test_a_saturation_map_that_does_not_fit_is_named(tmp_path):
    filename = write(tmp_path / "a.h5", FRAMES)
    with h5py.File(filename, "a") as file:
        file["entry/limits"] = LIMITS[:40]
    with pytest.raises(Rejected) as caught:
        read(filename, "//0", masked_decoder(SATURATED))
    assert caught.value.reason == "bad saturation map"
    assert "is larger" in caught.value.detail
    with pytest.raises(Rejected, match="'/entry/limits' is not there"):
        read(write(tmp_path / "b.h5", FRAMES), "//0", masked_decoder(SATURATED))
