# SPDX-License-Identifier: GPL-3.0-or-later
"""Real files sent whole as messages: the frames are those that the files have on the disk."""

import h5py
import pytest
from formats.making_hdf5 import message
from numpy.testing import assert_array_equal

from gpuidx.formats.hdf5 import Hdf5Files
from gpuidx.formats.hdf5_messages import Hdf5Messages
from gpuidx.formats.setting import Setting
from gpuidx.geometry import parse_geometry
from gpuidx.model import Message
from gpuidx.options import Options

FILES = {
    "cspad_thermolysin/cspad_thermolysin.h5": ("cspad_thermolysin/cspad_thermolysin.geom", 2),
    "pilatus6m_thaumatin/thaumatin_grid.h5": ("pilatus6m_thaumatin/thaumatin_h5.geom", 2),
    "rayonix_mx340/rayonix.h5": ("rayonix_mx340/rayonix.geom", 1),
    "jungfrau_module/jungfrau_module.h5": ("jungfrau_module/jungfrau_module.geom", 2),
    "electron/timepix512.h5": ("electron/timepix512.geom", 1),
    "electron/sim_lysozyme_ed.h5": ("electron/sim_lysozyme_ed.geom", 1),
}


@pytest.mark.data
@pytest.mark.parametrize("file", FILES)
def test_a_file_as_a_message_gives_the_frames_of_the_file(data_folder, file):
    path, (geom, n_frame) = data_folder / "images" / file, FILES[file]
    geometry = parse_geometry((data_folder / "images" / geom).read_text(), geom)
    run = Options(
        geometry=geom, output="o.stream", indexing="none", peaks="none", zmq_input=("tcp://h:1",),
        zmq_subscribe=("",),
    )  # fmt: skip
    setting = Setting.of(geometry, run)
    sent, files = Hdf5Messages(setting), Hdf5Files(setting)
    data = path.read_bytes()
    assert sent.frame_count(message(data)) == n_frame
    for number in range(n_frame):
        got = sent.decode(message(data, number))
        event = f"//{number}" if "%" in geometry.arrays[0].dims else "//"
        kept = files.decode(Message(serial=1, filename=str(path), event=event, data=memoryview(b"")))
        assert got.image is not None
        assert kept.image is not None
        assert_array_equal(got.image, kept.image)
        assert (got.wavelength, got.headers) == (kept.wavelength, kept.headers)
        assert got.detector is kept.detector
    files.close()
    with h5py.File(path, locking=False) as stored:  # and both are what HDF5 reads
        array = geometry.arrays[0]
        data_set = stored[array.data]
        place = tuple(slice(None) if dim in ("ss", "fs") else n_frame - 1 for dim in array.dims)
        height, width = array.shape
        expected = data_set[place][:height, :width]
    assert_array_equal(got.image[array.row : array.row + height, :width], expected)
