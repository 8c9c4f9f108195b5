# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in's protocol, spoken by hand: what the client library does where there is none."""

import http.client
import json
import socket
from contextlib import closing, contextmanager
from urllib.parse import quote

import pytest

from gpuidx.errors import SourceError
from gpuidx.simulation.asapo.faults import Fault, Kind
from gpuidx.simulation.asapo.protocol import DATA_ANSWER, DATA_REQUEST, GET_DATA
from gpuidx.simulation.asapo.server import StandIn

WAIT = 5.0
TOKEN = "token=stand-in&instanceid=host_1&pipelinestep=DefaultStep"
RESEND = "&resend_nacks=true&delay_ms=1000&resend_attempts=1"


class Asking:
    """A kept HTTP connection."""

    def __init__(self, address):
        self._connection = http.client.HTTPConnection(address, timeout=WAIT)
        self.close = self._connection.close

    def __call__(self, target, body=None):
        method = "GET" if body is None else "POST"
        self._connection.request(method, target, None if body is None else json.dumps(body) if body else "")
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def of_stream(self, what, query="", body=None, stream="run1", beamtime="beamtime"):
        path = f"/v0.7/beamtime/{beamtime}/detector/{quote(stream, safe='')}/{what}?{TOKEN}{query}"
        status, text = self(path, body)
        return status, json.loads(text) if status in (200, 409) and text else text.decode()

    def next(self, query="&id_key=time_id"):
        status, message = self.of_stream("g/next", query)
        return message["_id"] if status == 200 else (status, message["id_max"], message["next_stream"])


@contextmanager
def asking(server):
    """A connection to the broker that discovery names."""
    with closing(Asking(server.endpoint)) as discovery:
        status, broker = discovery("/asapo-discovery/v0.1/asapo-broker?token=stand-in&protocol=v0.7")
    assert status == 200
    with closing(Asking(broker.decode())) as connection:
        yield connection


def fetch(connection, cache_id, size, operation=GET_DATA):
    """Error and payload."""
    connection.sendall(DATA_REQUEST.pack(operation, cache_id, size, b"", b"run1", b"v0.1"))
    with connection.makefile("rb") as file:
        _, error, _ = DATA_ANSWER.unpack(file.read(DATA_ANSWER.size))
        return error, file.read(size) if error == 0 else b""


def connected(address):
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT)


def test_message_and_its_payload():
    with StandIn() as server, asking(server) as ask:
        data = bytes(range(256)) * 1000
        server.put("run ä/1", data, meta={"größe": [1, {"b": None}]})
        status, message = ask.of_stream("g/next", "&id_key=time_id", stream="run ä/1")
        assert status == 200
        assert (message["_id"], message["size"], message["meta"]) == (1, 256_000, {"größe": [1, {"b": None}]})
        with connected(message["source"]) as connection:
            assert fetch(connection, message["buf_id"], 256_000) == (0, data)
            assert fetch(connection, message["buf_id"], 1) == (3, b"")
            assert fetch(connection, 99, 256_000) == (5, b"")
            assert fetch(connection, message["buf_id"], 256_000, operation=1) == (4, b"")
            assert fetch(connection, message["buf_id"], 256_000) == (0, data)


def test_structures_have_the_sizes_of_the_client():
    assert (DATA_REQUEST.size, DATA_ANSWER.size) == (2120, 1028)


def test_payload_that_is_made_when_asked_for():
    made = []

    def make():
        made.append(1)
        return b"made"

    with StandIn() as server, asking(server) as ask:
        server.put("run1", make, size=4)
        assert not made
        message = ask.of_stream("g/next")[1]
        with connected(message["source"]) as connection:
            assert fetch(connection, message["buf_id"], 4) == (0, b"made")
        assert server.store.cache.held == 0


def test_end_of_stream_and_finished_stream():
    with StandIn({"run1": [b"a"]}) as server, asking(server) as ask:
        assert [ask.next(), ask.next()] == [1, (409, 1, "")]
        server.put("run1", b"b")
        server.finish("run1", "run2")
        assert [ask.next(), ask.next()] == [2, (409, 2, "run2")]
        assert ask.of_stream("0/2")[1]["_id"] == 2
        assert ask.of_stream("0/3")[1]["next_stream"] == "run2"
        assert ask.of_stream("size") == (200, {"size": 2})
        with pytest.raises(ValueError, match="finished"):
            server.put("run1", b"late")


def test_acknowledgement_refusal_and_reset():
    with StandIn({"run1": [b"a", b"b", b"c"]}) as server, asking(server) as ask:
        assert [ask.next(), ask.next()] == [1, 2]
        assert ask.of_stream("g/1", body={"Op": "ackmessage"}) == (200, "")
        assert ask.of_stream("g/1", body={"Op": "ackmessage"}) == (400, "already acknowledged")
        assert ask.of_stream("g/nacks", "&from=0&to=0") == (200, {"unacknowledged": [2, 3]})
        assert ask.of_stream("g/lastack") == (200, {"lastAckId": 1})
        assert ask.of_stream("g/2", body={"Op": "negackmessage", "Params": {"DelayMs": 0}}) == (200, "")
        assert [ask.next(), ask.next(), ask.next()] == [2, 3, (409, 3, "")]
        assert ask.of_stream("g/resetcounter", "&value=1", body={}) == (200, "")
        assert ask.next() == 2


