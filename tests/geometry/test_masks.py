# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad pixels, against a plain reference of one pixel at a time."""

import math

import numpy as np
import pytest
from geometry.texts import ONE, TOP, TWO, panel, read
from hypothesis import given, reject
from hypothesis import strategies as st

from gpuidx.geometry.masks import MOST_KEPT, Masks, ValueRules

NUMBERS = st.floats(-25, 25).map(lambda x: round(x * 2) / 2)  # often on the very corner of pixels
DIRECTIONS = st.sampled_from(
    [
        ("x", "y"),
        ("-y", "x"),
        ("0.8x+0.6y", "-0.6x+0.8y"),
        ("0.99x-0.1z", "y+0.3z"),
        ("z", "y"),
        ("z+0.0001x", "x"),
    ]
)


def is_bad(geometry, detector, number, fs, ss, highres, wavelength):
    """Whether one pixel of a panel is bad, by the rules of CrystFEL in their plainest form."""
    p = geometry.panels[number]
    edge = min(fs, p.width - 1 - fs, ss, p.height - 1 - ss)
    if p.no_index or edge < p.mask_edge_pixels:
        return True
    x = fs * p.fs[0] + ss * p.ss[0] + detector.corner[number, 0]
    y = fs * p.fs[1] + ss * p.ss[1] + detector.corner[number, 1]
    for region in geometry.bad_regions:
        if not region.is_fsss:
            if region.min_x < x < region.max_x and region.min_y < y < region.max_y:
                return True
        elif (
            region.panel == p.name
            and region.min_fs <= fs + p.min_fs <= region.max_fs
            and region.min_ss <= ss + p.min_ss <= region.max_ss
        ):
            return True
    if highres == math.inf:
        return False
    q = detector.q(np.array([number]), np.array([float(fs)]), np.array([float(ss)]), wavelength)
    return bool(np.linalg.norm(q) >= 1 / highres)


def slow_mask(geometry, detector, highres=math.inf, wavelength=1.0):
    bad = np.ones(geometry.slab_shape, bool)
    for number, p in enumerate(geometry.panels):
        for ss in range(p.height):
            for fs in range(p.width):
                bad[p.slab_y + ss, p.slab_x + fs] = is_bad(
                    geometry, detector, number, fs, ss, highres, wavelength
                )
    return bad


def lab_region(name, limits):
    keys = ("min_x", "max_x", "min_y", "max_y")
    return "".join(f"{name}/{key} = {value}\n" for key, value in zip(keys, limits, strict=True))


def pixel_region(name, limits, panel_name):
    keys = ("min_fs", "max_fs", "min_ss", "max_ss")
    lines = "".join(f"{name}/{key} = {value}\n" for key, value in zip(keys, limits, strict=True))
    return lines + f"{name}/panel = {panel_name}\n"


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=3),
    DIRECTIONS,
    st.tuples(NUMBERS, NUMBERS),
    st.sampled_from([0.0, 1e-4, -2.5e-4]),
)
def test_laboratory_regions(limits, directions, corner, shift):
    fields = {"fs": directions[0], "ss": directions[1], "corner_x": corner[0], "corner_y": corner[1]}
    text = TOP.replace("0.08", "/clen") + panel("a", **fields) + panel("b", y=10)
    for number, (x, y, width, height) in enumerate(limits):
        text += lab_region(f"bad{number}", (x, x + abs(width), y, y + abs(height)))
    geometry = read(text)
    try:
        detector = geometry.detector(0.08, shift, -shift)
    except ValueError:
        reject()  # a panel seen edge-on may pass through the sample
    assert np.array_equal(Masks(geometry).at(detector, 1.0), slow_mask(geometry, detector))


@pytest.mark.parametrize(
    "limits", [("-inf", "inf", 0, 3), ("nan", 5, 0, 3), (5, -5, 0, 3), (1e300, "inf", 0, 3)]
)
def test_endless_and_empty_regions(limits):
    geometry = read(TWO + lab_region("bad1", limits))
    detector = geometry.detector(0.08)
    assert np.array_equal(Masks(geometry).at(detector, 1.0), slow_mask(geometry, detector))


def test_missing_limits_mask_nothing():
    geometry = read(TWO + "bad1/min_x = -1000\nbad1/min_y = -1000\nbad1/max_x = 1000\n")
    assert not Masks(geometry).at(geometry.detector(0.08), 1.0).any()


