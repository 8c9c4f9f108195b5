# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before a run on streamed messages."""

import pytest
from geometry.texts import ONE, TWO, read

from gpuidx.errors import GeometryError
from gpuidx.geometry import streaming_problems
from gpuidx.geometry.streaming import check_mask_files


def test_a_plain_geometry_has_no_problem():
    assert streaming_problems(read(TWO)) == []


def test_masks_and_saturation_maps_need_files_of_their_own():
    lines = "mask1_data = /m\nmask1_badbits = 1\nsaturation_map = /s\n"
    mask, saturation = streaming_problems(read(lines + TWO))
    assert mask.startswith("panel a: mask '/m' has no file of its own")
    assert saturation.startswith("panel a: saturation_map '/s' has no file of its own")
    files = "mask1_file = m.h5\nsaturation_map_file = s.h5\n"
    assert streaming_problems(read(lines + files + TWO)) == []


def test_masks_do_not_matter_where_they_are_not_read():
    lines = "mask = /m\nmask_bad = 1\n"
    assert streaming_problems(read(lines + ONE), read_masks=False) == []
    assert streaming_problems(read(lines + ONE + "p0/no_index = 1\n")) == []


def test_files_of_masks_must_be_there(tmp_path):
    lines = f"mask1_data = /m\nmask1_badbits = 1\nmask1_file = {tmp_path}/m.h5\n"
    with pytest.raises(GeometryError, match=r":\d+: '.*m.h5' does not exist; names are relative"):
        check_mask_files(read(lines + TWO))
    check_mask_files(read(lines + TWO), read_masks=False)
    (tmp_path / "m.h5").touch()
    check_mask_files(read(lines + TWO))
    saturation = f"saturation_map = /s\nsaturation_map_file = {tmp_path}/s.h5\n"
    with pytest.raises(GeometryError, match=r"'.*s.h5' does not exist"):
        check_mask_files(read(saturation + TWO))


def test_images_have_two_dimensions():
    (problem,) = streaming_problems(read("dim0 = %\ndim1 = ss\ndim2 = fs\n" + TWO))
    assert problem == "panel a: streamed images are two-dimensional, but its data are %, ss, fs"
    (problem,) = streaming_problems(read("dim2 = 3\n" + TWO))
    assert problem.endswith("its data are ss, fs, 3")


def test_dimensions_do_not_matter_where_images_are_not_read():
    assert streaming_problems(read("dim2 = 3\n" + TWO), read_images=False) == []


@pytest.mark.parametrize("data_format", ["hdf5", "auto"])
def test_messages_that_are_files_may_have_it_all(data_format):
    text = "dim0 = %\ndim1 = ss\ndim2 = fs\nmask = /m\nmask_bad = 1\nsaturation_map = /s\n" + TWO
    assert len(streaming_problems(read(text), data_format="msgpack")) == 3
    assert len(streaming_problems(read(text), data_format="seedee")) == 2
    assert streaming_problems(read(text), data_format=data_format) == []