def test_newest_message_comes_to_a_group_once():
    with StandIn({"run1": [b"a", b"b"]}) as server, asking(server) as ask:
        assert ask.of_stream("0/last")[1]["_id"] == 2
        assert [ask.of_stream("g/groupedlast")[0] for _ in range(2)] == [200, 409]
        server.put("run1", b"c")
        assert ask.of_stream("g/groupedlast")[1]["_id"] == 3


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("/asapo-discovery/v0.1/asapo-broker?token=stand-in&protocol=v0.1", None, 415),
        ("/asapo-discovery/v0.1/something?token=stand-in&protocol=v0.7", None, 404),
        ("/v0.7/creategroup?token=guessed", {}, 401),
        ("/v0.7/beamtime/other/detector/run1/size?token=stand-in", None, 401),
        ("/v0.7/beamtime/beamtime/detector/run1/size", None, 401),
        ("/v0.7/beamtime/beamtime/detector/no/g/lastack?token=stand-in", None, 400),
        ("/v0.7/beamtime/beamtime/detector/run1/g/1?token=stand-in", {"Op": "negackmessage"}, 400),
        ("/v0.7/beamtime/beamtime/detector/run1/g/1?token=stand-in", [1], 400),
        ("/v0.7/beamtime/beamtime/detector/run1/g/next?token=stand-in&dataset=true", None, 400),
        ("/asapo-authorizer/v0.2/folder?token=x", {"Token": "x", "BeamtimeId": "beamtime"}, 401),
        ("/v0.2/transfer?token=stand-in", {"FileName": "no"}, 404),
        ("/nothing?token=stand-in", None, 400),
    ],
)
def test_requests_that_are_refused(target, body, status):
    with StandIn({"run1": [b"a"]}) as server, asking(server) as ask:
        assert ask(target, body)[0] == status
        assert ask.next() == 1  # on the same connection


def test_file_transfer():
    with StandIn() as server, asking(server) as ask:
        server.put("run1", b"stored", cached=False, stored=True, name="a/b.h5")
        asked = {"Token": "stand-in", "BeamtimeId": "beamtime", "Folder": "auto"}
        assert ask("/asapo-authorizer/v0.2/folder?token=stand-in", asked)[0] == 200
        assert ask("/v0.2/transfer?token=stand-in", {"FileName": "a/b.h5"}) == (200, b"stored")
        size = ask("/v0.2/transfer?token=stand-in&sizeonly=true", {"FileName": "a/b.h5"})
        assert (size[0], json.loads(size[1])) == (200, {"file_size": 6})


def test_values_that_take_the_place_of_right_ones():
    with StandIn() as server, asking(server) as ask:
        server.put("run1", b"x", odd={"size": 2**40, "name": None})
        message = ask.of_stream("g/next")[1]
        assert message["size"] == 2**40
        assert "name" not in message


def test_answers_are_cut_and_connections_closed():
    faults = [Fault(kind=Kind.CUT, on=frozenset({"size"})), Fault(kind=Kind.CUT, on=frozenset({"data"}))]
    with StandIn({"run1": [bytes(100_000)]}, faults=faults) as server:
        with asking(server) as ask:
            message = ask.of_stream("g/next")[1]
        with asking(server) as ask, pytest.raises(http.client.IncompleteRead):
            ask.of_stream("size")
        with connected(message["source"]) as connection:
            assert len(fetch(connection, message["buf_id"], 100_000)[1]) == 50_000


def test_service_that_is_down_refuses_and_comes_back_where_it_was():
    with StandIn({"run1": [b"a"]}) as server, asking(server) as ask:
        server.down("broker")
        with pytest.raises(ConnectionError), asking(server) as refused:
            refused.of_stream("size")
        server.up()
        assert ask.next() == 1
        server.move_broker()
        with asking(server) as moved:
            assert moved.of_stream("size")[0] == 200


def test_changes_can_be_waited_for():
    with StandIn({"run1": [b"a"]}) as server, asking(server) as ask:
        group = server.group("run1", "g")
        assert not server.store.wait_until(lambda: bool(group.acknowledged), timeout=0.01)
        ask.of_stream("g/1", body={"Op": "ackmessage"})
        assert server.store.wait_until(lambda: group.acknowledged == {1}, timeout=WAIT)


def test_port_that_is_taken_is_named():
    with StandIn() as server, pytest.raises(SourceError, match="cannot serve discovery at 127"):
        StandIn(port=int(server.endpoint.partition(":")[2]))


@pytest.mark.parametrize("message_id", [0, 1])
def test_ids_that_cannot_be(message_id):
    with StandIn({"run1": [b"a"]}) as server, pytest.raises(ValueError, match="above 0"):
        server.put("run1", b"b", message_id=message_id)
