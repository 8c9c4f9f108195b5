# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver, by hand and with the real library of producers."""

import http.client
import json
import socket
import struct
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest
from simulation.asapo.client import Consumer, need_library

from gpuidx.simulation.asapo.cache import payload_bytes
from gpuidx.simulation.asapo.faults import Fault, Kind
from gpuidx.simulation.asapo.protocol import AUTHORIZE, DATA_ANSWER, PRODUCER_REQUEST, SEND_DATA, STREAM_INFO
from gpuidx.simulation.asapo.server import StandIn

WAIT = 30.0
WHO = b"processed%host_1%indexamajig%beamtime%auto%detector_hits%stand-in"


@contextmanager
def sending(server, who=WHO, expected=0):
    """A connection to the receiver that discovery names, and its function that sends."""
    with closing(http.client.HTTPConnection(server.endpoint, timeout=WAIT)) as discovery:
        discovery.request("GET", "/asapo-discovery/v0.1/asapo-receiver?protocol=v0.7")
        host, _, port = json.loads(discovery.getresponse().read())["Uris"][0].partition(":")
    connection = socket.create_connection((host, int(port)), timeout=WAIT)
    with connection, connection.makefile("rb") as file:

        def send(operation, number=0, name=b"", meta=b"", data=b"", mode=13):
            sizes = len(data), len(meta)
            head = PRODUCER_REQUEST.pack(operation, number, *sizes, mode, name, b"run1", b"v0.7")
            connection.sendall(head + meta + data)
            answered, error, text = DATA_ANSWER.unpack(file.read(DATA_ANSWER.size))
            assert answered == operation
            return error, text.rstrip(b"\0").decode()

        assert send(AUTHORIZE, meta=who)[0] == expected
        yield send


def hits(server):
    (stream,) = server.store.streams("detector_hits")
    return stream


def test_messages_and_the_finish_flag_of_a_producer_are_kept():
    with StandIn() as server, sending(server) as send:
        assert send(SEND_DATA, 4, b"a-4.data", '{"å":[1]}'.encode(), b"pixels") == (0, "")
        assert send(SEND_DATA, 5, b"a-5.placeholder", b"", b"SKIPPED\0", mode=9) == (0, "")
        assert send(SEND_DATA, 5, b"a-5.data", b"", b"again") == (
            2,
            "stream run1: id 5 is not above 0, or was used",
        )
        assert send(SEND_DATA, 0, b"numbered by the server", b"{}", mode=10) == (0, "")
        assert send(SEND_DATA, 7, b"asapo_finish_stream", b'{"next_stream":"run2"}', mode=2) == (0, "")
        told = json.loads(send(STREAM_INFO)[1])
        assert (told["lastId"], told["finished"], told["nextStream"]) == (6, True, "run2")
        first, second, third = hits(server).messages.values()
        assert (first.id, first.name, first.meta) == (4, "a-4.data", {"å": [1]})
        assert payload_bytes(server.store.cache.get(first.cache_id)) == b"pixels"
        assert (server.store.file("a-4.data"), server.store.file("a-5.placeholder")) == (b"pixels", None)
        assert second.size == 8
        assert (third.id, third.size, third.cache_id) == (6, 0, 0)


@pytest.mark.parametrize("who", [WHO + b"x", WHO.replace(b"%beamtime%", b"%other%"), b"nonsense"])
def test_producer_with_a_wrong_token_is_refused(who):
    with StandIn() as server, sending(server, who, expected=6) as send:
        assert send(SEND_DATA, 1, b"a", b"", b"x") == (6, "not authorized")
        assert server.store.streams("detector_hits") == []


def test_metadata_that_are_no_json_and_unknown_operations_are_refused():
    with StandIn() as server, sending(server) as send:
        assert send(SEND_DATA, 1, b"a", b"no json", b"x")[0] == 2
        assert send(99)[0] == 4
        assert send(SEND_DATA, 1, b"a", b"", b"x")[0] == 0


def test_answer_to_a_producer_is_lost_but_its_message_is_kept():
    fault = Fault(kind=Kind.CUT, on=frozenset({"produce"}), ids=frozenset({1}))
    with StandIn(faults=[fault]) as server, sending(server) as send:
        with pytest.raises(struct.error, match="requires a buffer of 1028 bytes"):
            send(SEND_DATA, 1, b"a", b"", b"x")
        assert list(hits(server).messages) == [1]


PRODUCER = """
import json, os, queue, sys
import asapo_producer

endpoint, beamtime, source, token = sys.argv[1:]
told = queue.SimpleQueue()
producer = asapo_producer.create_producer(
    endpoint, "processed", beamtime, "auto", source, token, 1, 5000
)
meta = {"_data_format": "{}", "größe": 1.5}
producer.send(
    3, "a/b.data", b"pixels", user_meta=json.dumps(meta), stream="run1",
    callback=lambda payload, error: told.put(error),
)
assert told.get() is None
producer.send_stream_finished_flag("run1", 3, "", lambda payload, error: told.put(error))
assert told.get() is None
os._exit(0)
"""
"""Has a process of its own: the library's threads outlive the producer, and would go on without a server."""


def test_library_of_producers_to_library_of_consumers():
    need_library("asapo_consumer")
    need_library("asapo_producer")
    with StandIn() as server:
        words = (server.endpoint, server.beamtime, server.source, server.token)
        subprocess.run(
            [sys.executable, "-c", PRODUCER, *words], check=True, timeout=WAIT, capture_output=True
        )
        meta = {"_data_format": "{}", "größe": 1.5}
        data, message = Consumer(server).get_next("g", meta_only=False, stream="run1", ordered=False)
        assert (data.tobytes(), message["_id"], message["name"]) == (b"pixels", 3, "a/b.data")
        assert message["meta"] == meta
        assert server.store.streams(server.source)[0].next_stream == "asapo_no_next"
