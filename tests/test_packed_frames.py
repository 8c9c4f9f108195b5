# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames whose pixels stay compressed on the way to a device: which, what it is told, and the same chunks."""

from dataclasses import replace

import numpy as np
import pytest
from live import PEAKS, SIZE, beamtime
from test_formats_alike import BLANK, DATA, FORMATS, GEOMETRY, HIT, N_FRAME

from gpuidx import handover, pipeline
from gpuidx.arguments import parse
from gpuidx.cell import parse_cell
from gpuidx.errors import Rejected
from gpuidx.formats import packed as packed_module
from gpuidx.geometry import parse_geometry
from gpuidx.model import Message
from gpuidx.options import Options
from gpuidx.simulation import encode_dectris, encode_hdf5
from gpuidx.simulation.detector import LYSOZYME, default_geometry

DECTRIS = {"dectris v1 bs-lz4<", "dectris v2 bslz4", "jungfraujoch"}
"""Of `FORMATS`, those in which pixels have a value that says that they have none."""

PACKED = DECTRIS | {"hdf5 bslz4", "hdf5, second of three", "seedee bslz4", "lclstreamer"}
"""Those that stay compressed."""


def geometry_with(more: str):
    """The same with a further line, for all panels if it names none."""
    headers = beamtime(N_FRAME).frames[0].headers
    text = default_geometry(SIZE).replace("data = detector_data", f"data = {DATA}")
    for name in ("beam_energy", "detector_distance"):
        text = text.replace(f"= {name} ", f"= {headers[name]!r} ")
    return parse_geometry(f"{text}\n{more}\n" if "/" in more else f"{more}\n{text}", "test.geom")


def pipeline_of(geometry=GEOMETRY, *words: str) -> pipeline.Pipeline:
    given = ["-g", "test.geom", "-o", "test.stream", "-p", "test.cell", "--zmq-input=tcp://h:1", "--zmq-pull"]
    options = parse(Options, [*given, *PEAKS, *words], "gpuidx", "")
    return pipeline.Pipeline(options, geometry, parse_cell(LYSOZYME, "test.cell"))


@pytest.fixture(scope="module")
def usual():
    return pipeline_of()


def image_of(number: int) -> np.ndarray:
    return beamtime(N_FRAME).frames[number].image.astype(np.uint16)


