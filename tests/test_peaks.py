# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of peaks: resolution, hits, positions for the stream, and the checks of supplied peaks."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from backends.peakfinder8_cases import FixedMasks, make_frame, make_geometry, make_panel
from backends.peakfinder8_frozen import printed, read_frozen
from backends.supplied_cases import supplied_case

from gpuidx.formats import Decoder
from gpuidx.geometry import read_geometry
from gpuidx.geometry.masks import Masks, ValueRules
from gpuidx.model import Message, PeakList
from gpuidx.options import Options
from gpuidx.peaks import is_hit, one_over_d, peak_resolution, stream_position, validate, validated

SUPPLIED = read_frozen("peaks_supplied.txt.gz")
SIZE = 40
GEOMETRY = make_geometry([make_panel("p0", (0, 0, SIZE, SIZE), (-20.0, -20.0), max_adu=1000.0)], (SIZE, SIZE))
OPTIONS = Options(
    geometry="case.geom", output="case.stream", input="case.lst", indexing="none", peaks="peakfinder8",
    int_radius=(3.0, 4.0, 5.0),
)  # fmt: skip


def peak_list(*positions: tuple[float, float], intensity: float = 5.0) -> PeakList:
    fs, ss = np.array(positions, float).reshape(-1, 2).T
    return PeakList(fs=fs, ss=ss, panel=np.zeros(len(fs), np.int32), intensity=np.full(len(fs), intensity))


def spot_frame(top: float = 100.0, dtype: str = "i4"):
    """A spot of one pixel at (20, 20) over a chequered background of 10 and 12."""
    ss, fs = np.mgrid[:SIZE, :SIZE]
    image = (10 + 2 * ((fs + ss) % 2)).astype(dtype)
    image[20, 20] = top
    return make_frame(GEOMETRY, image)


def check(frame, peaks: PeakList, masks: FixedMasks | None = None, **more) -> PeakList:
    return validate(
        frame, peaks, GEOMETRY, dataclasses.replace(OPTIONS, **more), masks or FixedMasks(GEOMETRY)
    )


@pytest.mark.parametrize("number", SUPPLIED)
def test_supplied_peaks_are_kept_and_measured_as_crystfel_does(number: int) -> None:
    supplied = supplied_case(number)
    case = supplied.case
    kept = validate(case.frame, supplied.peaks, case.geometry, supplied.options, case.masks)
    assert printed(case.geometry, case.frame, kept) == SUPPLIED[number]


def test_the_frozen_checks_keep_some_peaks_and_drop_some() -> None:
    kept = sum(len(lines) - 1 for lines in SUPPLIED.values())
    sent = sum(len(supplied_case(number).sent) for number in SUPPLIED)
    assert 400 < kept < sent // 2


def test_a_kept_peak_has_its_own_position_and_a_new_intensity() -> None:
    kept = check(spot_frame(), peak_list((20.9, 20.1)))
    assert (kept.fs.tolist(), kept.ss.tolist()) == ([20.9], [20.1])
    disc = [(x + y) % 2 for x in range(-3, 4) for y in range(-3, 4) if x * x + y * y <= 9]
    ring = [(x + y) % 2 for x in range(-5, 6) for y in range(-5, 6) if 16 <= x * x + y * y <= 25]
    expected = 90 + sum(10 + 2 * odd for odd in disc) - len(disc) * (10 + 2 * np.mean(ring))
    assert kept.intensity == pytest.approx([expected])


def test_a_peak_whose_ring_leaves_the_panel_is_dropped() -> None:
    frame = spot_frame()
    positions = [(5.0, 20.0), (4.99, 20.0), (34.99, 20.0), (35.0, 20.0), (20.0, 5.0), (20.0, 4.99)]
    assert check(frame, peak_list(*positions)).fs.tolist() == [5.0, 34.99, 20.0]


@pytest.mark.parametrize(
    ("where", "n_kept"),
    [((20, 23), 0), ((20, 24), 0), ((20, 25), 0), ((23, 23), 0), ((20, 26), 1), ((22, 23), 1)],
)
def test_a_bad_pixel_in_disc_or_ring_drops_the_peak(where: tuple[int, int], n_kept: int) -> None:
    bad = np.zeros((SIZE, SIZE), bool)
    bad[where] = True
    assert len(check(spot_frame(), peak_list((20.5, 20.5)), FixedMasks(GEOMETRY, bad))) == n_kept
    assert len(check(_with(spot_frame(dtype="f4"), where, np.nan), peak_list((20.5, 20.5)))) == n_kept
    rules = FixedMasks(GEOMETRY, None, ValueRules(equal=77.0))
    assert len(check(_with(spot_frame(), where, 77), peak_list((20.5, 20.5)), rules)) == n_kept


def _with(frame, where: tuple[int, int], value: float):
    frame.image[where] = value
    return frame


def test_a_flat_place_is_no_peak() -> None:
    frame = make_frame(GEOMETRY, np.full((SIZE, SIZE), 7, np.int32))
    assert len(check(frame, peak_list((20.5, 20.5)))) == 0


def test_a_hole_is_dropped_when_its_variance_is_negative() -> None:
    frame = make_frame(GEOMETRY, np.full((SIZE, SIZE), 7, np.int32))
    frame.image[20, 20] = 6  # no spread in the ring; -1 ADU of signal
    assert len(check(frame, peak_list((20.5, 20.5)))) == 0


