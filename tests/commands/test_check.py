# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx check`` as a user runs it, on simulated frames over a real socket."""

import struct
import sys
import threading

import msgpack
import numpy as np
import pytest
import zmq
from live import PEAKS, SIZE, Server, beamtime, write_inputs
from simulation.asapo.client import need_library

from gpuidx import cli
from gpuidx.commands import check_receive
from gpuidx.simulation.asapo.server import StandIn
from gpuidx.simulation.detector import default_geometry
from gpuidx.simulation.files import write_mask


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with geometry and cell."""
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(capsys, *words):
    """Exit code and output, of which line breaks and the like are single blanks."""
    code = cli.call(["check", "-g", "test.geom", "-p", "test.cell", *PEAKS, *words])
    out = capsys.readouterr()
    return code, " ".join(out.out.split()), out.err


def hit():
    """The first frame with a crystal, and its message."""
    sent = beamtime(6)
    number = next(i for i, truth in enumerate(sent.truths) if truth.hit)
    return sent.frames[number], sent.messages[number]


def test_each_step_of_a_frame_is_told_and_the_picture_is_drawn(folder, capsys):
    pytest.importorskip("matplotlib", reason="install the extra: pip install gpuidx[pictures]")
    from matplotlib import image

    _, message = hit()
    with Server("rep", [message]) as server:
        code, text, err = checked(capsys, *server.request, "--picture=p.png", "-j", "4")
        assert server.sent == 1
    assert (code, err) == (0, "")
    for part in ("REQ socket, request 'next'", "connected after", "1 frame,", "MsgPack, rec",
                 f"{SIZE} × {SIZE} pixels", "'beam_energy': 9500 eV, that is 9500 eV, 1.3051 Å",
                 "bad regions:", "1 lattice found, 1 accepted", "against the target:", "reflections, left",
                 "-j 4 gives", "picture: p.png", "all steps gave something"):  # fmt: skip
        assert part in text, text
    data = (folder / "p.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1560, 1560)
    red, green, blue = np.moveaxis(image.imread(folder / "p.png")[..., :3], -1, 0)
    assert np.mean(red > green + 0.4) > 0.002  # peaks
    assert np.mean(blue > red + 0.4) > 0.002  # predicted reflections


def test_of_several_frames_that_with_most_peaks_is_taken(folder, capsys):
    sent = beamtime(6)
    with Server("rep", sent.messages) as server:
        code, text, _ = checked(capsys, *server.request, "--frames=6")
        assert server.sent == 6
    assert code == 0
    assert "6 frames," in text


def test_a_silent_publisher_ends_it_in_time(folder, capsys, monkeypatch):
    monkeypatch.setattr(check_receive, "LISTEN", 0.3)
    with Server("pub", []) as server:
        code, text, _ = checked(
            capsys, f"--zmq-input={server.address}", "--zmq-subscribe=x", "--no-data-timeout=0.3"
        )
    assert code == 1
    assert "no message in 0 s" in text
    assert "nothing is published at this time, under any tag" in text
    assert "not reached: decoded," in text


def test_messages_that_are_no_frames_end_it_with_the_reason(folder, capsys):
    with Server("rep", [b"short"] * 50) as server:
        code, text, _ = checked(capsys, *server.request)
        assert server.sent < 50
    assert code == 1
    assert "none is a frame: short message: 5 bytes" in text


def test_a_wrong_tag_is_told(folder, capsys):
    over = threading.Event()
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")

        def publish():
            while not over.wait(0.02):
                publisher.send_multipart([b"ondaframedata", b"x" * 40])

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            code, text, _ = checked(
                capsys, f"--zmq-input=tcp://127.0.0.1:{port}", "--zmq-subscribe=foo", "--no-data-timeout=0.3"
            )
        finally:
            over.set()
            thread.join()
    assert code == 1
    assert "messages come under another tag, 'ondaframedata'; give --zmq-subscribe=ondaframedata" in text


def test_another_kind_of_socket_is_told(folder, capsys):
    with Server("push", []) as server:
        code, text, _ = checked(
            capsys, f"--zmq-input={server.address}", "--zmq-subscribe=", "--no-data-timeout=0.3"
        )
    assert code == 1
    assert "its socket is PUSH, which does not suit --zmq-subscribe=TAG (SUB); give --zmq-pull" in text


def test_a_missing_header_and_what_may_be_meant_are_told(folder, capsys):
    write_inputs(folder, default_geometry(SIZE).replace("beam_energy", "photon_energy"))
    with Server("rep", [hit()[1]]) as server:
        code, text, _ = checked(capsys, *server.request)
    assert code == 1
    assert "did you mean 'beam_energy'?" in text
    assert "'detector_distance': " in text
    assert "nothing at: decoded, header values; not reached: masks" in text


def test_a_threshold_that_is_too_high_is_told_with_one_that_works(folder, capsys):
    with Server("rep", [hit()[1]]) as server:
        code, text, _ = checked(capsys, *server.request, "--threshold=5000")
    assert code == 1
    assert "0 usable pixels are above --threshold=5000" in text
    assert "no pixel is above --threshold=5000; the highest has" in text
    assert "would give" in text


def test_a_wrong_camera_length_is_told_with_the_right_one(folder, capsys):
    frame, message = hit()
    wrong = 1e3 * frame.truth.clen * 1.1
    write_inputs(folder, default_geometry(SIZE).replace("detector_distance mm", f"{wrong / 1e3:.6f} m"))
    with Server("rep", [message]) as server:
        code, text, _ = checked(capsys, *server.request)
    assert code == 1
    assert "0 lattices found" in text
    better = float(text.split("with a camera length of ")[1].split()[0])
    assert better == pytest.approx(1e3 * frame.detector.clen, rel=0.005)


def test_bad_pixels_are_counted_by_cause(folder, capsys):
    bad = np.zeros((SIZE, SIZE), bool)
    bad[:10] = True
    write_mask(bad, folder / "m.h5")
    fields = msgpack.unpackb(hit()[1], strict_map_key=False)
    n_high = int(np.count_nonzero(np.frombuffer(fields["detector_data"]["data"], "<i4") > 50))
    write_inputs(folder, "mask_edge_pixels = 1\nflag_morethan = 50\n" + default_geometry(SIZE, mask="m.h5"))
    with Server("rep", [hit()[1]]) as server:
        _, said, _ = checked(capsys, *server.request)
    assert f"mask files: {10 * SIZE}," in said
    assert f"edges (mask_edge_pixels): {4 * (4 * (SIZE // 2) - 4)}," in said
    assert f"value (flag_...): {n_high}," in said


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--frames=0"], 2), (["--zmq-request=next", "--zmq-input=x"], 2), (["-i", "gone"], 3)],
)
def test_wrong_options_are_refused(folder, capsys, words, code):
    assert checked(capsys, *words, *([] if len(words) > 1 else ["-i", "l"]))[0] == code


def test_a_file_that_is_missing_is_told(folder, capsys):
    (folder / "l").write_text("gone.h5\n")
    code, text, _ = checked(capsys, "-i", "l")
    assert code == 1
    assert "files of l" in text
    assert "rejected: file cannot be read: gone.h5" in text
    assert "see --prefix" in text


def test_without_matplotlib_there_is_the_text(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpuidx.commands.frame_picture", None)
    with Server("rep", [hit()[1]]) as server:
        code, text, err = checked(capsys, *server.request, "--picture=p.png")
    assert code == 0
    assert "all steps gave something" in text
    assert err == "no picture: matplotlib is not installed; pip install 'gpuidx[pictures]'\n"


def test_frames_of_asapo_are_read_in_a_group_of_its_own(folder, capsys):
    need_library()
    with StandIn(streams={"run1": [hit()[1]]}) as server:
        where = {"endpoint": server.endpoint, "token": server.token, "beamtime": server.beamtime}
        where |= {"source": server.source, "group": "online", "stream": "run1"}
        words = [f"--asapo-{name}={value}" for name, value in where.items()]
        code, text, _ = checked(capsys, *words)
        (stream,) = server.store.streams(server.source)
        assert [name.startswith("online-check-") for name in stream.groups] == [True]
    assert code == 0
    assert "ASAP::O, stream 'run1' of source 'detector', in a group of its own" in text
    assert "1 frame," in text
