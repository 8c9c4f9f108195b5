# SPDX-License-Identifier: GPL-3.0-or-later
"""Seedee messages that the `seedee` library wrote, with what another decoder makes of them."""

import gzip
import hashlib
import json
from typing import Any

import h5py
import pytest
from formats.making import image_of
from formats.making_decoders import GEOMETRY_OF, made, message
from numpy.testing import assert_array_equal

from gpuidx.errors import Rejected
from gpuidx.formats.chunks import unpack
from gpuidx.formats.frame import PIXEL_OF
from gpuidx.formats.seedee import SeedeeDecoder, array_form, read_map
from gpuidx.model import Frame

pytestmark = pytest.mark.data


def decode(parts: list[bytes], height: int = 96, width: int = 128) -> Frame:
    return made(SeedeeDecoder, GEOMETRY_OF.format(fs=width - 1, ss=height - 1)).decode(message(parts))


def test_good_pairs_of_the_reference_data(data_folder):
    """Sums of bytes that another decoder gave."""
    folder = data_folder / "messages" / "seedee"
    pairs = [pair for pair in json.loads((folder / "index.json").read_text()) if "shape" in pair]
    for pair in pairs:
        parts = [(folder / (pair["name"] + ending)).read_bytes() for ending in (".json", ".bin")]
        form = array_form(read_map(parts[0], "the metadata"))
        sent = unpack(memoryview(parts[1]), form.compression, form.dtype, form.shape)
        assert hashlib.sha256(sent.tobytes()).hexdigest() == pair["sha256_of_array"], pair["name"]
        height, width = pair["shape"][-2:]
        image = image_of(decode(parts, height, width))
        assert_array_equal(image, sent.reshape(height, width).astype(PIXEL_OF[pair["dtype"][1:]]))
    assert len(pairs) == 21


def test_bad_pairs_of_the_reference_data(data_folder):
    files = sorted((data_folder / "messages" / "seedee").glob("bad_*.bin"))
    for file in files:
        with pytest.raises(Rejected):
            decode([file.with_suffix(".json").read_bytes(), file.read_bytes()])
    assert len(files) == 11


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("timepix512_u2_none", "electron/timepix512.h5"),
        ("timepix512_u2_lz4", "electron/timepix512.h5"),
        ("timepix512_u2_bslz4", "electron/timepix512.h5"),
        ("jungfrau_i2_bslz4", "jungfrau_module/jungfrau_module.h5"),
        ("sim_lysozyme_u2_bslz4", "electron/sim_lysozyme_ed.h5"),
    ],
)
def test_messages_have_the_pixels_of_the_files(data_folder, name, file):
    folder = data_folder / "messages"
    parts = [
        (folder / f"{name}.seedee.json").read_bytes(),
        gzip.decompress((folder / f"{name}.seedee.gz").read_bytes()),
    ]
    with h5py.File(data_folder / "images" / file, locking=False) as stored:
        frames = [item for item in all_of(stored) if item.ndim == 3]
        expected = frames[0][0]
    assert_array_equal(image_of(decode(parts, *expected.shape)), expected)


def all_of(group: Any) -> list[Any]:
    """The data sets of a file."""
    found: list[Any] = []
    group.visititems(lambda _, item: found.append(item) if hasattr(item, "dtype") else None)
    return found
