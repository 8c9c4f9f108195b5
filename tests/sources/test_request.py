# SPDX-License-Identifier: GPL-3.0-or-later
import logging
import threading
import time

import pytest
import zmq
from sources.driving import Loop, Server, frame, free_address

from gpuidx.errors import OptionError
from gpuidx.sources import request
from gpuidx.sources.links import check_address
from gpuidx.sources.opening import open_source
from gpuidx.sources.request import Request

BOTH = pytest.mark.parametrize("kind", [zmq.REP, zmq.ROUTER], ids=["REP", "ROUTER"])


def ask(address: str, in_flight: int = 4, late: float = 60.0) -> Request:
    return Request([address], "next", in_flight, late)


@BOTH
def test_every_request_brings_one_frame(kind):
    with Server(kind, lambda i: [frame(i)]) as server, Loop(ask(server.address)) as loop:
        loop.receive(500)
        assert sorted(loop.numbers) == list(range(len(loop.numbers)))
        assert set(server.requests) == {b"next"}
        assert loop.source.notes["requests renewed"] == 0


def test_no_more_requests_than_free_slots():
    with Server(zmq.ROUTER, lambda i: None) as server, Loop(ask(server.address, in_flight=8)) as loop:
        loop.until(lambda: len(server.requests) == 3, free=3)
        for _ in range(5):
            loop.turn(free=3)
        assert len(server.requests) == 3
        loop.source.stop()
        assert loop.source.pending() == 3


def test_requests_wait_for_a_server_that_is_not_there_yet():
    address = free_address()
    with Loop(ask(address)) as loop:
        for _ in range(5):
            loop.turn()
        assert not loop.taken
        with Server(zmq.REP, lambda i: [frame(i)], address):
            loop.receive(20)
        assert sorted(loop.numbers) == list(range(len(loop.numbers)))


def test_the_user_is_told_when_there_is_no_server(monkeypatch, caplog):
    monkeypatch.setattr(request, "ABSENT_AFTER", 0.02)
    with caplog.at_level(logging.WARNING), Loop(ask(free_address())) as loop:
        loop.until(lambda: bool(caplog.records))
        loop.turn()
    assert [r.getMessage() for r in caplog.records] == [
        f"{loop.source.addresses[0]}: no connection yet; waiting for the server"
    ]


@BOTH
def test_requests_in_a_dead_server_are_renewed_when_it_returns(kind):
    """The server takes all requests and dies; the next one at the address gets as many new ones."""
    with Server(kind, lambda i: None) as first, Loop(ask(first.address, in_flight=3)) as loop:
        expected = 1 if kind == zmq.REP else 3
        loop.until(lambda: len(first.requests) == expected)
        first.die()
        loop.until(lambda: loop.source.notes["requests renewed"] == 3)
        with Server(kind, lambda i: [frame(i)], first.address) as second:
            loop.receive(50)
            assert sorted(loop.numbers) == list(range(len(loop.numbers)))
            assert len(second.requests) >= 50


@BOTH
def test_at_most_the_requests_in_flight_are_lost_per_death(kind):
    """Numbers that a dying server has taken and not delivered are the only ones missing."""
    in_flight, taken_by_servers, address = 4, 0, free_address()
    with Loop(ask(address, in_flight)) as loop:
        for death in range(4):
            begin = taken_by_servers
            with Server(kind, lambda i, begin=begin: [frame(begin + i)], address) as server:
                loop.receive(len(loop.taken) + 40)
            taken_by_servers += len(server.requests)
            assert len(set(loop.numbers)) == len(loop.numbers)
            assert taken_by_servers - len(loop.numbers) <= in_flight * (death + 1)


def test_an_answer_that_came_before_the_server_died_is_taken():
    with Server(zmq.REP, lambda i: [frame(i)]) as server, Loop(ask(server.address, in_flight=1)) as loop:
        loop.until(lambda: len(server.requests) == 1, take=False)
        loop.until(loop.source.ready, take=False)
        server.die()
        loop.receive(1)
        assert loop.numbers == [0]


def test_a_slow_server_is_not_asked_again():
    """As OM, which answers with the next hit: a request that is given up is a lost hit."""
    hit = threading.Event()

    def answer(i: int) -> list[bytes]:
        assert hit.wait(20)
        return [frame(i)]

    with Server(zmq.ROUTER, answer) as server, Loop(ask(server.address, in_flight=2)) as loop:
        loop.until(lambda: len(server.requests) == 1)
        for _ in range(20):
            loop.turn()
        assert len(server.requests) == 1
        hit.set()
        loop.receive(10)
        assert sorted(loop.numbers) == list(range(len(loop.numbers)))
        assert loop.source.notes["requests renewed"] == 0


def test_a_lost_answer_costs_one_long_timeout():
    with (
        Server(zmq.ROUTER, lambda i: [frame(i)] if i else None) as server,
        Loop(ask(server.address, in_flight=1, late=1.0)) as loop,
    ):
        loop.receive(3)
        assert loop.numbers[:3] == [1, 2, 3]
        assert loop.source.notes["requests renewed"] == 1


