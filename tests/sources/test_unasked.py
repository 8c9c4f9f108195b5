# SPDX-License-Identifier: GPL-3.0-or-later
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq
from sources.driving import DEADLINE, Loop, bind_when_free, frame, free_address

from gpuidx.errors import OptionError, SourceError
from gpuidx.options import SourceOptions
from gpuidx.sources import unasked
from gpuidx.sources.opening import open_source
from gpuidx.sources.unasked import Unasked
from gpuidx.sources.wiring import read_wiring


@contextmanager
def publisher(address: str = "tcp://127.0.0.1:*") -> Iterator[Any]:
    """A publisher that sees subscriptions arrive (XPUB), so that nothing is sent too early."""
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.linger = 0
    bind_when_free(socket, address)
    try:
        yield socket
    finally:
        socket.close(0)
        context.term()


def address_of(socket: Any) -> str:
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def wait_for_tags(socket: Any, count: int) -> None:
    for _ in range(count):
        assert socket.poll(DEADLINE * 1000), "no subscription"
        socket.recv()


@contextmanager
def subscribed(*tags: str, with_image: bool = True, slot_size: int = 1 << 16) -> Iterator[tuple[Any, Loop]]:
    with publisher() as socket, Loop(Unasked([address_of(socket)], with_image, tags), slot_size) as loop:
        wait_for_tags(socket, len(tags))
        yield socket, loop


def test_tag_and_payload_in_two_parts():
    with subscribed("omdata") as (socket, loop):
        for i in range(50):
            socket.send_multipart([b"omdata", frame(i)])
            loop.receive(i + 1)
        assert loop.numbers == list(range(50))
        assert not any(loop.reasons)


def test_payload_without_a_tag():
    with subscribed("") as (socket, loop):
        socket.send(frame(1))
        loop.receive(1)
        assert loop.data == [frame(1)]


def test_tag_glued_in_front_of_the_payload():
    with subscribed("om", "omdata") as (socket, loop):
        socket.send(b"om" + frame(1))
        socket.send(b"omdata" + frame(2))
        loop.receive(2)
        assert loop.data == [frame(1), frame(2)]


def test_other_tags_do_not_arrive():
    with subscribed("a", "b") as (socket, loop):
        for tag in (b"c", b"a", b"d", b"b"):
            socket.send_multipart([tag, frame(tag[0])])
        loop.receive(2)
        assert loop.numbers == [ord("a"), ord("b")]


def test_a_message_of_three_parts_is_rejected_and_the_next_one_taken():
    with subscribed("t") as (socket, loop):
        socket.send_multipart([b"t", frame(1), frame(2)])
        socket.send_multipart([b"t", frame(3)])
        loop.receive(2)
        assert loop.reasons == ["too many parts", ""]


@pytest.mark.parametrize("parts", [[b""], [b"t"], [b"t", b""], [b"t", b"\x81" * 15], [b"t" * 15]])
def test_short_messages_are_counted(parts):
    with subscribed("") as (socket, loop):
        socket.send_multipart(parts)
        loop.receive(1)
        assert loop.reasons == ["short message"]


def test_a_message_too_large_for_a_slot_is_rejected():
    with subscribed("", slot_size=100) as (socket, loop):
        socket.send(frame(1, 5000))
        socket.send(frame(2, 100))
        loop.receive(2)
        assert loop.reasons == ["too large", ""]


def drop(loop: Loop, count: int) -> None:
    """Turn until so many messages were dropped, as while no slot is free."""
    dropped = 0

    def is_enough() -> bool:
        nonlocal dropped
        while dropped < count and loop.source.ready():
            dropped += loop.source.drop()
        return dropped == count

    loop.until(is_enough, take=False)


def test_messages_are_dropped_one_by_one_while_no_slot_is_free():
    with subscribed("", with_image=False) as (socket, loop):
        for i in range(10):
            socket.send(frame(i))
        drop(loop, 4)
        loop.receive(6)
        assert loop.numbers == [4, 5, 6, 7, 8, 9]


def test_the_start_of_a_series_is_kept_while_frames_are_dropped():
    starts = [b'{"header_detail": "none", "htype": "dheader-1.0", "series": %d}' % n for n in (1, 2)]
    with subscribed("", with_image=False) as (socket, loop):
        for message in (frame(0), starts[0], frame(1), starts[1], frame(2), frame(3)):
            socket.send(message)
        drop(loop, 3)
        loop.receive(2)
        assert loop.data == [starts[1], frame(3)]


def test_there_is_nothing_to_drop_when_nothing_came():
    with subscribed("") as (_, loop):
        loop.turn()
        assert not loop.source.ready()
        assert not loop.source.drop()
        assert loop.source.take(loop.slot) is None


def test_a_publisher_may_die_and_return(tmp_path):
    address = f"ipc://{tmp_path}/publisher"  # which nobody else takes in the meantime
    with publisher(address) as first:
        loop = Loop(Unasked([address], True, ["t"])).__enter__()
        wait_for_tags(first, 1)
        first.send_multipart([b"t", frame(1)])
        loop.receive(1)
    try:
        loop.until(lambda: loop.source.notes["connections lost"] == 1)
        with publisher(address) as second:
            wait_for_tags(second, 1)
            second.send_multipart([b"t", frame(2)])
            loop.receive(2)
        assert loop.numbers == [1, 2]
    finally:
        loop.__exit__()