def slot_with(parts, series=(), number=0, holder=False):
    """A slot with a message, that message, and bytes that it takes; with *holder* it lies elsewhere."""
    size = 0 if holder else sum(-(-len(part) // 16) * 16 for part in parts)
    place = memoryview(bytearray(size + handover.extra_bytes(GEOMETRY)))
    views, at = [], 0
    for part in parts:
        if holder:
            views.append(memoryview(bytearray(part)))
            continue
        place[at : at + len(part)] = part
        views.append(place[at : at + len(part)])
        at += -(-len(part) // 16) * 16
    message = Message(
        serial=1, filename="ZMQdata", event="//1", number=number, data=views[-1],
        parts=tuple(views) if len(views) > 1 else (), series=tuple(map(memoryview, series)),
    )  # fmt: skip
    return place, message, size


def sent(name: str, number: int, **how):
    parts, series = FORMATS[name](image_of(number), number)
    return slot_with(parts, series, 1 if "second" in name else 0, **how)


def text(place: memoryview, done: pipeline.Done) -> str:
    return bytes(place[: done.n_byte]).decode()


@pytest.mark.parametrize("name", FORMATS)
def test_only_whole_frames_of_bitshuffle_lz4_stay_compressed(usual, name):
    place, message, size = sent(name, BLANK)
    frame, descriptor = usual.lay_down(message, place, size)
    assert (frame.packed is not None) == (descriptor.n_byte > 0) == (name in PACKED)
    assert (frame.image is None) == (name in PACKED)


@pytest.mark.parametrize("holder", [False, True])
@pytest.mark.parametrize("name", sorted(PACKED))
def test_a_device_finds_the_compressed_pixels_where_it_is_told(usual, name, holder):
    place, message, size = sent(name, HIT, holder=holder)
    before = bytes(place[:size])
    frame, descriptor = usual.lay_down(message, place, size)
    seen = handover.frame_in(place, 1, handover.Descriptor(*descriptor), GEOMETRY)
    assert bytes(place[:size]) == before
    assert seen.image is None
    assert np.shares_memory(seen.packed.data, np.frombuffer(place, np.uint8))
    np.testing.assert_array_equal(seen.packed.starts, frame.packed.starts)
    assert len(seen.packed.data) == seen.packed.starts[-1]  # no pixel is left over
    decoded = usual.decoder.with_pixels(seen)
    np.testing.assert_array_equal(decoded.image, image_of(HIT))


MASK = np.zeros(GEOMETRY.slab_shape, np.uint32)
MASK[: SIZE // 3] = 1
"""Pixels that a detector calls bad; there are peaks among them."""

BRIGHT = 300
"""Counts that the detector calls the greatest."""

ABOUT = {"saturation_value": BRIGHT}
STARTS = {
    "dectris v1 bs-lz4<": encode_dectris.v1_start(1, ABOUT, MASK),
    "dectris v2 bslz4": encode_dectris.v2_start(ABOUT, pixel_mask={"threshold_1": MASK}),
    "jungfraujoch": encode_dectris.v2_start(ABOUT, pixel_mask={"threshold_1": MASK}),
}


def with_mask(name: str, number: int):
    """A slot with a frame of a series with `MASK`, its message, and bytes that this takes."""
    image = image_of(number)
    image[::7, ::5] = 65535
    parts, _ = FORMATS[name](image, number)
    return slot_with(parts, STARTS[name])


@pytest.mark.parametrize(
    ("name", "flags"),
    [(name, "") for name in sorted(DECTRIS)]
    + [("dectris v2 bslz4", flags) for flags in ("flag_equal = 65535", "flag_morethan = 200")],
)
def test_a_series_with_bad_pixels_stays_compressed_and_its_chunks_are_the_same(name, flags):
    using = pipeline_of(geometry_with(flags))
    for number in (HIT, BLANK):
        place, message, _ = with_mask(name, number)
        expected = text(place, using.process(message, place))
        assert ("Begin crystal" in expected) == (number == HIT)
        place, message, _ = sent(name, number)
        assert (text(place, using.process(message, place)) != expected) == (number == HIT)
        place, message, size = with_mask(name, number)
        (found,) = using.search([using.decode(message)])
        assert not any(MASK[int(ss), int(fs)] for fs, ss in zip(*slab_places(found.peaks), strict=True))
        for by_device in (True, False):
            place, message, size = with_mask(name, number)
            frame, _ = using.lay_down(message, place, size)
            np.testing.assert_array_equal(frame.packed.masked, MASK > 0)
            place_of_other, other, size_of_other = with_mask(name, BLANK)
            using.lay_down(other, place_of_other, size_of_other)  # its slot is not for this frame's pixels
            kept = bytes(place_of_other)
            assert (
                text(place, using.complete(frame, message, place, found if by_device else None)) == expected
            )
            assert bytes(place_of_other) == kept


def slab_places(peaks):
    """Positions of peaks in the slab: fs, ss."""
    corners = np.array([(panel.slab_x, panel.slab_y) for panel in GEOMETRY.panels])[peaks.panel]
    return corners[:, 0] + peaks.fs, corners[:, 1] + peaks.ss


def hdf5(image, **how):
    return slot_with([encode_hdf5.encode(image, {}, data=DATA, compression="bslz4", **how)])


@pytest.mark.parametrize("letters", ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4"])
def test_every_kind_of_whole_numbers_stays_compressed(usual, letters):
    image = np.minimum(image_of(HIT), 100).astype(letters)
    place, message, size = hdf5(image)
    frame, descriptor = usual.lay_down(message, place, size)
    assert descriptor.dtype == letters[1:]
    again = usual.decoder.with_pixels(frame).image
    assert again.dtype == image.dtype
    np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize(
    "image",
    [
        image_of(BLANK).astype(">u2"), image_of(BLANK).astype("<f4"), image_of(BLANK).astype("<i8"),
        np.pad(image_of(BLANK), ((0, 3), (0, 0))), np.pad(image_of(BLANK), ((0, 0), (0, 8))),
        np.random.default_rng(1).integers(0, 65536, (SIZE, SIZE)).astype(np.uint16),
    ],
    ids=["big-endian", "floats", "eight bytes", "more rows", "more columns", "noise"],
)  # fmt: skip
def test_other_pixels_are_decoded(usual, image):
    place, message, size = hdf5(image)
    frame, descriptor = usual.lay_down(message, place, size)
    assert frame.packed is None
    assert descriptor.n_byte == 0
    np.testing.assert_array_equal(frame.image, image[:SIZE, :SIZE])


def test_pixels_that_have_to_be_looked_at_are_decoded():
    panel = GEOMETRY.panels[0].name
    for more, is_packed in (("flag_equal = 9", True), (f"{panel}/flag_equal = 9", False)):
        place, message, size = sent("hdf5 bslz4", BLANK)
        frame, _ = pipeline_of(geometry_with(more)).lay_down(message, place, size)
        assert (frame.packed is not None) == is_packed


def test_a_slot_without_room_leaves_the_frame_to_the_worker(usual):
    parts, _ = FORMATS["hdf5 bslz4"](image_of(BLANK), BLANK)
    place = memoryview(bytearray(len(parts[0]) + handover.FOUND_BYTES))
    place[: len(parts[0])] = parts[0]
    message = Message(serial=1, filename="", event="", data=place[: len(parts[0])])
    frame, descriptor = usual.lay_down(message, place, len(parts[0]))
    assert descriptor is None
    assert bytes(place[: len(parts[0])]) == parts[0]
    np.testing.assert_array_equal(usual.with_pixels(frame).image, image_of(BLANK))


@pytest.mark.parametrize("change", [{"block": 12}, {"block": 1 << 20}, {"n_byte": 1 << 30}, {"dtype": "f4"}])
def test_a_descriptor_that_cannot_be_is_refused(usual, change):
    place, message, size = sent("hdf5 bslz4", BLANK)
    _, descriptor = usual.lay_down(message, place, size)
    with pytest.raises(ValueError, match="pixels"):
        handover.frame_in(place, 1, descriptor._replace(**change), GEOMETRY)


def test_a_blank_is_never_decoded_and_its_chunk_is_the_same(usual, monkeypatch):
    place, message, size = sent("hdf5 bslz4", BLANK)
    expected = text(place, usual.process(message, place))
    place, message, size = sent("hdf5 bslz4", BLANK)
    (found,) = usual.search([usual.decode(message)])
    monkeypatch.setattr(packed_module, "decompressed", lambda chunk: pytest.fail("decoded"))
    frame, _ = usual.lay_down(message, place, size)
    assert text(place, usual.complete(frame, message, place, found)) == expected


@pytest.mark.parametrize("by_device", [True, False])
def test_a_hit_is_decoded_for_its_reflections_and_its_chunk_is_the_same(usual, by_device):
    place, message, size = sent("hdf5 bslz4", HIT)
    expected = text(place, usual.process(message, place))
    assert "Begin crystal" in expected
    place, message, size = sent("hdf5 bslz4", HIT)
    (found,) = usual.search([usual.decode(message)])
    frame, _ = usual.lay_down(message, place, size)
    done = usual.complete(frame, message, place, found if by_device else None)
    assert text(place, done) == expected
    assert done.result.frame.packed is None


def test_a_damaged_block_rejects_the_frame_where_its_pixels_are_needed(usual):
    place, message, size = sent("hdf5 bslz4", BLANK)
    frame, _ = usual.lay_down(message, place, size)
    data = frame.packed.data.copy()
    data[frame.packed.starts[1] + 4 : frame.packed.starts[2]] = 0xFF
    frame = replace(frame, packed=replace(frame.packed, data=data))
    with pytest.raises(Rejected, match="bslz4") as caught:
        usual.complete(frame, message, place)
    assert caught.value.reason == "damaged image"


def test_it_is_said_once_that_the_device_decodes():
    using, said = pipeline_of(), []
    for _ in range(2):
        place, message, size = sent("hdf5 bslz4", BLANK)
        using.lay_down(message, place, size)
        said += [name for name, _ in using.take_notes() if "device decodes" in name]
    assert len(said) == 1