@pytest.mark.parametrize("last", [b"x" * 20, b""])
@BOTH
def test_a_reply_of_several_parts_does_not_stop_the_requests(kind, last):
    replies = [[b"tag", frame(1)], [frame(2), frame(3), last], [frame(4)]]
    with Server(kind, lambda i: replies[i % 3]) as server, Loop(ask(server.address, in_flight=1)) as loop:
        loop.receive(6)
        assert loop.reasons[:6] == ["", "too many parts", ""] * 2
        assert [n for n, r in zip(loop.numbers, loop.reasons, strict=True) if not r][:4] == [1, 4, 1, 4]


def test_short_and_large_replies_are_rejected_and_the_requests_go_on():
    replies = [[b""], [b"\x82" * 15], [frame(1, 5000)], [frame(2)]]
    with (
        Server(zmq.REP, lambda i: replies[i % 4]) as server,
        Loop(ask(server.address, in_flight=1), slot_size=1000) as loop,
    ):
        loop.receive(8)
        assert loop.reasons[:8] == ["short message", "short message", "too large", ""] * 2


def test_a_server_that_refuses_the_request_is_not_asked_at_full_speed():
    with Server(zmq.REP, lambda i: [b"What?"]) as server, Loop(ask(server.address, in_flight=2)) as loop:
        loop.receive(2)
        for _ in range(10):
            loop.turn()
        assert loop.reasons == ["request refused"] * 2
        assert len(server.requests) == 2


def test_a_refused_request_is_sent_again_after_a_pause(monkeypatch):
    monkeypatch.setattr(request, "REFUSED_PAUSE", 0.05)
    with (
        Server(zmq.REP, lambda i: [frame(i)] if i else [b"What?"]) as server,
        Loop(ask(server.address, in_flight=1)) as loop,
    ):
        loop.receive(2)
        assert loop.reasons[:2] == ["request refused", ""]


def test_answers_under_way_are_taken_after_a_stop():
    hit = threading.Event()

    def answer(i: int) -> list[bytes]:
        assert hit.wait(20)
        return [frame(i)]

    with Server(zmq.ROUTER, answer) as server, Loop(ask(server.address, in_flight=1)) as loop:
        loop.until(lambda: len(server.requests) == loop.source.pending() == 1)
        loop.source.stop()
        assert not loop.source.ended()
        hit.set()
        loop.until(loop.source.ended)
        assert loop.numbers == [0]
        assert len(server.requests) == 1


def test_requests_that_never_reached_a_server_are_not_under_way():
    with Loop(ask(free_address())) as loop:
        loop.turn()
        loop.source.stop()
        assert loop.source.pending() == 0
        assert loop.source.ended()


def test_requests_in_a_server_that_dies_after_the_stop_are_not_waited_for():
    with Server(zmq.ROUTER, lambda i: None) as server, Loop(ask(server.address)) as loop:
        loop.until(lambda: len(server.requests) == loop.source.pending() == 4)
        loop.source.stop()
        server.die()
        loop.until(loop.source.ended)


@pytest.mark.parametrize(
    "address",
    ["", "foo", "tcp://host", "tcp://*:5", "tcp://host:0", "tcp://host:70000", "tcp://host:port", "udp://h:1",
     "inproc://a", "tcp://a b:1", "tcp://h:1 ", "ipc://", "http://h:1", "tcp://:5"],
)  # fmt: skip
def test_a_wrong_address_is_an_error_before_anything_is_opened(address):
    with pytest.raises(OptionError, match=r"--zmq-input=.*expected tcp://HOST:PORT"):
        ask(address)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://host:5555",
        "tcp://10.0.0.1:1",
        "tcp://[::1]:65535",
        "tcp://eth0:0;a.b:5",
        "ipc:///tmp/x",
        "ipc://@x",
    ],
)
def test_a_good_address_is_accepted(address):
    check_address(address)


def test_a_source_that_was_never_opened_closes():
    ask("tcp://127.0.0.1:1").close()


def test_a_request_source_is_chosen_by_the_options():
    from gpuidx.options import SourceOptions

    source = open_source(
        SourceOptions(zmq_input=("tcp://h:1",), zmq_request="next", zmq_requests=7, zmq_timeout=3.0)
    )
    assert isinstance(source, Request)
    assert (source.in_flight, source.late, source.request) == (7, 3.0, b"next")


def test_the_user_is_not_told_of_a_server_that_was_there_and_went(monkeypatch, caplog):
    with Server(zmq.REP, lambda i: [frame(i)]) as server, Loop(ask(server.address)) as loop:
        loop.until(loop.source.connected)
        monkeypatch.setattr(request, "ABSENT_AFTER", 0.2)
        server.die()
        end = time.monotonic() + 0.3
        loop.until(lambda: time.monotonic() > end)
    assert not caplog.records


def test_requests_go_to_every_server():
    with (
        Server(zmq.REP, lambda i: [frame(0)]) as one,
        Server(zmq.REP, lambda i: [frame(1)]) as other,
        Loop(Request([one.address, other.address], "next", 2, 60.0)) as loop,
    ):
        loop.until(lambda: set(loop.numbers) == {0, 1})


def test_there_is_a_request_for_each_server_at_least():
    with (
        Server(zmq.REP, lambda i: [frame(0)]) as one,
        Server(zmq.REP, lambda i: [frame(1)]) as other,
        Loop(Request([one.address, other.address], "next", 1, 60.0)) as loop,
    ):
        loop.until(lambda: set(loop.numbers) == {0, 1})
