# SPDX-License-Identifier: GPL-3.0-or-later
"""The same frames in every format and every kind of pixels: the same chunks, digit by digit."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from live import PEAKS, SIZE, beamtime

from gpuidx.arguments import parse
from gpuidx.cell import parse_cell
from gpuidx.geometry import parse_geometry
from gpuidx.model import Message
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline
from gpuidx.simulation import encode_dectris, encode_hdf5, encode_jungfraujoch, encode_lclstreamer
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.encode_cbf import encode_cbf
from gpuidx.simulation.encode_seedee import encode_seedee
from gpuidx.simulation.messages import encode
from gpuidx.stream.layout import SOURCE_ID

DATA = "/entry/data/data"
N_FRAME = 6
HITS = [bool(truth.crystals) for truth in beamtime(N_FRAME).truths]
BLANK, HIT = HITS.index(False), HITS.index(True)


def _geometry():
    headers = beamtime(N_FRAME).frames[0].headers
    text = default_geometry(SIZE).replace("data = detector_data", f"data = {DATA}")
    for name in ("beam_energy", "detector_distance"):
        text = text.replace(f"= {name} ", f"= {headers[name]!r} ")
    return parse_geometry(text, "test.geom")


GEOMETRY = _geometry()


def _msgpack(image, number, **how):
    frame = beamtime(N_FRAME).frames[number]
    return [bytes(encode(replace(frame, image=image), GEOMETRY, **how).data)], ()


def _hdf5(image, number, compression="none", **how):
    return [encode_hdf5.encode(image, {}, data=DATA, compression=compression, **how)], ()


def _hdf5_several(image, number, compression):
    images = np.stack([image + 1, image, image + 2])
    return [encode_hdf5.encode(images, {}, data=DATA, compression=compression)], ()


FORMATS = {
    "msgpack": _msgpack,
    "msgpack, bin keys": lambda image, number: _msgpack(image, number, bin_keys=True),
    **{f"hdf5 {c}": lambda image, number, c=c: _hdf5(image, number, c) for c in encode_hdf5.COMPRESSIONS},
    "hdf5 in many chunks": lambda image, number: _hdf5(image, number, "bslz4", chunks=(100, 130)),
    "hdf5, second of three": lambda image, number: _hdf5_several(image, number, "bslz4"),
    **{
        f"seedee {c}": lambda image, number, c=c: (encode_seedee(image, {}, c), ())
        for c in ("none", "gzip", "lz4", "bslz4")
    },
    "cbf": lambda image, number: (encode_cbf(image.astype(np.int32), {}), ()),
    "cbf gzipped": lambda image, number: (encode_cbf(image.astype(np.int32), {}, gzipped=True), ()),
    **{
        f"dectris v1 {e}": lambda image, number, e=e: (encode_dectris.v1_image(image, number, encoding=e), ())
        for e in encode_dectris.V1_ENCODINGS
    },
    **{
        f"dectris v2 {c}": lambda image, number, c=c: (
            encode_dectris.v2_image({"threshold_1": image}, number, compression=c), ()
        )
        for c in encode_dectris.V2_COMPRESSIONS
    },
    "jungfraujoch": lambda image, number: (encode_jungfraujoch.image(image, number), ()),
    "lclstreamer": lambda image, number: (
        encode_lclstreamer.image(image, number),
        tuple(encode_lclstreamer.start(image.shape, image.dtype.name)),
    ),
}  # fmt: skip


@cache
def pipeline() -> Pipeline:
    words = ["-g", "test.geom", "-o", "test.stream", "-p", "test.cell", "--zmq-input=tcp://h:1", "--zmq-pull"]
    options = parse(Options, [*words, *PEAKS], "gpuidx", "")
    return Pipeline(options, GEOMETRY, parse_cell(LYSOZYME, "test.cell"))


def chunk(parts, series=(), number=0) -> str:
    views = tuple(memoryview(bytearray(part)) for part in parts)
    message = Message(
        serial=1, filename="ZMQdata", event="//1", number=number, data=views[-1],
        parts=views if len(views) > 1 else (), series=tuple(map(memoryview, series)),
    )  # fmt: skip
    place = memoryview(bytearray(1 << 20))
    n_byte = pipeline().process(message, place).n_byte
    lines = bytes(place[:n_byte]).decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(SOURCE_ID))  # a name, which some have


@cache
def expected(number: int) -> str:
    """The chunk of a MsgPack message with 32-bit pixels."""
    return chunk(*_msgpack(beamtime(N_FRAME).frames[number].image.astype(np.int32), number))


def test_of_the_frames_one_is_blank_and_one_has_a_crystal():
    assert ["Begin crystal" in expected(number) for number in (BLANK, HIT)] == [False, True]


@pytest.mark.parametrize("name", FORMATS)
def test_a_frame_gives_the_same_chunk_in_every_format(name):
    for number in (BLANK, HIT):
        image = beamtime(N_FRAME).frames[number].image.astype(np.uint16)
        parts, series = FORMATS[name](image, number)
        assert chunk(parts, series, 1 if "second" in name else 0) == expected(number)


@pytest.mark.parametrize("letters", ["<u2", ">u2", "<i2", ">i2", "<u4", ">u4", "<i4", ">i4", "<f4", ">f4",
                                     "<f8", ">f8", "<i8", "<u8"])  # fmt: skip
@pytest.mark.parametrize("name", ["msgpack", "hdf5 none", "hdf5 bslz4", "seedee none"])
def test_a_frame_gives_the_same_chunk_with_any_kind_of_pixels(name, letters):
    parts, series = FORMATS[name](beamtime(N_FRAME).frames[HIT].image.astype(letters), HIT)
    assert chunk(parts, series) == expected(HIT)


@pytest.mark.parametrize("name", ["seedee none", "dectris v1 <"])
@pytest.mark.parametrize("first", [0xC1, 0x0280])
def test_any_first_pixel_is_only_a_pixel(name, first):
    """Not the padding of a message in one part, and not the beginning of a pickle."""
    image = np.full((SIZE, SIZE), first, np.uint16)
    parts, series = FORMATS[name](image, 0)
    views = tuple(memoryview(bytearray(part)) for part in parts)
    message = Message(serial=1, filename="", event="", data=views[-1], parts=views, series=series)
    assert pipeline().decode(message).image.min() == first


def test_all_frames_of_a_message_are_counted():
    parts, _ = _hdf5_several(beamtime(N_FRAME).frames[0].image, 0, "bslz4")
    message = Message(serial=1, filename="", event="", data=memoryview(parts[0]))
    assert pipeline().decoder.frame_count(message) == 3