def test_the_user_is_told_when_there_is_no_publisher(monkeypatch, caplog):
    monkeypatch.setattr(unasked, "ABSENT_AFTER", 0.02)
    with publisher() as socket:
        address = address_of(socket)
    with caplog.at_level(logging.WARNING), Loop(Unasked([address], True, [""])) as loop:
        loop.until(lambda: bool(caplog.records))
    assert caplog.records[0].getMessage() == f"{address}: no connection yet; waiting for the publisher"


@pytest.mark.parametrize(("with_image", "held"), [(True, 4), (False, 1000)])
def test_libzmq_holds_few_images_and_many_peak_lists(with_image, held):
    source = open_source(
        SourceOptions(zmq_input=("tcp://127.0.0.1:9",), zmq_subscribe=("a",), image_data=with_image)
    )
    with Loop(source) as loop:
        (socket,) = (s for s, _ in loop.poller.sockets if s.type == zmq.SUB)
        assert socket.rcvhwm == held


def test_nothing_is_taken_after_a_stop():
    with subscribed("") as (socket, loop):
        socket.send(frame(1))
        loop.until(loop.source.ready, take=False)
        loop.source.stop()
        assert not loop.source.ready()
        assert loop.source.pending() == 0
        assert loop.source.ended()


def test_a_tag_may_be_any_bytes():
    assert Unasked(["tcp://host:1"], True, ["a\udcff"]).tags == [b"a\xff"]


def test_a_wrong_address_is_an_error_before_anything_is_opened():
    with pytest.raises(OptionError, match="--zmq-input=nonsense"):
        Unasked(["nonsense"], True, [""])


@contextmanager
def pushing(count: int) -> Iterator[list[Any]]:
    """Senders that push, each bound to an address."""
    context = zmq.Context()
    sockets = [context.socket(zmq.PUSH) for _ in range(count)]
    for socket in sockets:
        socket.linger, socket.sndhwm = 0, 1000
        bind_when_free(socket, "tcp://127.0.0.1:*")
    try:
        yield sockets
    finally:
        for socket in sockets:
            socket.close(0)
        context.term()


def test_what_several_senders_push_all_arrives():
    with pushing(3) as sockets, Loop(Unasked([address_of(s) for s in sockets], True)) as loop:
        for i in range(60):
            sockets[i % 3].send(frame(i))
        loop.receive(60)
        assert sorted(loop.numbers) == list(range(60))


def test_what_is_pushed_is_never_dropped():
    with pushing(1) as (socket,), Loop(Unasked([address_of(socket)], True)) as loop:
        for i in range(200):
            socket.send(frame(i))
        loop.until(loop.source.ready, take=False)
        assert not loop.source.drop()
        loop.receive(200)
        assert loop.numbers == list(range(200))


def pulling(loop: Loop) -> list[Any]:
    """Sockets that end a wait because of a message."""
    return [socket for socket, _ in loop.poller.poll(0) if socket.type == zmq.PULL]


def test_nobody_waits_for_pushed_messages_that_cannot_be_taken():
    with pushing(1) as (socket,), Loop(Unasked([address_of(socket)], True)) as loop:
        for i in range(3):
            socket.send(frame(i))
        loop.until(loop.source.ready, take=False)
        loop.source.ask(0)
        assert not pulling(loop)
        loop.source.ask(1)
        assert pulling(loop)
        loop.receive(3)


def test_nobody_waits_for_messages_after_the_end():
    with pushing(1) as (socket,), Loop(Unasked([address_of(socket)], True)) as loop:
        socket.send(frame(1))
        loop.until(loop.source.ready, take=False)
        loop.source.stop()
        assert not pulling(loop)


@pytest.mark.parametrize(("kind", "tags"), [(zmq.PUSH, None), (zmq.XPUB, [""])])
def test_senders_may_connect_to_us(kind, tags):
    address = free_address()
    with Loop(Unasked([address], True, tags, read_wiring(True, None, None))) as loop:
        context = zmq.Context()
        sockets = [context.socket(kind) for _ in range(2)]
        for i, socket in enumerate(sockets):
            socket.linger = 0
            socket.connect(address)
            if kind == zmq.XPUB:
                loop.until(lambda socket=socket: socket.poll(0))  # the subscription
                socket.recv()
            socket.send(frame(i))
        loop.receive(2)
        assert sorted(loop.numbers) == [0, 1]
        for socket in sockets:
            socket.close(0)
        context.term()


def test_an_address_that_is_taken_is_a_clear_error():
    with pushing(1) as (socket,):
        source = Unasked([address_of(socket)], True, None, read_wiring(True, None, None))
        with pytest.raises(SourceError, match="cannot bind: Address already in use"), Loop(source):
            pass
        source.close()
