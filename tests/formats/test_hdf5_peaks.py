# SPDX-License-Identifier: GPL-3.0-or-later
import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from formats.making import IMAGE
from formats.making_files import FILE, MANY, files_decoder
from formats.making_hdf5 import FRAMES, decode, made, message, messages, reason, sent
from numpy.testing import assert_allclose

from gpuidx.errors import Rejected
from gpuidx.formats.hdf5_peaks import COLUMNS, COUNT
from gpuidx.geometry import parse_geometry
from gpuidx.model import Message
from gpuidx.peaks import one_over_d, stream_position
from gpuidx.simulation.encode_hdf5 import put_cxi

CRYSTFEL = Path(__file__).parents[1] / "data" / "peaks_hdf5_crystfel.json.gz"

ONE = FILE.replace("= peaks", "= /peaks")
LISTS = [([], [], []), ([40.0, 20.5], [40.0, 10.25], [100.0, 50.0]), ([3.0], [60.0], [7.0])]
PATH = "/peaks"


def found(data, using, number=0):
    peaks = decode(data, using, number).peaks
    assert peaks is not None
    return peaks


def with_peaks(text=ONE, **options):
    return messages(text, **({"peaks": "cxi"} | options))


@pytest.mark.parametrize("method", ["hdf5", "cxi"])
@pytest.mark.parametrize("kind", ["", "peak_list_type = cxi", "peak_list_type = auto"])
def test_each_frame_has_its_cxi_list(method, kind):
    data = sent(FRAMES[:3], cxi=(PATH, LISTS))
    using = messages(ONE, kind, peaks=method)
    assert [len(found(data, using, number)) for number in range(3)] == [0, 2, 1]
    peaks = found(data, using, 1)
    assert_allclose(peaks.fs, [40.5, 21.0])
    assert_allclose(peaks.ss, [8.5, 10.75])
    assert_allclose(peaks.intensity, [100, 50])
    assert list(peaks.panel) == [1, 0]


@pytest.mark.parametrize("method", ["hdf5", "cxi"])
@pytest.mark.parametrize("kind", ["", "peak_list_type = list3"])
def test_a_frame_has_its_table(method, kind):
    peaks = found(sent(table=(PATH, LISTS[1])), messages(ONE, kind, peaks=method))
    assert_allclose(peaks.fs, [40.5, 21.0])
    assert_allclose(peaks.intensity, [100, 50])


def test_half_a_pixel_is_added_unless_told_otherwise():
    peaks = found(sent(table=(PATH, LISTS[1])), with_peaks(half_pixel_shift=False))
    assert_allclose(peaks.fs, [40.0, 20.5])


def test_an_empty_table_is_a_frame_without_peaks():
    assert len(found(sent(masks={PATH: np.zeros((0, 3), "f4")}), with_peaks())) == 0


def test_a_fourth_column_and_any_type_of_numbers_are_taken():
    table = np.array([[40, 40, 100, 9], [20, 10, 50, 9]], ">i2")
    peaks = found(sent(masks={PATH: table}), with_peaks())
    assert_allclose(peaks.fs, [40.5, 20.5])
    assert_allclose(peaks.intensity, [100, 50])


def test_peaks_that_are_nowhere_are_dropped_and_counted():
    lists = [([400.0, np.nan, 5.0, 6.0], [4.0, 5.0, 5.0, 6.0], [1.0, 1.0, np.nan, 2.0])]
    data, using = sent(cxi=(PATH, lists)), with_peaks(revalidate=False)
    assert_allclose(found(data, using).fs, [6.5])
    assert using._reader.peaks._reader.notes == {
        "peaks outside all panels, dropped": 1,
        "peaks that are not finite, dropped": 2,
    }


def test_an_intensity_that_is_measured_anew_need_not_be_a_number():
    lists = [([5.0, 6.0], [5.0, 6.0], [np.nan, 2.0])]
    assert_allclose(found(sent(cxi=(PATH, lists)), with_peaks()).fs, [5.5, 6.5])


def test_without_images_the_lists_tell_how_many_frames_there_are():
    data = sent(FRAMES[:3], cxi=(PATH, LISTS))
    using = with_peaks(ONE.replace("/entry/data", "/none"), image_data=False, revalidate=False)
    assert using.frame_count(message(data)) == 3
    assert len(found(data, using, 1)) == 2
    table = sent(table=(PATH, LISTS[1]))
    assert using.frame_count(message(table)) == 1
    assert len(found(table, using)) == 2


def broken(change):
    """A message of three frames whose lists have been changed."""

    def fill(file):
        file["entry/data"] = FRAMES[:3]
        put_cxi(file, PATH, LISTS, room=5)
        change(file)

    return made(fill)


def put(file, name, value):
    del file[f"{PATH}/{name}"]
    if value is not None:
        file[f"{PATH}/{name}"] = value


