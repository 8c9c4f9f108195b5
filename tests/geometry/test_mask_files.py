# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks and saturation maps that lie in files."""

import subprocess
import sys
from collections import Counter

import h5py
import numpy as np
import pytest
from geometry.texts import ONE, TOP, TWO, panel, read

from gpuidx.errors import GeometryError
from gpuidx.geometry.mask_files import cut_to_panel
from gpuidx.geometry.masks import Masks

MASK = "mask0_data = /m\nmask0_file = m.h5\nmask0_goodbits = 1\nmask0_badbits = 6\n"


def bad_with(text, array):
    geometry = read(text)
    masks = Masks(geometry, reader=lambda file, data: array)
    return masks.at(geometry.detector(0.08), 1.0)


def slow_bits(array, good, bad):
    return np.array([[(int(m) & good) != good or (int(m) & bad) != 0 for m in row] for row in array])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_bits_decide(dtype):
    array = np.random.default_rng(3).integers(0, 8, (20, 20)).astype(dtype)
    assert np.array_equal(bad_with(MASK + TWO, array), slow_bits(array, 1, 6))


def test_bit_31_counts():
    array = np.array([[0x80000001, 1]], np.uint32).repeat(10, 0).repeat(10, 1)
    bad = bad_with(MASK.replace("= 6", "= 0x80000000") + ONE, array)
    assert bad[:, :10].all()
    assert not bad[:, 10:].any()


def test_logical_masks_and_nan_in_masks():
    array = np.zeros((20, 20), bool)
    array[3, 4] = True
    bad = bad_with(MASK + TWO, array)
    assert np.count_nonzero(~bad) == 1
    values = np.ones((20, 20), np.float32)
    values[1, 1] = np.nan
    assert np.argwhere(bad_with(MASK + TWO, values)).tolist() == [[1, 1]]


def test_several_masks_add_up():
    arrays = {"/m": np.ones((20, 20), int), "/n": np.zeros((20, 20), int)}
    arrays["/m"][2, 3] = 0
    arrays["/n"][4, 5] = 8
    text = MASK + "mask7_data = /n\nmask7_file = n.h5\nmask7_badbits = 8\n" + TWO
    geometry = read(text)
    masks = Masks(geometry, reader=lambda file, data: arrays[data])
    assert np.argwhere(masks.at(geometry.detector(0.08), 1.0)).tolist() == [[2, 3], [4, 5]]


def test_panels_of_several_arrays_take_their_part():
    dims = "dim0 = %\ndim2 = ss\ndim3 = fs\n"
    text = MASK + dims + TOP + panel("a", dim1=2) + panel("b", dim1=0)
    array = np.ones((3, 10, 20), np.uint8)
    array[2, 1, 1] = 0
    array[0, 5, 6] = 0
    expected = [[1, 1], [15, 6]]
    assert np.argwhere(bad_with(text, array)).tolist() == expected
    assert np.argwhere(bad_with(text, array[None])).tolist() == expected


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ones((20, 19)), "has the shape (20, 19), which does not hold panel a"),
        (np.ones(400), "has 1 dimensions; expected those of panel a: ss, fs"),
        (np.full((20, 20), b"x"), "has values of type |S1; expected numbers"),
    ],
)
def test_unsuitable_masks_are_errors_with_the_line_of_the_mask(array, text):
    with pytest.raises(GeometryError) as caught:
        bad_with(MASK + TWO, array)
    assert str(caught.value).startswith("t.geom:4: '/m' in 'm.h5'")
    assert text in str(caught.value)


def test_one_mask_for_each_frame_is_an_error():
    text = "dim0 = %\ndim1 = ss\ndim2 = fs\n" + MASK + TWO
    with pytest.raises(GeometryError, match="holds 4 masks, one for each frame"):
        bad_with(text, np.ones((4, 20, 20)))


