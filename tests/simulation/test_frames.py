# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole frames: what is in them, and that a seed makes the same ones again."""

import dataclasses

import numpy as np
import pytest

from gpuidx.cell import UnitCell
from gpuidx.errors import CellFileError, OptionError
from gpuidx.geometry import parse_geometry
from gpuidx.simulation.detector import default_geometry
from gpuidx.simulation.frames import Simulator, simulate_frame
from gpuidx.simulation.settings import FrameSettings, check_settings


def crystal_spots(frame):
    return [crystal.spots for crystal in frame.truth.crystals]


def test_same_seed_same_frames_in_any_order(four, cell):
    settings = FrameSettings(seed=3, hit_fraction=0.5, read_noise=1.0, energy_spread=0.001, bad_fraction=0.01)
    first, second = Simulator(four, cell, settings), Simulator(four, cell, settings)
    frames = [first.numbered(i) for i in range(4)]
    for number in (2, 0, 3, 1):
        again = second.numbered(number)
        np.testing.assert_array_equal(again.image, frames[number].image)
        assert again.truth.photon_energy == frames[number].truth.photon_energy
        for mine, other in zip(crystal_spots(again), crystal_spots(frames[number]), strict=True):
            np.testing.assert_array_equal(mine.counts, other.counts)


def test_other_seed_other_frames(four, cell):
    frames = [Simulator(four, cell, FrameSettings(seed=seed)).numbered(0) for seed in (0, 1)]
    assert (frames[0].image != frames[1].image).mean() > 0.5
    recips = [frame.truth.crystals[0].recip for frame in frames]
    assert np.abs(recips[0] - recips[1]).max() > 1e-4


def test_share_of_hits(four, cell):
    simulator = Simulator(four, cell, FrameSettings(hit_fraction=0.3))
    truths = [simulator.numbered(i).truth for i in range(300)]
    hits = sum(truth.hit for truth in truths)
    assert 60 <= hits <= 120
    assert all(bool(truth.crystals) == truth.hit for truth in truths)


def test_pixels_are_background_plus_counts_of_spots(four, cell):
    settings = FrameSettings(background=(0.0, 0.0), photons=2000.0)
    frame = Simulator(four, cell, settings).numbered(0)
    (spots,) = crystal_spots(frame)
    assert spots.counts.sum() > 1000
    assert frame.image.sum() == spots.counts.sum()


def test_integrated_spots_are_the_counts_of_the_truth(four):
    cell = UnitCell(parameters=(15.0, 16.0, 17.0, 90.0, 90.0, 90.0))  # few spots, far apart
    settings = FrameSettings(photons=5000.0, background=(2.0, 2.0), profile_radius=0.004)
    simulator = Simulator(four, cell, settings)
    frame = simulator.numbered(1)
    (spots,) = crystal_spots(frame)
    rect = frame.detector.rect
    inside = (spots.fs > 8) & (spots.ss > 8) & (spots.fs < 120) & (spots.ss < 120)
    distance = np.maximum(abs(spots.fs[:, None] - spots.fs), abs(spots.ss[:, None] - spots.ss)) + 1000 * (
        spots.panel[:, None] != spots.panel
    )
    alone = np.flatnonzero(inside & (spots.counts > 500) & ((distance < 11).sum(axis=1) == 1))
    assert len(alone) >= 3
    for i in alone:
        x = rect[spots.panel[i], 0] + int(spots.fs[i])
        y = rect[spots.panel[i], 1] + int(spots.ss[i])
        box = frame.image[y - 5 : y + 6, x - 5 : x + 6]
        background = float(simulator.background[y - 5 : y + 6, x - 5 : x + 6].sum())
        assert box.sum() - background == pytest.approx(spots.counts[i], abs=5 * background**0.5)


def test_given_orientation_is_taken(four, cell):
    recip = np.diag([1 / 79.1, 1 / 79.1, 1 / 37.9])
    frame = simulate_frame(four, cell, np.random.default_rng(0), FrameSettings(), recip)
    np.testing.assert_array_equal(frame.truth.crystals[0].recip, recip)


def test_given_orientations_are_taken_in_turn(four, cell):
    known = [np.diag([1 / 79.1, 1 / 79.1, 1 / 37.9]) * s for s in (1.0, 1.001, 1.002)]
    simulator = Simulator(four, cell, FrameSettings(lattices=2), known)
    taken = [c.recip[0, 0] for i in range(3) for c in simulator.numbered(i).truth.crystals]
    assert taken == [known[i % 3][0, 0] for i in range(6)]


def test_several_lattices(four, cell):
    frame = Simulator(four, cell, FrameSettings(lattices=3)).numbered(0)
    assert len(frame.truth.crystals) == 3


def test_size_and_cell_of_crystals_vary(four, cell):
    simulator = Simulator(four, cell, FrameSettings(scale_spread=0.5, cell_spread=0.002))
    crystals = [simulator.numbered(i).truth.crystals[0] for i in range(60)]
    scales = np.log([crystal.scale for crystal in crystals])
    volumes = np.array([np.linalg.det(crystal.recip) for crystal in crystals]) * 79.1**2 * 37.9
    assert scales.std() == pytest.approx(0.5, rel=0.4)
    assert volumes.std() == pytest.approx(0.006, rel=0.4)
    assert volumes.mean() == pytest.approx(1.0, abs=0.004)