@pytest.mark.parametrize(
    ("change", "why", "text"),
    [
        (lambda f: put(f, COUNT, None), "missing key", "'/peaks/nPeaks'"),
        (lambda f: put(f, COLUMNS[2], None), "missing key", "'/peaks/peakTotalIntensity'"),
        (lambda f: put(f, COUNT, [0, 6, 1]), "bad peak list", "room for 5 of 6 peaks"),
        (lambda f: put(f, COUNT, [0, -1, 1]), "bad peak list", "has -1 peaks"),
        (lambda f: put(f, COUNT, [0, np.nan, 1]), "bad peak list", "has nan peaks"),
        (lambda f: put(f, COUNT, [0, 200_000, 1]), "bad peak list", "at most 100000"),
        (lambda f: put(f, COUNT, [0]), "bad peak list", "there is no frame 1"),
        (lambda f: put(f, COUNT, 2), "bad peak list", "expected numbers in 1 dimension"),
        (lambda f: put(f, COUNT, [b"0", b"2", b"1"]), "bad peak list", "expected numbers in 1 dimension"),
        (lambda f: put(f, COLUMNS[0], np.zeros((1, 5))), "bad peak list", "there is no frame 1"),
        (lambda f: put(f, COLUMNS[1], np.zeros(5)), "bad peak list", "in 2 dimensions"),
    ],
)
def test_a_list_that_is_none_is_rejected(change, why, text):
    assert found(broken(lambda f: None), with_peaks(), 1).fs.tolist() == [40.5, 21.0]
    got = reason(broken(change), with_peaks(), 1)
    assert got[0] == why
    assert text in got[1]


def test_a_table_that_is_none_is_rejected():
    for table in (np.zeros((4, 2)), np.zeros(3), np.zeros((100_001, 3), "i1")):
        assert reason(sent(masks={PATH: table}), with_peaks())[0] == "bad peak list"
    assert "one list, for 5 frames" in reason(sent(FRAMES, table=(PATH, LISTS[1])), with_peaks())[1]
    assert reason(sent(), with_peaks())[0] == "missing key"
    assert reason(sent(), with_peaks(FILE.replace("peak_list = peaks\n", "")))[0] == "bad peak list"
    assert "there is one frame" in reason(sent(IMAGE, cxi=(PATH, LISTS)), with_peaks())[1]


def test_no_list_outside_the_message_is_read(tmp_path):
    path = tmp_path / "foreign.h5"
    path.write_bytes(sent(cxi=(PATH, LISTS[1:2])))

    def change(file):
        del file[PATH]
        file[PATH] = h5py.ExternalLink(str(path), PATH)

    assert reason(broken(change), with_peaks(), 1)[0] == "leads out of the message"


def test_files_have_lists_too(tmp_path):
    path = tmp_path / "a.cxi"
    path.write_bytes(sent(FRAMES[:3], cxi=(PATH, LISTS)))
    using = files_decoder(MANY.replace("= peaks", "= /peaks"), peaks="cxi")
    frame = using.decode(Message(serial=1, filename=str(path), event="//1", data=memoryview(b"")))
    using.close()
    assert frame.peaks is not None
    assert_allclose(frame.peaks.fs, [40.5, 21.0])


TWO_PANELS = """\
photon_energy = 9500 eV
clen = 0.1 m
res = 10000
adu_per_photon = 2
data = /entry/data
peak_list = /peaks
p0/min_fs = 0
p0/max_fs = 199
p0/min_ss = 0
p0/max_ss = 99
p0/fs = x
p0/ss = y
p0/corner_x = -100
p0/corner_y = -100
p1/min_fs = 0
p1/max_fs = 199
p1/min_ss = 100
p1/max_ss = 199
p1/fs = x
p1/ss = y
p1/corner_x = -100
p1/corner_y = 0
"""


@pytest.mark.parametrize("words", ["--no-revalidate", "--no-revalidate --no-half-pixel-shift"])
def test_lists_are_those_that_crystfel_makes_of_them(words):
    """To the printed digit, and in its order; it keeps intensities that are no numbers."""
    kept = json.loads(gzip.decompress(CRYSTFEL.read_bytes()))
    lists = [[[float(value) for value in column] for column in one] for one in kept["lists"]]
    geometry = parse_geometry(TWO_PANELS, "two.geom")
    images = np.zeros((len(lists), 200, 200), np.uint8)
    data = sent(images, headers={}, cxi=(PATH, lists))
    using = messages(TWO_PANELS, peaks="cxi", revalidate=False, half_pixel_shift="half" not in words)
    n_peak = 0
    for number, expected in enumerate(kept["lines"][words]):
        frame = decode(data, using, number)
        assert frame.peaks is not None
        fs, ss = stream_position(frame.peaks, frame.detector)
        inv_d = one_over_d(frame.peaks, frame) * 10
        got = [
            [f"{x:.2f}", f"{y:.2f}", f"{q:.2f}", f"{intensity:.2f}", geometry.panels[panel].name]
            for x, y, q, intensity, panel in zip(
                fs, ss, inv_d, frame.peaks.intensity, frame.peaks.panel, strict=True
            )
        ]
        assert got == [line for line in expected if line[3] not in ("nan", "inf")]
        n_peak += len(got)
    assert n_peak > 400


def test_what_a_list_claims_to_hold_is_not_believed():
    def huge(file):
        del file[f"{PATH}/{COLUMNS[0]}"]
        file[PATH].create_dataset(COLUMNS[0], (3, 2**50), "f4", chunks=(1, 2**20))

    using = with_peaks()
    assert len(found(broken(huge), using, 1)) == 2  # never written: zeros
    with pytest.raises(Rejected):
        decode(broken(lambda f: put(f, COUNT, np.zeros((1, 1)))), using, 1)