def test_mask_path_that_depends_on_the_frame_is_an_error():
    text = MASK.replace("/m\n", "/%/m\n") + "data = /%/d\n" + TWO
    with pytest.raises(GeometryError, match=r"t\.geom:4: '/%/m' in 'm\.h5': which mask is meant depends"):
        bad_with(text, np.ones((20, 20)))


def test_a_data_set_is_read_once():
    reads = Counter()

    def reader(file, data):
        reads[file, data] += 1
        return np.ones((20, 20), int)

    geometry = read(MASK + TWO)
    masks = Masks(geometry, 20.0, reader=reader)
    masks.at(geometry.detector(0.08), 1.0)
    masks.at(geometry.detector(0.09), 1.0)
    assert reads == {("m.h5", "/m"): 1}


def test_masks_are_not_read_without_mask_data_nor_for_bad_panels():
    def reader(file, data):
        raise AssertionError("read")

    Masks(read(MASK + TWO), read_masks=False, reader=reader)
    Masks(read(MASK + ONE + "p0/no_index = 1\n"), reader=reader)
    Masks(read("mask = /m\nmask_bad = 1\n" + ONE), reader=reader)


@pytest.fixture
def mask_file(tmp_path, monkeypatch):
    """m.h5 in the current folder, with a mask at /m and saturation at /s."""
    monkeypatch.chdir(tmp_path)
    array = np.ones((20, 20), np.uint32)
    array[11, 13] = 4
    with h5py.File("m.h5", "w") as file:
        file.create_dataset("m", data=array, chunks=(10, 10), compression="gzip")
        file["s"] = np.arange(400.0).reshape(20, 20)
        file["text"] = np.full((20, 20), b"x")
        file.create_group("group")
    return tmp_path / "m.h5"


def test_masks_are_read_from_hdf5_files(mask_file):
    geometry = read(MASK + TWO)
    assert np.argwhere(Masks(geometry).at(geometry.detector(0.08), 1.0)).tolist() == [[11, 13]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("m.h5", "none.h5"), "'none.h5' does not exist; names are relative to the folder"),
        (("/m\n", "/none\n"), "'/none' in 'm.h5' cannot be read"),
        (("/m\n", "/group\n"), "/group' is no data set"),
        (("m.h5", "x.cbf"), "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_errors(mask_file, change, text):
    (mask_file.parent / "x.cbf").write_text("###CBF")
    with pytest.raises(GeometryError) as caught:
        Masks(read(MASK.replace(*change) + TWO))
    assert str(caught.value).startswith("t.geom:4: ")
    assert text in str(caught.value)


def test_saturation_map(mask_file):
    lines = "saturation_map = /s\nsaturation_map_file = m.h5\n"
    found = Masks(read(TWO + lines.replace("saturation", "b/saturation"))).saturation_map
    assert found.dtype == np.float32
    assert np.isinf(found[:10]).all()
    assert np.array_equal(found[10:], np.arange(200.0, 400.0).reshape(10, 20))
    assert Masks(read(TWO)).saturation_map is None
    with pytest.raises(GeometryError, match="saturation map '/text' has values of type"):
        Masks(read(lines.replace("/s\n", "/text\n") + TWO))


def test_masks_in_image_files_are_asked_for_frame_by_frame():
    array = np.ones((20, 20), np.uint32)
    array[2, 3] = array[14, 5] = 0
    lines = "mask = /m\nmask_good = 1\n"
    geometry = read(lines + TWO + "a/no_index = 1\n")
    masks = Masks(geometry)
    assert masks.has_masks_in_frames
    bad = masks.in_frame(lambda mask, p: cut_to_panel(array, p))
    assert np.argwhere(bad).tolist() == [[14, 5]]
    assert not Masks(geometry, read_masks=False).has_masks_in_frames
    assert not Masks(read(TWO)).has_masks_in_frames


def test_hdf5_is_not_imported_by_the_geometry():
    code = (
        "import sys, gpuidx.geometry, gpuidx.cell; print([m for m in ('h5py', 'numba') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
