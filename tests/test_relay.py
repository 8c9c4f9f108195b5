# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx relay`` on loopback, in process: what is published reaches one of many readers each."""

import logging
import threading
from contextlib import contextmanager

import pytest
import zmq
from live import Server
from sources.driving import frame, free_address, number_of

from gpuidx.commands.relay import main
from gpuidx.errors import OptionError, SourceError
from gpuidx.relaying import Relay
from gpuidx.simulation import encode_dectris
from gpuidx.sources.unasked import Unasked

WAIT_MS = 20_000
FRAMES = [frame(number) for number in range(12)]
START, END = encode_dectris.v1_start(1, {"photon_energy": 9500.0}), encode_dectris.v1_end(1)


@contextmanager
def relayed(source, *words):
    """The relay of a source, in this thread's process; gives its address, then the exit code in a list."""
    address, codes = free_address(), []
    given = [f"--zmq-input={source.address}", f"--bind={address}", *words]
    thread = threading.Thread(target=lambda: codes.append(main(given)))
    thread.start()
    try:
        yield address, codes
    finally:
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def stops(monkeypatch):
    """What stops relays.  Only the main thread can hear signals, and the relay has another one here."""
    made = []
    monkeypatch.setattr("gpuidx.flow.stop.Stop.install", lambda stop, _: made.append(stop))
    monkeypatch.setattr("gpuidx.flow.stop.Stop.remove", lambda _: None)
    return made


@contextmanager
def readers(address, count, kind=zmq.REQ):
    with zmq.Context() as context:
        sockets = [context.socket(kind) for _ in range(count)]
        for socket in sockets:
            socket.linger, socket.rcvtimeo = 0, WAIT_MS
            socket.connect(address)
        try:
            yield sockets
        finally:
            for socket in sockets:
                socket.close()


def asked(socket):
    socket.send(b"next")
    return socket.recv_multipart()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("pub", ["--zmq-subscribe="]), ("push", ["--zmq-pull"]), ("rep", ["--zmq-request=next"])],
)
def test_each_message_goes_to_one_of_the_readers(kind, words, caplog):
    caplog.set_level(logging.INFO)
    with (
        Server(kind, FRAMES) as source,
        relayed(source, *words, "--max-frames=12") as (address, codes),
        readers(address, 3) as sockets,
    ):
        got = [asked(sockets[turn % 3]) for turn in range(12)]
    assert sorted(got) == [[one] for one in FRAMES]  # several requests are under way: in any order
    assert codes == [0]
    assert "12 frames received; 12 frames sent" in caplog.text
    assert "lost" not in caplog.text


def test_each_reader_gets_the_start_of_a_series_before_its_first_frame_of_it(caplog):
    caplog.set_level(logging.INFO)
    images = [
        [b'{"htype":"dimage-1.0","series":1,"frame":%d}' % n, b"{}", bytes(100), b"{}"] for n in range(4)
    ]
    second = encode_dectris.v1_start(2, {"photon_energy": 9000.0})
    messages = [START, *images, END, second, images[0]]
    with (
        Server("push", messages) as source,
        relayed(source, "--zmq-pull", "--max-frames=5") as (address, _),
        readers(address, 2) as (early, late),
    ):
        assert [asked(early) for _ in range(3)] == [START, *images[:2]]
        assert [asked(late) for _ in range(3)] == [START, *images[2:4]]
        assert asked(early) == END
        assert asked(early) == second
        assert asked(early) == images[0]
    assert "5 frames received, 3 starts and ends of series; 5 frames sent" in caplog.text


def test_a_tag_that_is_glued_to_a_message_is_cut_off_and_parts_stay(caplog):
    messages = [b"om" + FRAMES[0], [b"om", FRAMES[1]]]
    with (
        Server("pub", messages) as source,
        relayed(source, "--zmq-subscribe=om", "--max-frames=2", "--serve=rep") as (address, _),
        readers(address, 1) as (socket,),
    ):
        assert asked(socket) == [FRAMES[0]]
        assert asked(socket) == [b"om", FRAMES[1]]


def test_what_a_publisher_sends_while_the_memory_is_full_is_counted_as_lost(caplog, stops, monkeypatch):
    def drop(source):
        dropped = drop_one(source)
        n_dropped.extend([dropped] * dropped)
        if len(n_dropped) == 6:
            all_dropped.set()
        return dropped

    drop_one, n_dropped, all_dropped = Unasked.drop, [], threading.Event()
    monkeypatch.setattr(Unasked, "drop", drop)
    caplog.set_level(logging.INFO)
    large = [frame(number, 600_000) for number in range(8)]
    with (
        Server("pub", large) as source,
        relayed(source, "--zmq-subscribe=", "--memory=1") as (address, codes),
        readers(address, 1) as (socket,),
    ):
        assert all_dropped.wait(20)
        got = [number_of(asked(socket)[0]) for _ in range(2)]
        stops[0].request()
    assert got == [0, 1]
    assert codes == [0]
    assert "2 frames received; 2 frames sent" in caplog.text
    assert "; 6 messages lost" in caplog.text


def test_signals_are_heard_while_readers_are_waited_for(caplog, stops, monkeypatch):
    def close(relay, level):
        closing.set()
        return close_it(relay, level)

    close_it, closing = Relay.close, threading.Event()
    monkeypatch.setattr(Relay, "close", close)
    caplog.set_level(logging.INFO)
    with Server("push", FRAMES[:2]) as source, relayed(source, "--zmq-pull", "--max-frames=2"):
        assert closing.wait(20)
        stops[0].level = 2
    assert "2 messages lost" in caplog.text


def test_push_says_that_only_one_reader_hears_of_a_series(caplog):
    with (
        Server("push", [START, FRAMES[0]]) as source,
        relayed(source, "--zmq-pull", "--serve=push", "--max-frames=1") as (address, _),
        readers(address, 1, zmq.PULL) as (socket,),
    ):
        assert socket.recv_multipart() == START
        assert socket.recv_multipart() == [FRAMES[0]]
    assert "goes to one reader only" in caplog.text


def test_an_address_in_use_is_told_at_once():
    with Server("push", []) as source, pytest.raises(SourceError, match="cannot serve at"):
        main([f"--zmq-input={source.address}", "--zmq-pull", f"--bind={source.address}"])
    with pytest.raises(OptionError, match="give its address with --zmq-input"):
        main(["--bind=tcp://127.0.0.1:1"])