def test_saturation_counts_in_disc_and_ring_when_asked_for() -> None:
    peaks = peak_list((20.5, 20.5))
    assert len(check(spot_frame(1001.0), peaks)) == 1
    assert len(check(spot_frame(1001.0), peaks, use_saturated=False)) == 0
    assert len(check(spot_frame(1000.0), peaks, use_saturated=False)) == 1
    assert len(check(_with(spot_frame(), (25, 20), 1001), peaks, use_saturated=False)) == 0
    masks = FixedMasks(GEOMETRY)
    masks.saturation_map = np.full((SIZE, SIZE), 50, np.float32)
    assert len(check(spot_frame(), peaks, masks, use_saturated=False)) == 0
    assert len(check(spot_frame(), peaks, masks)) == 1


def test_the_signal_to_noise_ratio_counts_only_when_asked_for() -> None:
    peaks = peak_list((20.5, 20.5))
    assert len(check(spot_frame(30.0), peaks, min_snr=50.0)) == 1
    assert len(check(spot_frame(30.0), peaks, min_snr=50.0, check_hdf5_snr=True)) == 0
    assert len(check(spot_frame(30.0), peaks, min_snr=1.0, check_hdf5_snr=True)) == 1


def test_radii_of_peaks_come_before_those_of_integration() -> None:
    edge = peak_list((4.5, 20.5))
    assert len(check(spot_frame(), edge)) == 0
    assert len(check(spot_frame(), edge, peak_radius=(2.0, 3.0, 4.9))) == 1


def test_a_frame_without_pixels_keeps_no_peak() -> None:
    assert len(check(make_frame(GEOMETRY, None), peak_list((20.5, 20.5)))) == 0


def test_a_frame_gets_its_checked_peaks() -> None:
    frame = dataclasses.replace(spot_frame(), peaks=peak_list((20.5, 20.5), (1.0, 1.0)))
    checked = validated(frame, GEOMETRY, OPTIONS, FixedMasks(GEOMETRY))
    assert checked.peaks is not None
    assert checked.peaks.fs.tolist() == [20.5]
    assert validated(spot_frame(), GEOMETRY, OPTIONS, FixedMasks(GEOMETRY)).peaks is None


def test_positions_are_rounded_to_float32_twice() -> None:
    geometry = make_geometry([make_panel("p0", (3000, 1000, 64, 64), (0.0, 0.0))], (1064, 3064))
    detector = geometry.detector(0.1)
    fs, ss = stream_position(peak_list((20.1, 30.7)), detector)
    assert fs.dtype == ss.dtype == np.float32
    assert fs[0] == np.float32(np.float32(20.1) + np.float32(3000))
    assert ss[0] == np.float32(np.float32(30.7) + np.float32(1000))
    values = np.arange(20000) * 0.0031415
    peaks = peak_list(*zip(values, values, strict=True))
    fs, _ = stream_position(peaks, detector)
    assert any(f"{a:.2f}" != f"{b:.2f}" for a, b in zip(fs, values + 3000, strict=True))


def test_one_over_d_is_that_of_the_scattering_angle() -> None:
    frame = make_frame(GEOMETRY, None)
    inv_d = one_over_d(peak_list((20.0, 20.0), (30.0, 20.0)), frame)
    angle = np.arctan(10 * 75e-6 / 0.08)
    assert inv_d == pytest.approx([0.0, 2 * np.sin(angle / 2) / frame.wavelength], abs=1e-12)


def test_the_resolution_of_peaks_leaves_out_one_in_fifty() -> None:
    assert peak_resolution(np.empty(0)) == 0.0
    assert peak_resolution(np.array([0.3, 0.1])) == 0.3
    assert peak_resolution(np.arange(99.0)) == 98.0
    assert peak_resolution(np.arange(100.0)[::-1]) == 97.0
    assert peak_resolution(np.arange(149.0)) == 146.0
    assert peak_resolution(np.arange(150.0)) == 146.0


def test_a_hit_has_the_least_number_of_peaks() -> None:
    assert is_hit(peak_list(), 0)
    assert is_hit(peak_list((1, 1), (2, 2)), 2)
    assert not is_hit(peak_list((1, 1), (2, 2)), 3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "geometry_file"),
    [
        ("message_image_f4_array_of_one_map", "image_f4_array_of_one_map", "sim_lysozyme_msgpack"),
        ("message_image_i4_msgpack_numpy", "image_i4_msgpack_numpy", "sim_lysozyme_msgpack"),
        ("message_om_peaks_cspad_0", "om_peaks_cspad_0", "cspad_msgpack"),
    ],
)
def test_peaks_of_messages_are_printed_as_crystfel_does(
    name: str, file: str, geometry_file: str, data_folder: Path
) -> None:
    expected = json.loads(gzip.decompress((data_folder / f"crystfel_reference/{name}.json.gz").read_bytes()))
    geometry = read_geometry(data_folder / f"messages/{geometry_file}.geom")
    options = Options(
        geometry="case.geom", output="case.stream", zmq_input=("tcp://case:1",), zmq_request="next",
        peaks="msgpack", indexing="none", image_data="--no-image-data" not in expected["command"],
        revalidate="--no-revalidate" not in expected["command"],
    )  # fmt: skip
    masks = Masks(geometry)
    data = gzip.decompress((data_folder / f"messages/{file}.msgpack.gz").read_bytes())
    message = Message(serial=1, filename="case", event="//1", data=memoryview(bytearray(data)))
    frame = Decoder(geometry, options, masks).decode(message)
    if options.revalidate:
        frame = validated(frame, geometry, options, masks)
    assert frame.peaks is not None
    (said,) = expected["frames"]
    table = [f"{a:7.2f} {b:7.2f} {c:10.2f}  {d:10.2f}   {e}" for a, b, c, d, e in said["peaks"]]
    head, *lines = printed(geometry, frame, frame.peaks)
    assert lines == table
    assert head.split()[2] == f"{said['peak_resolution_invnm']:f}"