@given(st.tuples(*[st.integers(0, 9)] * 4), st.integers(0, 12), st.sampled_from(["a", "b"]), st.booleans())
def test_pixel_regions_edges_and_whole_panels(limits, edge, on_panel, no_index):
    low = 10 if on_panel == "b" else 0
    limits = (limits[0], limits[1], low + limits[2], low + limits[3])
    text = f"mask_edge_pixels = {edge}\n" + TWO + pixel_region("bad1", limits, on_panel)
    geometry = read(text + f"a/no_index = {int(no_index)}\na/mask_edge_pixels = 0\n")
    detector = geometry.detector(0.08)
    assert np.array_equal(Masks(geometry).at(detector, 1.0), slow_mask(geometry, detector))


@given(DIRECTIONS, st.floats(0.3, 8.0), st.floats(0.5, 2.0), st.sampled_from([0.0, 1e-4]))
def test_pixels_beyond_the_resolution(directions, highres, wavelength, shift):
    geometry = read(TOP + panel("a", fs=directions[0], ss=directions[1], res=300) + panel("b", y=10, res=500))
    detector = geometry.detector(0.08, shift, shift)
    expected = slow_mask(geometry, detector, highres, wavelength)
    assert np.array_equal(Masks(geometry, highres).at(detector, wavelength), expected)


def test_resolution_that_cannot_be_reached_masks_nothing():
    geometry = read(ONE)
    assert not Masks(geometry, 0.1).at(geometry.detector(0.08), 1.0).any()
    behind = Masks(geometry, 0.51).at(geometry.detector(-0.08), 1.0)
    assert behind.all()


def test_large_panels_are_the_same_as_small_ones():
    # over the size of the blocks in which panels are worked on
    text = TOP.replace("10000", "4000") + panel(width=700, height=400, corner_x=-351.3, corner_y=-201.1)
    geometry = read(text + lab_region("bad1", (-100.5, 333, -20, 400)))
    detector = geometry.detector(0.08)
    fs, ss = np.arange(700.0), np.arange(400.0)[:, None]
    x, y = fs - 351.3 + 0 * ss, ss - 201.1 + 0 * fs
    q = detector.q(np.zeros(280000, int), (fs + 0 * ss).ravel(), (ss + 0 * fs).ravel(), 1.1)
    expected = (x > -100.5) & (x < 333) & (y > -20) & (y < 400)
    expected |= np.linalg.norm(q, axis=1).reshape(400, 700) >= 1 / 3.1
    assert np.array_equal(Masks(geometry, 3.1).at(detector, 1.1), expected)


def test_pixels_outside_all_panels_are_bad():
    geometry = read(TOP + panel("a", x=3, y=2) + panel("b", x=30, y=5))
    bad = Masks(geometry).at(geometry.detector(0.08), 1.0)
    assert bad.shape == geometry.slab_shape == (15, 50)
    assert np.array_equal(bad, slow_mask(geometry, geometry.detector(0.08)))
    assert np.count_nonzero(~bad) == 400


def test_without_what_moves_there_is_one_mask():
    geometry = read(TWO + pixel_region("bad1", (0, 3, 0, 3), "a"))
    masks = Masks(geometry)
    assert masks.at(geometry.detector(0.08), 1.0) is masks.at(geometry.detector(0.09, 1e-4, 0), 1.1)


def test_distance_and_wavelength_matter_only_with_a_resolution():
    geometry = read(TWO + lab_region("bad1", (-3, 3, -3, 3)))
    masks = Masks(geometry)
    first = masks.at(geometry.detector(0.08), 1.0)
    assert masks.at(geometry.detector(0.09), 1.1) is first
    assert masks.at(geometry.detector(0.08, 1e-4, 0), 1.0) is not first
    masks = Masks(geometry, 20.0)
    first = masks.at(geometry.detector(0.08), 1.0)
    assert masks.at(geometry.detector(0.08), 1.0) is first
    assert masks.at(geometry.detector(0.08), 1.1) is not first
    assert masks.at(geometry.detector(0.09), 1.0) is not first


