# SPDX-License-Identifier: GPL-3.0-or-later
"""CBF frames of real detectors, with the pixels that fabio reads."""

import gzip

import fabio
import pytest
from formats.making import image_of
from formats.making_decoders import GEOMETRY_OF, made, message
from numpy.testing import assert_array_equal

from gpuidx.formats.cbf import CbfDecoder, begins, file_begins
from gpuidx.model import Message

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("pilatus6m_thaumatin/thau_3_2_0001.cbf.gz", (0.96859, 0.351, 1261.61, 0.019)),
        ("eiger16m_thermolysin/therm_0001.cbf.gz", (0.98027, 0.21396, 2216.06, 0.008)),
        ("pilatus12m_i23/thau_00001.cbf.gz", (2.7552, 0.01, 1080.0, 0.097)),
    ],
)
def test_frames_are_those_of_fabio(data_folder, name, headers):
    path = data_folder / "images" / name
    expected = fabio.open(path).data
    text = GEOMETRY_OF.format(fs=expected.shape[1] - 1, ss=expected.shape[0] - 1)
    text = text.replace("photon_energy = 9000", "wavelength = Wavelength A")
    text = text.replace("clen = 0.1", "clen = Detector_distance m")
    decoder = made(CbfDecoder, text, copy_header=("Beam_x", "Exposure_time"))
    assert file_begins(str(path))
    frame = decoder.decode_file(Message(serial=1, filename=str(path), event="//", data=memoryview(b"")))
    assert tuple(frame.headers.values()) == headers
    assert_array_equal(image_of(frame), expected)
    sent = message([gzip.decompress(path.read_bytes())])
    assert begins([sent.data])
    assert_array_equal(image_of(decoder.decode(sent)), expected)
