# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in HDF5 files, and the built-in detector."""

import h5py
import numpy as np
import pytest

from gpuidx.errors import GeometryError
from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import NAMES, default_geometry
from gpuidx.simulation.files import write_frames
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings


def written(tmp_path, cell, text, n=3, **settings):
    geometry = parse_geometry(text, "x.geom")
    simulator = Simulator(geometry, cell, FrameSettings(**settings))
    frames = [simulator.numbered(i) for i in range(n)]
    return frames, write_frames(frames, n, tmp_path / "out", geometry)


def test_frames_lie_along_the_dimension_for_them(tmp_path, cell):
    frames, files = written(tmp_path, cell, default_geometry(128, "hdf5"), dtype="u2", energy_spread=0.01)
    assert files == [tmp_path / "out.h5"]
    with h5py.File(files[0]) as file:
        assert file["/entry/data"].shape == (3, 128, 128)
        assert file["/entry/data"].dtype == np.uint16
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(file["/entry/data"][number], frame.image)
            assert file["/entry/beam_energy"][number] == frame.truth.photon_energy
            assert file["/truth_id"][number] == number
    assert (tmp_path / "out.lst").read_text() == f"{files[0].resolve()}\n"


def test_one_file_each_without_such_a_dimension(tmp_path, cell):
    text = default_geometry(128, "hdf5").replace(
        "dim0 = %\ndim1 = ss\ndim2 = fs", "dim0 = 1\ndim1 = ss\ndim2 = fs"
    )
    frames, files = written(tmp_path, cell, text)
    assert [file.name for file in files] == ["out_00000.h5", "out_00001.h5", "out_00002.h5"]
    assert len((tmp_path / "out.lst").read_text().splitlines()) == 3
    with h5py.File(files[2]) as file:
        assert file["/entry/data"].shape == (2, 128, 128)
        np.testing.assert_array_equal(file["/entry/data"][1], frames[2].image)
        assert file["/entry/beam_energy"][()] == 9500.0


def test_panels_in_slices_of_one_array(tmp_path, cell):
    top, *panels = default_geometry(128, "hdf5").split("\n\np")
    text = top.replace("dim1 = ss\ndim2 = fs", "")
    for i, panel in enumerate(panels):
        lines = panel.replace("= 64", "= 0").replace("= 127", "= 63")
        text += f"\n\np{lines}\np{i}/dim1 = {i}\np{i}/dim2 = ss\np{i}/dim3 = fs\n"
    frames, files = written(tmp_path, cell, text)
    with h5py.File(files[0]) as file:
        assert file["/entry/data"].shape == (3, 4, 64, 64)
        for slab, (x0, y0, w, h) in enumerate(frames[1].detector.rect):
            np.testing.assert_array_equal(
                file["/entry/data"][1, slab], frames[1].image[y0 : y0 + h, x0 : x0 + w]
            )


def test_placeholders_in_paths_are_refused(tmp_path, cell):
    text = default_geometry(128, "hdf5").replace("data = /entry/data", "data = /%/data")
    with pytest.raises(GeometryError, match=r"x\.geom: simulation writes"):
        written(tmp_path, cell, text)


@pytest.mark.parametrize("n", [64, 2048])
@pytest.mark.parametrize("form", NAMES)
def test_built_in_detector_is_a_good_one(n, form):
    geometry = parse_geometry(default_geometry(n, form), "default.geom")
    assert geometry.slab_shape == (n, n)
    assert len(geometry.panels) == 4
    assert geometry.warnings == ()
    for panel in geometry.panels:
        assert np.linalg.norm(panel.fs) == pytest.approx(1, abs=1e-5)
        assert np.dot(panel.fs, panel.ss) == pytest.approx(0, abs=1e-5)
    detector = geometry.detector(0.1)
    scale, fs, ss = np.einsum("nij,j->in", detector.back, [0.0, 0.0, 1.0])
    on = (fs / scale >= 0) & (fs / scale < n // 2) & (ss / scale >= 0) & (ss / scale < n // 2)
    assert not on.any()
