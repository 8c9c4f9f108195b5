# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx replay``: what is sent, in which order, and when."""

from itertools import islice

import pytest
import zmq

from gpuidx.arguments import parse
from gpuidx.commands.replay import ReplayOptions, main, outgoing
from gpuidx.errors import InputFileError, OptionError
from gpuidx.recording.file import Recording, header, pieces
from gpuidx.simulation import encode_dectris

FRAME = [b'{"htype":"dimage-1.0","series":1,"frame":0}', b"{}", bytes(100), b"{}"]
MESSAGES = [
    (1.0, 0, encode_dectris.v1_start(1, {"photon_energy": 9500.0})),
    (1.5, 0, FRAME),
    (1.75, 1, FRAME),
    (2.5, 0, FRAME),
    (2.75, 0, encode_dectris.v1_end(1)),
]


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(b"".join([header({}), *(piece for m in MESSAGES for piece in pieces(*m))]))
    return str(path)


def sent(recording, *words, n=20):
    options = parse(ReplayOptions, [recording, "--serve=push", *words], "", "")
    return list(islice(outgoing(Recording(recording), options), n))


def due(recording, *words, n=20):
    return [message.due for message in sent(recording, *words, n=n)]


def test_messages_come_in_their_order_and_frames_are_told_from_others(recording):
    messages = sent(recording)
    assert [list(map(bytes, m.parts)) for m in messages] == [parts for *_, parts in MESSAGES]
    assert [m.is_frame for m in messages] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("words", "times"),
    [
        ([], [0.0, 0.5, 0.75, 1.5, 1.75]),
        (["--speed=2"], [0.0, 0.25, 0.375, 0.75, 0.875]),
        (["--rate=4"], [0.0, 0.0, 0.25, 0.5, 0.75]),
        (["--as-fast-as-possible"], [0.0] * 5),
        (["--link=1"], [0.0]),
        (["--max-frames=2"], [0.0, 0.5, 0.75]),
    ],
)
def test_rate_is_the_recorded_or_a_given_one(recording, words, times):
    assert due(recording, *words) == times


def test_a_loop_goes_on_where_the_last_round_ended(recording):
    assert due(recording, "--loop", n=7) == [0.0, 0.5, 0.75, 1.5, 1.75, 2.0, 2.5]
    assert due(recording, "--loop", "--max-frames=4")[5:] == [2.0, 2.5]


def test_pushes_to_a_reader_that_is_bound(recording, capsys):
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        socket.rcvtimeo = 10_000
        assert main([recording, "--serve=push", f"--connect=tcp://127.0.0.1:{port}", "--speed=100"]) == 0
        assert [socket.recv_multipart() for _ in MESSAGES] == [parts for *_, parts in MESSAGES]
    assert "3 frames sent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--serve=rep"], "no recording"),
        (["a"], "give the kind of socket"),
        (["a", "--serve=rep", "--rate=1", "--speed=2"], "exclude each other"),
        (["a", "--serve=rep", "--rate=0"], "--rate is 0"),
        (["a", "--serve=rep", "--speed=nan"], "--speed is nan"),
    ],
)
def test_wrong_options_are_refused(words, message):
    with pytest.raises(OptionError, match=message):
        main(words)


def test_a_file_that_is_no_recording_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"nowhere\.rec: no recording can be read"):
        main([str(tmp_path / "nowhere.rec"), "--serve=rep"])
