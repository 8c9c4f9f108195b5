# SPDX-License-Identifier: GPL-3.0-or-later
"""Where panels lie in the slab."""

import numpy as np
import pytest
from geometry.texts import ONE, TOP, TWO, panel, read, refusal
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.geometry import DataArray


def test_a_single_array_is_the_slab_as_sent():
    geometry = read(TOP + panel("a", x=5, y=3) + panel("b", x=40, y=3, height=12))
    assert geometry.arrays == (DataArray("/data/data", ("ss", "fs"), 0, (15, 60)),)
    assert geometry.slab_shape == (15, 60)
    assert [(p.slab_x, p.slab_y) for p in geometry.panels] == [(5, 3), (40, 3)]


def test_several_arrays_are_stacked_by_rows():
    geometry = read(
        TOP + panel("a", data="/m1") + panel("b", width=30, data="/m2", y=2) + panel("c", x=25, data="/m1")
    )
    dims = ("ss", "fs")
    assert geometry.arrays == (DataArray("/m1", dims, 0, (10, 45)), DataArray("/m2", dims, 10, (12, 30)))
    assert geometry.slab_shape == (22, 45)
    assert [(p.slab_x, p.slab_y) for p in geometry.panels] == [(0, 0), (0, 12), (25, 0)]


def test_fixed_indices_make_arrays_of_their_own():
    dims = {"dim0": "%", "dim2": "ss", "dim3": "fs"}
    geometry = read(TOP + panel("a", dim1=0, **dims) + panel("b", dim1=3, **dims))
    assert [(a.dims, a.row, a.shape) for a in geometry.arrays] == [
        (("%", 0, "ss", "fs"), 0, (10, 20)),
        (("%", 3, "ss", "fs"), 10, (10, 20)),
    ]


def test_panels_on_the_same_pixels_get_copies_of_the_array():
    geometry = read(TOP + panel("a") + panel("b", x=19, y=9) + panel("c", y=10))
    assert [(a.row, a.shape) for a in geometry.arrays] == [(0, (20, 20)), (20, (19, 39))]
    assert [(p.slab_x, p.slab_y) for p in geometry.panels] == [(0, 0), (19, 29), (0, 10)]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.integers(0, 30),
            st.integers(1, 20),
            st.integers(1, 20),
            st.sampled_from("xyz"),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_no_two_panels_share_a_pixel_of_the_slab(places):
    text = TOP + "".join(
        panel(f"p{i}", x=x, y=y, width=width, height=height, data=data)
        for i, (x, y, width, height, data) in enumerate(places)
    )
    geometry = read(text)
    used = np.zeros(geometry.slab_shape, int)
    for p in geometry.panels:
        used[p.slab_y : p.slab_y + p.height, p.slab_x : p.slab_x + p.width] += 1
        (home,) = (a for a in geometry.arrays if a.row <= p.slab_y < a.row + a.shape[0])
        assert (home.data, p.slab_y - home.row, p.slab_x) == (p.data, p.min_ss, p.min_fs)
        assert p.max_ss < home.shape[0]
        assert p.max_fs < home.shape[1]
    assert used.max() == 1
    assert used.sum() == sum(p.width * p.height for p in geometry.panels)


def test_slab_of_more_pixels_than_int32_can_number_is_refused():
    assert "too many pixels" in refusal(TOP + panel(width=2**16, height=2**15))
    read(TOP + panel(width=2**15, height=2**15))


@pytest.mark.parametrize("text", [ONE, TWO])
def test_rect_of_the_detector_is_that_of_the_slab(text):
    geometry = read(text)
    detector = geometry.detector(0.08)
    for rect, origin, p in zip(detector.rect, detector.origin, geometry.panels, strict=True):
        assert tuple(rect) == (p.slab_x, p.slab_y, p.width, p.height)
        assert tuple(origin) == (p.min_fs, p.min_ss)
