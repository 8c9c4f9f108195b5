# SPDX-License-Identifier: GPL-3.0-or-later
"""DECTRIS Stream V2 messages of the reference data folder, beside another CBOR reader and HDF5's filter."""

import gzip
import io
from typing import Any

import cbor2
import h5py
import hdf5plugin
import numpy as np
import pytest
from formats.making_series import decoded, making
from numpy.testing import assert_array_equal

from gpuidx.formats.dectris_v2 import DectrisV2Decoder
from gpuidx.formats.jungfraujoch import begins as begins_jungfraujoch

pytestmark = pytest.mark.data

TEXT = """\
photon_energy = incident_energy eV
clen = detector_translation/2 m
res = 18181.8
adu_per_photon = 1
p0/min_fs = 0
p0/max_fs = 511
p0/min_ss = 0
p0/max_ss = 511
p0/fs = x
p0/ss = y
p0/corner_x = -246
p0/corner_y = -240
"""


def independent(data: bytes) -> Any:
    """The pixels as cbor2 and HDF5 read them."""
    (array,) = cbor2.loads(data)["data"].values()
    shape, typed = array.value
    if isinstance(typed.value, bytes):
        return np.frombuffer(typed.value, "<u2").reshape(tuple(shape))
    algorithm, element, chunk = typed.value.value
    assert (typed.tag, algorithm, element) == (69, "bslz4", 2)
    with h5py.File(io.BytesIO(), "w") as file:
        made = file.create_dataset(
            "x", tuple(shape), "<u2", chunks=tuple(shape), **hdf5plugin.Bitshuffle(cname="lz4")
        )
        made.id.write_direct_chunk((0, 0), chunk)
        return made[()]


@pytest.mark.parametrize("name", ["image0_bslz4", "image1_plain"])
def test_pixels_and_headers(data_folder, name):
    folder = data_folder / "messages"
    start, data = (
        gzip.decompress((folder / f"dectris_v2_timepix512_{part}.cbor.gz").read_bytes())
        for part in ("start", name)
    )
    assert not begins_jungfraujoch([memoryview(data)])
    frame = decoded(making(DectrisV2Decoder, TEXT), [data], [start])
    assert frame.photon_energy == pytest.approx(493960.95)
    assert frame.detector.clen == pytest.approx(0.53185)
    expected = independent(data)
    assert_array_equal(frame.image, expected)
    assert expected.max() > 0
