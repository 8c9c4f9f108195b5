# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames put into streams, as ``gpuidx simulate --asapo`` does."""

import queue
import threading
import time

import msgpack
import pytest

from gpuidx.simulation.asapo.cache import payload_bytes
from gpuidx.simulation.asapo.feed import KEPT_STREAMS, feed, following, reading_options, serve_asapo
from gpuidx.simulation.asapo.frames import AsapoFrame
from gpuidx.simulation.asapo.server import StandIn
from gpuidx.simulation.asapo.settings import AsapoSettings
from gpuidx.simulation.messages import EncodedFrame


def made_messages(n=3):
    messages = []
    for number in range(n):
        data = bytearray(b"\x82" + msgpack.packb("truth_id") + msgpack.packb(number))
        data += msgpack.packb("frame_number") + b"\xcf" + bytes(8)
        messages.append(AsapoFrame.of(EncodedFrame(data, len(data) - 8)))
    return messages


def fed(n_frame, rate=0.0, **settings):
    """The server after all frames were put, ended."""
    with StandIn() as server:
        assert (
            feed(server, made_messages(), n_frame, AsapoSettings(**settings), rate, threading.Event())
            == n_frame
        )
        return server


def test_frames_are_numbered_on_when_they_begin_again():
    server = fed(7)
    (stream,) = server.store.streams("detector")
    found = [payload_bytes(server.store.cache.get(m.cache_id)) for m in stream.messages.values()]
    frames = [msgpack.unpackb(data) for data in found]
    assert [frame["frame_number"] for frame in frames] == list(range(7))
    assert [frame["truth_id"] for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert [message.size for message in stream.messages.values()] == [len(data) for data in found]
    assert [message.meta["frame_number"] for message in stream.messages.values()] == list(range(7))
    assert stream.next_stream is None
    assert server.store.cache.held == 0


@pytest.mark.parametrize("finish", [False, True])
def test_streams_follow_each_other_with_or_without_finish_flags(finish):
    streams = fed(7, asapo_stream_frames=3, asapo_finish=finish).store.streams("detector")
    assert [(stream.name, len(stream.messages)) for stream in streams] == [
        ("run1", 3),
        ("run2", 3),
        ("run3", 1),
    ]
    flags = ["run2", "run3", "asapo_no_next"] if finish else [None] * 3
    assert [stream.next_stream for stream in streams] == flags


def test_old_streams_are_deleted():
    streams = fed(2 * KEPT_STREAMS, asapo_stream_frames=1).store.streams("detector")
    assert len(streams) == KEPT_STREAMS
    assert streams[-1].name == f"run{2 * KEPT_STREAMS}"


@pytest.mark.parametrize(("name", "follows"), [("run1", "run2"), ("run009", "run010"), ("test", "test2")])
def test_name_of_the_stream_that_follows(name, follows):
    assert following(name) == follows


def test_rate_is_kept():
    began = time.monotonic()
    fed(11, rate=100.0)
    assert time.monotonic() - began >= 0.1


def test_serves_until_it_is_stopped_and_tells_what_was_read():
    stop, told, lines = threading.Event(), queue.SimpleQueue(), queue.SimpleQueue()

    def run():
        lines.put(serve_asapo(made_messages(), 0, AsapoSettings(), 1000.0, told.put, stop))

    thread = threading.Thread(target=run)
    thread.start()
    assert told.get(timeout=5).startswith("--asapo-endpoint=127.0.0.1:")
    stop.set()
    thread.join(5)
    assert lines.get(timeout=5)[0].endswith("frames put")


def test_token_that_was_given_is_not_shown():
    assert "--asapo-token=stand-in" in reading_options("host:1", AsapoSettings())
    assert "secret" not in reading_options("host:1", AsapoSettings(asapo_token="secret"))
