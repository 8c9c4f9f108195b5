# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages over real sockets on loopback."""

import queue
import threading
import time
from collections import deque
from contextlib import contextmanager

import msgpack
import pytest
import zmq

from gpuidx.errors import OptionError, SourceError
from gpuidx.serving import ServeSettings, in_turn, serve
from gpuidx.serving.server import _Server
from gpuidx.simulation.messages import EncodedFrame

WAIT_MS = 10_000


def made_messages(n=3):
    messages = []
    for i in range(n):
        data = bytearray(msgpack.packb({"truth_id": i}))
        data[0] = 0x82
        data += msgpack.packb("frame_number") + b"\xcf" + bytes(8)
        messages.append(EncodedFrame(data, len(data) - 8))
    return messages


class Running:
    """A server in a thread."""

    def __init__(self, n_frame, rate=0.0, **settings):
        self.stop = threading.Event()
        self.report = None
        self._address = queue.Queue()
        messages = in_turn(made_messages(), n_frame, rate)
        arguments = (messages, ServeSettings(**settings), self._address.put, self.stop)
        self._thread = threading.Thread(target=self._run, args=arguments)
        self._thread.start()
        self.address = self._address.get(timeout=10)

    def _run(self, *arguments):
        self.report = serve(*arguments)

    def ended(self):
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.report


@contextmanager
def running(n_frame, kind, *topics, **settings):
    """A server, and a client socket that is connected to it."""
    server = Running(n_frame, **settings)
    try:
        with zmq.Context() as context, context.socket(kind) as socket:
            socket.linger = 0
            socket.rcvtimeo = WAIT_MS
            for topic in topics:
                socket.subscribe(topic)
            socket.connect(server.address)
            yield server, socket
    finally:
        server.stop.set()
        server.ended()


def ask(socket, request=b"next"):
    socket.send(request)
    return msgpack.unpackb(socket.recv())


@pytest.mark.parametrize("kind", ["rep", "router"])
def test_answers_requests_and_begins_again_behind_the_last_frame(kind):
    with running(7, zmq.REQ, serve=kind) as (server, socket):
        answers = [ask(socket) for _ in range(7)]
        report = server.ended()
    assert [answer["frame_number"] for answer in answers] == list(range(7))
    assert [answer["truth_id"] for answer in answers] == [0, 1, 2, 0, 1, 2, 0]
    assert (report.sent, report.refused) == (7, 0)


def test_router_answers_as_om_does():
    with running(2, zmq.REQ, serve="router") as (server, socket):
        socket.send(b"something")
        assert socket.recv() == b"What?"
        assert ask(socket)["frame_number"] == 0
        assert ask(socket)["frame_number"] == 1
        assert server.ended().refused == 1


def test_router_answers_the_oldest_request_first():
    with running(2, zmq.DEALER, serve="router") as (_, socket):
        for name in (b"a", b"b"):
            socket.send_multipart([name, b"", b"next"])
        answers = [socket.recv_multipart() for _ in range(2)]
    assert [answer[:2] for answer in answers] == [[b"a", b""], [b"b", b""]]
    assert [msgpack.unpackb(answer[2])["frame_number"] for answer in answers] == [0, 1]


def test_a_frame_whose_reader_is_gone_is_kept_for_the_next_one():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.router_mandatory = 1
        messages = in_turn(made_messages(), 3)
        server = _Server(socket, messages, ServeSettings(serve="router"), threading.Event())
        first = server._next
        server._answer_reader(deque([[b"nobody", b""]]))
    assert server._next is first
    assert (server._sent, server._gone) == (0, 1)


def test_publishes_to_everybody_once_they_are_there():
    with running(5, zmq.SUB, b"", serve="pub", subscribers=2) as (server, first):
        context = zmq.Context()
        with context, context.socket(zmq.SUB) as second:
            second.linger = 0
            second.rcvtimeo = WAIT_MS
            second.subscribe(b"")
            second.connect(server.address)
            for socket in (first, second):
                numbers = [msgpack.unpackb(socket.recv())["frame_number"] for _ in range(5)]
                assert numbers == [0, 1, 2, 3, 4]
        assert server.ended().sent == 5


def test_tag_is_a_part_of_its_own():
    with running(2, zmq.SUB, b"fra", serve="pub", tag="frames") as (_, socket):
        tag, data = socket.recv_multipart()
    assert tag == b"frames"
    assert msgpack.unpackb(data) == {"truth_id": 0, "frame_number": 0}


def test_tag_is_glued_to_the_message():
    with running(2, zmq.SUB, b"frames", serve="pub", tag="frames", tag_form="glued") as (_, socket):
        (data,) = socket.recv_multipart()
    assert data[:6] == b"frames"
    assert msgpack.unpackb(data[6:]) == {"truth_id": 0, "frame_number": 0}


def test_pushes_every_message_once_to_readers_that_come_and_take_their_time():
    with running(7, zmq.PULL, serve="push", queue=1) as (server, socket):
        numbers = [msgpack.unpackb(socket.recv())["frame_number"] for _ in range(7)]
        assert numbers == list(range(7))
        assert server.ended().sent == 7


def test_connects_to_a_reader_that_is_bound():
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.rcvtimeo = WAIT_MS
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        server = Running(3, serve="push", connect=f"tcp://127.0.0.1:{port}")
        numbers = [msgpack.unpackb(socket.recv())["frame_number"] for _ in range(3)]
        assert numbers == [0, 1, 2]
        assert server.ended().sent == 3


def test_a_message_under_way_is_not_changed():
    message = EncodedFrame(bytearray(made_messages(1)[0].data) + bytes(1 << 17), 14)
    (first,) = message.parts(1)
    (second,) = message.parts(2)
    assert [bytes(part.buffer[14:22])[-1] for part in (first, second)] == [1, 2]


@pytest.mark.parametrize("kind", ["rep", "router", "pub", "push"])
def test_rate_is_kept(kind):
    socket_kind, topics = {"pub": (zmq.SUB, [b""]), "push": (zmq.PULL, [])}.get(kind, (zmq.REQ, []))
    with running(21, socket_kind, *topics, serve=kind, rate=100.0) as (server, socket):
        began = time.monotonic()
        for _ in range(21):
            if kind in ("pub", "push"):
                socket.recv()
            else:
                ask(socket)
        assert time.monotonic() - began >= 0.19
        assert server.ended().seconds >= 0.19


@pytest.mark.parametrize("kind", ["rep", "router", "pub", "push"])
def test_stops_when_it_is_told(kind):
    server = Running(0, serve=kind)
    server.stop.set()
    assert server.ended().sent == 0


def test_serves_without_end_if_asked():
    with running(0, zmq.REQ, serve="rep") as (server, socket):
        assert [ask(socket)["frame_number"] for _ in range(50)] == list(range(50))
        server.stop.set()
        assert server.ended().sent == 50


def test_address_that_cannot_be_used():
    stop, messages = threading.Event(), in_turn(made_messages(), 1)
    with pytest.raises(OptionError, match="cannot serve at nonsense"):
        serve(messages, ServeSettings(serve="rep", bind="nonsense"), print, stop)
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(SourceError, match="Address already in use"):
            serve(messages, ServeSettings(serve="pub", bind=f"tcp://127.0.0.1:{port}"), print, stop)
