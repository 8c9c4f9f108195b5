# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that are pushed, as detectors and their relays do: series, and messages with several frames."""

from pathlib import Path

import numpy as np
import pytest
from live import PEAKS, SIZE, Server, beamtime, finish, is_right, same_content, start, write_inputs

from gpuidx.simulation import encode_dectris, encode_hdf5
from gpuidx.simulation.detector import default_geometry

PROGRAM = str(Path(__file__).with_name("device_program.py"))
N_FRAME = 12
HEADERS = beamtime(N_FRAME).frames[0].headers
ENERGY, DISTANCE = float(HEADERS["beam_energy"]), float(HEADERS["detector_distance"])


def images() -> list[np.ndarray]:
    return [frame.image.astype(np.uint16) for frame in beamtime(N_FRAME).frames]


def geometry(energy: str, distance: str, data: str) -> str:
    text = default_geometry(SIZE).replace("data = detector_data", f"data = {data}")
    return text.replace("= beam_energy ", f"= {energy} ").replace("= detector_distance ", f"= {distance} ")


def v1_messages() -> list[list[bytes]]:
    """Two series; the second has the true energy."""
    half = N_FRAME // 2
    wrong, right = {"photon_energy": 2 * ENERGY}, {"photon_energy": ENERGY}
    one = [encode_dectris.v1_image(image, n, 1) for n, image in enumerate(images()[:half])]
    other = [encode_dectris.v1_image(image, half + n, 2) for n, image in enumerate(images()[half:])]
    return [
        encode_dectris.v1_start(1, wrong), *one, encode_dectris.v1_end(1),
        encode_dectris.v1_start(2, right), *other, encode_dectris.v1_end(2),
    ]  # fmt: skip


BAD = slice(0, SIZE // 3)
"""Rows that the detector calls bad."""


def v2_messages() -> list[list[bytes]]:
    mask = np.zeros((SIZE, SIZE), np.uint32)
    mask[BAD] = 1
    own = [
        encode_dectris.v2_image({"threshold_1": image}, n, compression="bslz4")
        for n, image in enumerate(images())
    ]
    start = encode_dectris.v2_start({"incident_energy": ENERGY}, pixel_mask={"threshold_1": mask})
    return [start, *own, encode_dectris.v2_end()]


def hdf5_messages() -> list[list[bytes]]:
    """Three files of four frames."""
    files = []
    for first in range(0, N_FRAME, 4):
        numbers = np.arange(first, first + 4)
        headers = {"/entry/energy": ENERGY, "/entry/frame": numbers}
        stack = np.stack(images()[first : first + 4])
        files.append([encode_hdf5.encode(stack, headers, data="/entry/data/data", compression="bslz4")])
    return files


def push(folder: Path, messages: list[list[bytes]], text: str, header: str, *words: str, device: str = ""):
    """A run on these messages; *device*: with this one of `device_bodies`."""
    write_inputs(folder, text)
    program = ("-m", "gpuidx") if not device else (PROGRAM, device, "1")
    with Server("push", messages) as server:
        process = start(
            folder, f"--zmq-input={server.address}", "--zmq-pull", "-j2", *PEAKS, f"--max-frames={N_FRAME}",
            f"--copy-header={header}", *words, program=program,
        )  # fmt: skip
        return finish(process, folder)


def check(done, header: str, numbers: range = range(N_FRAME)) -> None:
    assert done.code == 0, done.log
    assert done.count("received") == N_FRAME, done.log
    by_number = {int(chunk.headers[header]): chunk for chunk in done.chunks}
    assert sorted(by_number) == list(range(N_FRAME))
    for number in numbers:
        truth, chunk = beamtime(N_FRAME).truths[number], by_number[number]
        assert bool(chunk.crystals) == truth.hit, done.log
        assert not chunk.crystals or is_right(chunk, truth)


def test_frames_of_a_dectris_series_take_values_and_bad_pixels_from_its_start(tmp_path: Path) -> None:
    text = geometry("incident_energy", f"{DISTANCE}", "threshold_1")
    runs = []
    for device in ("", "healthy"):
        folder = tmp_path / f"device {device}"
        folder.mkdir()
        done = push(folder, v2_messages(), text, "image_id", device=device)
        check(done, "image_id")
        assert "on the CPU:" not in done.log
        assert "recognised as DECTRIS Stream V2 (--data-format=dectris-v2)" in done.log
        assert ("which the device decodes" in done.log) == bool(device)
        assert all((chunk.peaks["ss"] >= BAD.stop).all() for chunk in done.chunks)
        runs.append(done.chunks)
    same_content(*runs, header="image_id")


@pytest.mark.parametrize("data_format", ["auto", "dectris-v1"])
def test_each_series_has_values_of_its_own(tmp_path: Path, data_format: str) -> None:
    text = geometry("photon_energy", f"{DISTANCE}", "/entry/data/data")
    done = push(tmp_path, v1_messages(), text, "frame", f"--data-format={data_format}")
    check(done, "frame", range(N_FRAME // 2, N_FRAME))
    energies = {int(c.headers["frame"]): round(c.photon_energy / ENERGY) for c in done.chunks}
    assert energies == {n: 2 if n < N_FRAME // 2 else 1 for n in range(N_FRAME)}


@pytest.mark.parametrize("device", ["", "healthy"])
def test_each_frame_of_a_message_with_several_is_in_the_stream_once(tmp_path: Path, device: str) -> None:
    text = geometry("/entry/energy", f"{DISTANCE}", "/entry/data/data")
    done = push(tmp_path, hdf5_messages(), text, "/entry/frame", device=device)
    check(done, "/entry/frame")
    assert "on the CPU:" not in done.log
    assert len({chunk.serial for chunk in done.chunks}) == N_FRAME


def test_a_run_does_not_end_before_frames_that_wait_for_a_slot(tmp_path: Path) -> None:
    text = geometry("/entry/energy", f"{DISTANCE}", "/entry/data/data")
    done = push(tmp_path, hdf5_messages(), text, "/entry/frame", "--slots=2", "-j1")
    check(done, "/entry/frame")
