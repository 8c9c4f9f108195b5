# SPDX-License-Identifier: GPL-3.0-or-later
"""Recording from sockets on loopback, in process."""

import re
import resource
import signal
import threading

import pytest
from live import Server
from sources.driving import frame

from gpuidx.commands.record import main
from gpuidx.errors import OptionError, SourceError, StreamError
from gpuidx.flow.output import Output
from gpuidx.reception import Limits, Reception
from gpuidx.recording.file import Recording, header
from gpuidx.recording.writer import Writer
from gpuidx.simulation import encode_dectris
from gpuidx.sources.unasked import Unasked

FRAMES = [frame(i) for i in range(20)]
SERIES = [
    encode_dectris.v1_start(1, {"photon_energy": 9500.0}),
    [b'{"htype":"dimage-1.0","series":1,"frame":0}', b"{}", bytes(100), b"{}"],
    encode_dectris.v1_end(1),
]


def recorded(path) -> list[list[bytes]]:
    return [[bytes(part) for part in message.parts] for message in Recording(str(path))]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("rep", ["--zmq-request=next"]),
        ("router", ["--zmq-request=next", "--zmq-requests=1"]),
        ("pub", ["--zmq-subscribe="]),
        ("push", ["--zmq-pull"]),
    ],
)
def test_messages_of_every_kind_of_server_are_in_the_file(tmp_path, kind, words):
    with Server(kind, FRAMES) as server:
        words = [f"--zmq-input={server.address}", *words, "-o", str(tmp_path / "a"), "--max-frames=20"]
        assert main(words) == 0
    assert sorted(recorded(tmp_path / "a")) == [[one] for one in FRAMES]


def test_all_parts_are_kept_with_their_link_and_time(tmp_path, caplog):
    caplog.set_level("INFO")
    with Server("push", SERIES) as first, Server("push", [[b"tag", FRAMES[0]]] * 3) as second:
        addresses = [f"--zmq-input={server.address}" for server in (first, second)]
        assert main([*addresses, "--zmq-pull", "-o", str(tmp_path / "a"), "--no-data-timeout=0.5"]) == 0
    recording = Recording(str(tmp_path / "a"))
    messages = list(recording)
    assert recording.header["addresses"] == [first.address, second.address]
    by_link = {link: [list(map(bytes, m.parts)) for m in messages if m.link == link] for link in (0, 1)}
    assert by_link == {0: SERIES, 1: [[b"tag", FRAMES[0]]] * 3}
    times = [message.time for message in messages]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 60
    assert "6 messages in" in caplog.text
    assert "4 frames received" in caplog.text
    assert "2 starts and ends of series" in caplog.text


@pytest.mark.parametrize("limit", ["--max-size=0.001", "--max-seconds=0.001"])
def test_a_limit_ends_the_recording(tmp_path, limit):
    with Server("rep", FRAMES * 100) as server:
        words = [f"--zmq-input={server.address}", "--zmq-request=next", "--zmq-requests=1"]
        assert main([*words, "-o", str(tmp_path / "a"), limit]) == 0
    assert 0 < len(recorded(tmp_path / "a")) < 2000


def test_a_signal_ends_the_recording_with_all_that_came(tmp_path, monkeypatch):
    def interrupt():
        wrote.wait(20)
        signal.raise_signal(signal.SIGINT)

    wrote = threading.Event()
    write = Output.write

    def watched(output, *pieces):
        write(output, *pieces)
        wrote.set()

    monkeypatch.setattr(Output, "write", watched)
    with Server("push", FRAMES, hold_after=20) as server:
        threading.Thread(target=interrupt, daemon=True).start()
        assert main([f"--zmq-input={server.address}", "--zmq-pull", "-o", str(tmp_path / "a")]) == 0
    found = recorded(tmp_path / "a")
    assert found == [[one] for one in FRAMES[: len(found)]]


def test_a_full_disk_is_an_error_and_the_file_stays_readable(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Server("push", [bytes(1000) + one for one in FRAMES]) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            with pytest.raises(StreamError, match="cannot be written: File too large"):
                main([f"--zmq-input={server.address}", "--zmq-pull", "-o", str(tmp_path / "a")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert recorded(tmp_path / "a") == [[bytes(1000) + one] for one in FRAMES[:7]]


class Slow(Output):
    """A disk that takes nothing before it is told to."""

    def __init__(self, path: str) -> None:
        self.may_write = threading.Event()
        super().__init__(path, header({}))

    def write(self, *pieces) -> None:
        assert self.may_write.wait(20)
        super().write(*pieces)


@pytest.mark.parametrize("kind", ["pub", "push"])
def test_a_slow_disk_costs_a_publisher_s_messages_only_and_they_are_counted(tmp_path, kind):
    output = Slow(str(tmp_path / "a"))
    tags = [""] if kind == "pub" else None
    with Server(kind, FRAMES) as server:
        source = Unasked([server.address], with_image=False, tags=tags)
        with Reception([source], Writer(output, 1000), [], Limits(silence=2.0)) as recorder:
            threading.Timer(0.3, output.may_write.set).start()
            recorder.loop()
    output.close()
    found = recorded(tmp_path / "a")
    assert found == [[one] for one in FRAMES[: len(found)]]
    assert len(found) + recorder.counts["dropped"] == 20
    assert (len(found) == 20) == (kind == "push")


def test_a_recording_is_not_overwritten_and_one_without_messages_not_left(tmp_path):
    words = [
        "--zmq-input=tcp://127.0.0.1:9",
        "--zmq-pull",
        "-o",
        str(tmp_path / "a"),
        "--no-data-timeout=0.1",
    ]
    with pytest.raises(SourceError, match="no data came"):
        main(words)
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").write_bytes(header({}))
    with pytest.raises(StreamError, match="this file exists already"):
        main(words)
    assert (tmp_path / "a").read_bytes() == header({})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--zmq-input=tcp://a:1", "--zmq-pull"], "no file to record to"),
        (["-o", "a"], "no sender"),
        (["-o", "a", "--zmq-input=tcp://a:1"], "--zmq-input needs"),
        (["-o", "a", "--zmq-input=a:1", "--zmq-pull"], "not an address"),
        (["-o", "a", "--zmq-input=tcp://a:1", "--zmq-pull", "--max-size=0"], "--max-size is 0"),
        (["-o", "a", "--zmq-input=tcp://a:1", "--zmq-pull", "--max-frames=0"], "--max-frames is 0"),
    ],
)
def test_wrong_options_are_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=re.escape(message)):
        main(words)
    assert not (tmp_path / "a").exists()
