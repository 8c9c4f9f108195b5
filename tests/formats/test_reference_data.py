# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages and files of the reference data folder: OM's forms, and frames of several detectors."""

import gzip
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
from formats.making import decoder, image_of
from numpy.testing import assert_allclose, assert_array_equal

from gpuidx.formats.hdf5_listing import frames_in
from gpuidx.geometry import read_geometry
from gpuidx.model import Message

pytestmark = pytest.mark.data


def message(data: bytes) -> Message:
    return Message(serial=1, filename="ZMQdata", event="//1", data=memoryview(bytearray(data)))


def from_file(filename: Path, event: str) -> Message:
    return Message(serial=1, filename=str(filename), event=event, data=memoryview(b""))


def unzip(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


@pytest.mark.parametrize(("number", "n_peak"), [(0, 151), (1, 94)])
def test_oms_peak_messages(data_folder, number, n_peak):
    folder = data_folder / "messages"
    data = unzip(folder / f"om_peaks_cspad_{number}.msgpack.gz")
    sent: dict[str, Any] = msgpack.unpackb(data)
    text = (folder / "cspad_msgpack.geom").read_text()
    frame = decoder(text, peaks="msgpack", image_data=False, revalidate=False).decode(message(data))
    assert frame.image is None
    assert frame.photon_energy == pytest.approx(sent["beam_energy"], rel=1e-12)
    assert frame.headers == {k: sent[k] for k in ("beam_energy", "detector_distance")}
    peaks = frame.peaks
    assert peaks is not None
    assert len(peaks) == n_peak == sent["peak_list"]["num_peaks"]
    origin = frame.detector.origin[peaks.panel]
    assert_allclose(peaks.fs + origin[:, 0], np.add(sent["peak_list"]["fs"], 0.5))
    assert_allclose(peaks.ss + origin[:, 1], np.add(sent["peak_list"]["ss"], 0.5))
    assert_allclose(peaks.intensity, sent["peak_list"]["intensity"])


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("image_i4_strkeys", "i4"),
        ("image_i4_msgpack_numpy", "i4"),
        ("image_f4_array_of_one_map", "f4"),
        ("image_u2_strkeys", "u2"),
    ],
)
def test_image_messages_have_the_pixels_of_the_file(data_folder, name, letters):
    folder = data_folder / "messages"
    text = (folder / "sim_lysozyme_msgpack.geom").read_text()
    frame = decoder(text).decode(message(unzip(folder / f"{name}.msgpack.gz")))
    electron = data_folder / "images" / "electron"
    from_disk = decoder(
        (electron / "sim_lysozyme_ed.geom").read_text(), input="l", zmq_input=(), zmq_subscribe=()
    )
    other = from_disk.decode(from_file(electron / "sim_lysozyme_ed.h5", "//0"))
    from_disk.close()
    assert image_of(frame).dtype.str[1:] == letters
    assert_array_equal(image_of(frame), image_of(other))
    assert frame.wavelength == pytest.approx(other.wavelength, rel=1e-6)
    assert frame.detector.clen == pytest.approx(other.detector.clen)


@pytest.mark.parametrize(
    ("file", "geometry", "n_frame"),
    [
        ("cspad_thermolysin/cspad_thermolysin.h5", "cspad_thermolysin/cspad_thermolysin.geom", 2),
        ("pilatus6m_thaumatin/thaumatin_grid.h5", "pilatus6m_thaumatin/thaumatin_h5.geom", 2),
        ("rayonix_mx340/rayonix.h5", "rayonix_mx340/rayonix.geom", 1),
        ("jungfrau_module/jungfrau_module.h5", "jungfrau_module/jungfrau_module.geom", 2),
        ("electron/timepix512.h5", "electron/timepix512.geom", 1),
    ],
)
def test_files_of_many_frames(data_folder, file, geometry, n_frame):
    path, geom = data_folder / "images" / file, data_folder / "images" / geometry
    understood = read_geometry(str(geom))
    assert frames_in(str(path), understood) == [("", [n_frame])]
    using = decoder(geom.read_text(), input="list", zmq_input=(), zmq_subscribe=())
    with h5py.File(path, locking=False) as stored:
        for i in range(n_frame):
            frame = using.decode(from_file(path, f"//{i}"))
            image = image_of(frame)
            for panel, (x, y, width, height) in zip(understood.panels, frame.detector.rect, strict=True):
                expected = stored[panel.data][
                    i, panel.min_ss : panel.max_ss + 1, panel.min_fs : panel.max_fs + 1
                ]
                assert_array_equal(image[y : y + height, x : x + width], expected)
    using.close()


def test_each_frame_has_its_own_wavelength(data_folder):
    folder = data_folder / "images" / "cspad_thermolysin"
    using = decoder(
        (folder / "cspad_thermolysin.geom").read_text(), input="l", zmq_input=(), zmq_subscribe=()
    )
    frames = [using.decode(from_file(folder / "cspad_thermolysin.h5", f"//{i}")) for i in range(2)]
    using.close()
    with h5py.File(folder / "cspad_thermolysin.h5", locking=False) as stored:
        assert [f.photon_energy for f in frames] == pytest.approx(stored["/LCLS/photon_energy_eV"][()])