def test_bad_pixels_and_gaps_show_their_values(cell):
    text = "photon_energy = 9000\nclen = 0.1\nres = 10000\nadu_per_photon = 1\n"
    text += "a/min_fs = 10\na/max_fs = 99\na/min_ss = 5\na/max_ss = 94\na/corner_x = 0\na/corner_y = 0\n"
    geometry = parse_geometry(text + "a/fs = x\na/ss = y\n", "one.geom")
    settings = FrameSettings(bad_fraction=0.1, bad_value=-7, gap_value=65535, dtype="i4")
    simulator = Simulator(geometry, cell, settings)
    image = simulator.numbered(0).image
    assert 0.08 < simulator.bad[5:, 10:].mean() < 0.12
    assert (image[simulator.bad] == -7).all()
    assert (image[:5] == 65535).all()
    assert (image[:, :10] == 65535).all()
    assert (image[5:, 10:][~simulator.bad[5:, 10:]] >= 0).all()
    np.testing.assert_array_equal(simulator.numbered(1).image == -7, simulator.bad)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_pixel_types(four, cell, dtype):
    plain = Simulator(four, cell, FrameSettings(background=(3.0, 5.0))).numbered(0).image
    image = Simulator(four, cell, FrameSettings(background=(3.0, 5.0), dtype=dtype)).numbered(0).image
    assert image.dtype == np.dtype("<" + dtype)
    limit = 255 if dtype == "u1" else 32767
    np.testing.assert_array_equal(image, np.minimum(plain, limit))


def test_gain_of_the_panels_is_applied(tilted, cell):
    frame = Simulator(tilted, cell, FrameSettings(background=(5.0, 5.0))).numbered(0)
    assert (frame.image[:, :200] % 2 == 0).all()
    assert (frame.image[:, 200:] % 10 == 0).all()
    assert frame.image[:, 200:].mean() == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(
    ("lines", "name", "value"),
    [
        ("photon_energy = E\nclen = 0.1", "E", 8000.0),
        ("photon_energy = E keV\nclen = 0.1", "E", 8.0),
        ("wavelength = L A\nclen = 0.1", "L", 1.549802),
        ("wavelength = L m\nclen = 0.1", "L", 1.549802e-10),
        ("photon_energy = 8000\nclen = C", "C", 123.0),
        ("photon_energy = 8000\nclen = C mm", "C", 123.0),
        ("photon_energy = 8000\nclen = C m", "C", 0.123),
        ("photon_energy = 8000\nclen = 0.1\ndetector_shift_x = X mm\ndetector_shift_y = 0 m", "X", 0.0),
    ],
)
def test_headers_have_the_units_of_the_geometry(cell, lines, name, value):
    text = default_geometry(128)
    text = "\n".join(line for line in text.split("\n") if not line.startswith(("photon_energy", "clen")))
    geometry = parse_geometry(lines + "\n" + text, "x.geom")
    frame = Simulator(geometry, cell, FrameSettings(photon_energy=8000, clen=0.123)).numbered(0)
    assert frame.headers == {name: pytest.approx(value, rel=1e-6)}


def test_beam_varies_and_headers_tell_it(four, cell):
    settings = FrameSettings(energy_spread=0.002, clen_spread=1e-4, clen=0.06)
    simulator = Simulator(four, cell, settings)
    frames = [simulator.numbered(i) for i in range(100)]
    energies = np.array([frame.headers["beam_energy"] for frame in frames])
    lengths = np.array([frame.headers["detector_distance"] for frame in frames])
    assert energies.std() == pytest.approx(19.0, rel=0.3)
    assert lengths.std() == pytest.approx(0.1, rel=0.3)
    assert [f.truth.photon_energy for f in frames] == list(energies)
    assert frames[0].detector.clen == pytest.approx(frames[0].truth.clen)
    spots = frames[0].truth.crystals[0].spots
    ray = spots.hkl @ frames[0].truth.crystals[0].recip
    ray[:, 2] += 1 / frames[0].truth.wavelength
    scale, fs, _ = np.einsum("nij,nj->in", frames[0].detector.back[spots.panel], ray)
    np.testing.assert_allclose(fs / scale, spots.fs, atol=1e-3)


def test_camera_length_is_chosen_for_a_resolution_at_the_edge(four, cell):
    frame = Simulator(four, cell, FrameSettings()).numbered(0)
    panel = np.zeros(1, np.intp)
    q = frame.detector.q(panel, np.array([0.0]), np.array([124.0]), frame.truth.wavelength)
    assert 1 / np.linalg.norm(q) == pytest.approx(2.2, rel=0.05)


def test_frame_is_one_that_decoders_give(four, cell):
    frame = Simulator(four, cell, FrameSettings(dtype="f8")).numbered(0).frame(serial=5)
    assert (frame.serial, frame.event) == (5, "//5")
    assert frame.image.dtype == np.float32
    assert frame.photon_energy == 9500.0
    assert frame.image.shape == four.slab_shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"profile_radius": 0.0}, "--profile-radius is 0"),
        ({"photons": -1.0}, "--photons is -1"),
        ({"hit_fraction": 1.5}, "--hit-fraction is 1.5"),
        ({"lattices": 0}, "--lattices is 0"),
        ({"background": (1.0, 2000.0)}, "--background"),
        ({"spot_sigma": float("nan")}, "--spot-sigma is nan"),
    ],
)
def test_settings_that_make_no_frame_are_refused(values, message):
    with pytest.raises(OptionError, match=message):
        check_settings(dataclasses.replace(FrameSettings(), **values))


def test_spread_of_a_fixed_value_is_refused(tilted, cell):
    with pytest.raises(OptionError, match="--energy-spread needs a geometry that looks"):
        Simulator(tilted, cell, FrameSettings(energy_spread=0.01))


def test_cell_without_parameters_is_refused(four):
    with pytest.raises(CellFileError):
        Simulator(four, UnitCell(parameters=None), FrameSettings())