def test_the_last_few_masks_are_kept():
    geometry = read(TWO)
    masks, detector = Masks(geometry, 20.0), geometry.detector(0.08)
    first = masks.at(detector, 1.0)
    for step in range(1, MOST_KEPT):
        masks.at(detector, 1 + step / 100)
        assert masks.at(detector, 1.0) is first
    for step in range(MOST_KEPT):
        masks.at(detector, 2 + step / 100)
    assert masks.at(detector, 1.0) is not first


def test_saturation_is_that_of_each_panel():
    assert Masks(read(TWO + "b/max_adu = 14000\n")).saturation.tolist() == [math.inf, 14000.0]


def flags(name="", **values):
    return "".join(f"{name}flag_{kind} = {value}\n" for kind, value in values.items())


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (TWO, ValueRules()),
        (flags(lessthan=0, morethan=65534) + TWO, ValueRules(lessthan=0.0, morethan=65534.0)),
        (flags(lessthan=0) + flags(lessthan=-5, equal=-1) + TWO, ValueRules(lessthan=0.0)),
        (flags(equal=7) + TWO + flags("a/", equal=7), ValueRules(equal=7.0)),
        (flags(equal=4294967295) + TWO, ValueRules(equal=4294967296.0)),
        (TWO + flags("a/", equal=7) + "b/no_index = 1\n", ValueRules(equal=7.0)),
    ],
)
def test_flags_of_all_panels_are_rules(text, rules):
    masks = Masks(read(text))
    found = masks.rules
    assert (found.lessthan, found.morethan) == (rules.lessthan, rules.morethan)
    assert found.equal == rules.equal or (math.isnan(found.equal) and math.isnan(rules.equal))
    assert masks.flagged(np.zeros((20, 20), np.int32)) is None


def bad_by_flags(geometry, image):
    """What CrystFEL marks by value: rint to even, strict limits, all in float32."""
    bad = np.zeros(image.shape, bool)
    for p in geometry.panels:
        for ss in range(p.height):
            for fs in range(p.width):
                value = np.float32(image[p.slab_y + ss, p.slab_x + fs])
                for flag in () if p.no_index else p.flags:
                    limit = np.float32(flag.value)
                    hit = {
                        "lessthan": value < limit,
                        "morethan": value > limit,
                        "equal": np.rint(value) == limit,
                    }
                    bad[p.slab_y + ss, p.slab_x + fs] |= hit[flag.kind]
    return bad


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4", "f4"])
@pytest.mark.parametrize(
    "text",
    [
        TWO + flags("a/", lessthan=3, equal=7) + flags("b/", morethan=5),
        flags(equal=2) + flags(equal=5) + flags(lessthan=1) + TWO,
        TWO + flags("b/", equal=0),
        flags(equal=3) + TWO + flags("a/", equal=4) + "a/no_index = true\n" + flags("b/", equal=6),
    ],
)
def test_flags_and_rules_together_are_those_of_the_file(text, dtype):
    geometry = read(text)
    values = np.random.default_rng(5).integers(0, 19, geometry.slab_shape) / 2
    image = values.astype(dtype)
    masks = Masks(geometry)
    rules = masks.rules
    found = masks.flagged(image)
    as_float = image.astype(np.float32)
    found = (
        found | (as_float < rules.lessthan) | (as_float > rules.morethan) | (np.rint(as_float) == rules.equal)
    )
    used = ~masks.at(geometry.detector(0.08), 1.0)
    assert np.array_equal(found & used, bad_by_flags(geometry, image) & used)


def test_saturation_maps_in_the_frame_are_put_beside_those_of_files():
    text = TWO + "a/saturation_map = /s\nb/saturation_map = /t\nb/saturation_map_file = t.h5\n"
    masks = Masks(read(text), reader=lambda file, data: np.full((20, 20), 7.0))
    assert masks.has_saturation_in_frames
    asked = []

    def part(data, panel):
        asked.append((data, panel.name))
        return np.full((panel.height, panel.width), 500, np.uint16)

    limits = masks.saturation_in_frame(part)
    assert asked == [("/s", "a")]
    assert (limits[:10] == 500).all()
    assert (limits[10:] == 7).all()
    with pytest.raises(ValueError, match="expected numbers"):
        masks.saturation_in_frame(lambda data, panel: np.full((10, 20), b"x"))


def test_without_saturation_maps_there_are_none_in_frames():
    assert not Masks(read(TWO)).has_saturation_in_frames
