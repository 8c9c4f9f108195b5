# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in as the real client library sees it."""

import threading
from itertools import chain

import pytest
from simulation.asapo.client import Consumer, HungError, need_library

from gpuidx.simulation.asapo.faults import Fault, Kind
from gpuidx.simulation.asapo.server import StandIn

need_library()
import asapo_consumer  # noqa: E402

# What ASAP::O's developers advise against is still asked for by programs that run.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


def payloads(n):
    return [f"payload {number}".encode() for number in range(1, n + 1)]


def ids(consumer, n, **named):
    return [consumer.next(**named)["_id"] for _ in range(n)]


def test_message_of_4_mb_arrives_with_its_metadata_as_it_was_put():
    data = bytes(range(256)) * (1 << 14)
    meta = {"_data_format": '{"array":{"shape":[2,3]}}', "tiefe": {"größe": [1, 2.5, {"ü": None}]}}
    with StandIn() as server:
        server.put("lauf ä/1", data, meta=meta, name="processed/bild Å.h5")
        received, message = Consumer(server).get_next("g", meta_only=False, stream="lauf ä/1", ordered=False)
    assert received.tobytes() == data
    assert message["meta"] == meta
    assert (message["_id"], message["name"]) == (1, "processed/bild Å.h5")
    assert (message["size"], message["stream"]) == (len(data), "lauf ä/1")


def test_acknowledgements_are_kept_and_told():
    with StandIn({"run1": payloads(3)}) as server:
        consumer = Consumer(server)
        with pytest.raises(asapo_consumer.AsapoNoDataError):
            consumer.get_last_acknowledged_message("g", stream="run1")
        for message_id in ids(consumer, 3)[::2]:
            consumer.acknowledge("g", message_id, stream="run1")
        with pytest.raises(asapo_consumer.AsapoWrongInputError, match="already acknowledged"):
            consumer.acknowledge("g", 3, stream="run1")
        assert consumer.get_unacknowledged_messages("g", 0, 0, "run1") == [2]
        assert consumer.get_last_acknowledged_message("g", stream="run1") == 3
        assert server.group("run1", "g").acknowledged == {1, 3}


def test_refused_message_comes_once_more_after_its_delay():
    clock = Clock()
    with StandIn({"run1": payloads(2)}, clock=clock) as server:
        consumer = Consumer(server)
        assert ids(consumer, 1) == [1]
        consumer.neg_acknowledge("g", 1, 2000, stream="run1")
        assert ids(consumer, 1) == [2]
        clock.now = 2.0
        assert ids(consumer, 1) == [1]
        with pytest.raises(asapo_consumer.AsapoEndOfStreamError):
            consumer.next()


def test_unacknowledged_messages_are_resent_until_their_attempts_are_used_up():
    clock = Clock()
    with StandIn({"run1": payloads(2)}, clock=clock) as server:
        consumer = Consumer(server, timeout_ms=50)
        consumer.set_resend_nacs(True, 1500, 2)
        assert ids(consumer, 2) == [1, 2]
        consumer.acknowledge("g", 2, stream="run1")
        for clock.now in (1.5, 3.0):
            assert ids(consumer, 1) == [1]
            with pytest.raises(asapo_consumer.AsapoEndOfStreamError):
                consumer.next()
        clock.now = 100.0
        with pytest.raises(asapo_consumer.AsapoEndOfStreamError):
            consumer.next()


@pytest.mark.parametrize("follows", ["asapo_no_next", "run2"])
def test_finished_stream_names_the_one_that_follows(follows):
    with StandIn({"run1": payloads(2)}) as server:
        server.finish("run1", follows)
        consumer = Consumer(server)
        assert ids(consumer, 2) == [1, 2]
        with pytest.raises(asapo_consumer.AsapoStreamFinishedError) as error:
            consumer.next()
        assert (error.value.id_max, error.value.next_stream) == (2, follows)


def test_stream_without_finish_flag_or_messages_is_at_its_end_for_now():
    with StandIn({"run1": payloads(1)}) as server:
        consumer = Consumer(server, timeout_ms=50)
        ids(consumer, 1)
        for stream, id_max in (("run1", 1), ("nothing", 0)):
            with pytest.raises(asapo_consumer.AsapoEndOfStreamError) as error:
                consumer.next(stream=stream)
            assert error.value.id_max == id_max
        server.put("nothing", b"late")
        assert ids(consumer, 1, stream="nothing") == [1]


def test_holes_are_passed_over_in_order_of_arrival_and_told_in_order_of_ids():
    with StandIn() as server:
        for message_id in (2, 5, 4):
            server.put("run1", b"x", message_id=message_id)
        consumer = Consumer(server, timeout_ms=100)
        assert ids(consumer, 3) == [2, 5, 4]
        with pytest.raises(asapo_consumer.AsapoNoDataError) as error:
            consumer.next("ordered", ordered=True)
        assert (error.value.id, error.value.id_max) == (1, 5)
        assert consumer.next("ordered", ordered=True)["_id"] == 2
        assert consumer.get_by_id(4, meta_only=True, stream="run1")[1]["_id"] == 4
        assert consumer.get_last(meta_only=True, stream="run1")[1]["_id"] == 5


@pytest.mark.parametrize("wrong", [{"token": "guessed"}, {"beamtime": "another"}])
def test_wrong_token_or_beamtime_is_refused(wrong):
    with StandIn({"run1": payloads(1)}) as server:
        with pytest.raises(asapo_consumer.AsapoWrongInputError, match="token"):
            Consumer(server, **wrong).get_current_size("run1")
        assert Consumer(server).get_current_size("run1") == 1


def test_four_consumers_of_one_group_share_200_messages():
    given = [[] for _ in range(4)]

    def consume(server, mine):
        consumer = Consumer(server, timeout_ms=100)
        while True:
            try:
                data, message = consumer.get_next("g", meta_only=False, stream="run1", ordered=False)
            except asapo_consumer.AsapoStreamFinishedError:
                return
            assert data.tobytes() == f"payload {message['_id']}".encode()
            consumer.acknowledge("g", message["_id"], stream="run1")
            mine.append(message["_id"])

    with StandIn({"run1": payloads(200)}) as server:
        server.finish("run1")
        threads = [threading.Thread(target=consume, args=(server, mine)) for mine in given]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(chain(*given)) == list(range(1, 201))
        assert server.group("run1", "g").acknowledged == set(range(1, 201))


def test_each_group_begins_at_the_start_and_can_be_set_back():
    with StandIn({"run1": payloads(4)}) as server:
        consumer = Consumer(server, timeout_ms=100)
        assert ids(consumer, 3) == [1, 2, 3]
        assert ids(consumer, 1, group=consumer.generate_group_id()) == [1]
        consumer.set_lastread_marker("g", 1, "run1")
        assert ids(consumer, 3) == [2, 3, 4]
        consumer.reset_lastread_marker("g", "run1")
        assert ids(consumer, 1) == [1]
        assert ids(consumer, 1, ordered=True) == [1]


ERROR = asapo_consumer.AsapoInterruptedTransactionError
NOT_IN_CACHE = asapo_consumer.AsapoDataNotInCacheError


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        # The library asks again for itself, or raises; what was carried out is lost to the group.
        (Kind.DROP, ERROR, 1),
        (Kind.STATUS, 1, 2),
        (Kind.LOSE, ERROR, 2),
        (Kind.HANG, HungError, None),
        (Kind.CUT, ERROR, 2),
        (Kind.STALL, HungError, None),
        (Kind.SLOW, 1, 2),
        (Kind.CLOSE, 1, 2),
        (Kind.GARBAGE, ERROR, 2),
        (Kind.BAD_TEXT, UnicodeDecodeError, 2),
        (Kind.BAD_TYPES, ERROR, 2),
    ],
)
def test_fault_of_a_broker_answer(kind, first, second):
    fault = Fault(kind=kind, on=frozenset({"next"}), count=1, seconds=0.05)
    with StandIn({"run1": payloads(3)}, faults=[fault]) as server:
        consumer = Consumer(server, limit=0.4 if first is HungError else 5.0)
        if isinstance(first, int):
            assert ids(consumer, 1) == [first]
        else:
            with pytest.raises(first):
                consumer.next()
        assert server.faults.struck == {(kind, "next"): 1}
        if second is not None:
            assert ids(consumer, 1) == [second]


@pytest.mark.parametrize(
    "kind", [Kind.DROP, Kind.STATUS, Kind.LOSE, Kind.HANG, Kind.CUT, Kind.STALL, Kind.GARBAGE, Kind.EVICT]
)
def test_fault_of_the_data_server(kind):
    fault = Fault(kind=kind, on=frozenset({"data"}), ids=frozenset({2}), count=1)
    with StandIn({"run1": payloads(2)}, faults=[fault]) as server:
        is_silent = kind in (Kind.HANG, Kind.STALL)
        consumer = Consumer(server, limit=0.4 if is_silent else 5.0)
        messages = [consumer.next() for _ in range(2)]
        assert consumer.retrieve_data(messages[0]).tobytes() == b"payload 1"
        with pytest.raises(HungError if is_silent else NOT_IN_CACHE):
            consumer.retrieve_data(messages[1])
        assert server.faults.struck == {(kind, "data"): 1}
        if not is_silent:
            assert consumer.retrieve_data(messages[1]).tobytes() == b"payload 2"


def test_data_server_that_closes_idle_connections_fails_the_next_fetch_only():
    fault = Fault(kind=Kind.CLOSE, on=frozenset({"data"}), count=1)
    with StandIn({"run1": payloads(2)}, faults=[fault]) as server:
        consumer = Consumer(server)
        messages = [consumer.next() for _ in range(2)]
        assert consumer.retrieve_data(messages[0]).tobytes() == b"payload 1"
        with pytest.raises(NOT_IN_CACHE):
            consumer.retrieve_data(messages[1])
        assert consumer.retrieve_data(messages[1]).tobytes() == b"payload 2"


def test_lost_answer_on_a_kept_connection_loses_a_message_unless_it_is_resent():
    clock = Clock()
    fault = Fault(kind=Kind.LOSE, on=frozenset({"next"}), ids=frozenset({2}), count=1)
    for resends, given in ((False, [1, 3, 4]), (True, [1, 3, 2])):
        with StandIn({"run1": payloads(4)}, faults=[fault], clock=clock) as server:
            consumer = Consumer(server)
            consumer.set_resend_nacs(resends, 1000, 3)
            first = ids(consumer, 2)
            for message_id in first:
                consumer.acknowledge("g", message_id, stream="run1")
            clock.now += 1.0
            assert first + ids(consumer, 1) == given
            assert server.faults.struck == {(Kind.LOSE, "next"): 1}


def test_client_finds_a_broker_that_has_moved():
    with StandIn({"run1": payloads(2)}) as server:
        consumer = Consumer(server, timeout_ms=1000)
        assert ids(consumer, 1) == [1]
        server.move_broker()
        assert ids(consumer, 1) == [2]


def test_server_that_was_down_goes_on_where_it_was():
    with StandIn({"run1": payloads(2)}) as server:
        consumer = Consumer(server, timeout_ms=200)
        assert ids(consumer, 1) == [1]
        server.down()
        with pytest.raises(asapo_consumer.AsapoConsumerError):
            consumer.next()
        with pytest.raises(asapo_consumer.AsapoUnavailableServiceError):
            consumer.get_current_size("run1")
        server.up()
        assert ids(consumer, 1) == [2]


def test_evicted_payload_comes_as_a_file_if_it_was_stored():
    with StandIn(cache_bytes=250) as server:
        for stored in (False, True, False, False):
            server.put("run1", bytes(100), stored=stored)
        consumer = Consumer(server)
        messages = [consumer.next() for _ in range(4)]
        assert server.store.cache.held == 200
        with pytest.raises(NOT_IN_CACHE):
            consumer.retrieve_data(messages[0])
        for message in messages[1:]:
            assert consumer.retrieve_data(message).tobytes() == bytes(100)
        server.evict("run1", 4)
        with pytest.raises(NOT_IN_CACHE):
            consumer.retrieve_data(messages[3])


def test_streams_are_listed_described_and_deleted():
    with StandIn({"run1": payloads(2), "run2": payloads(3)}) as server:
        server.finish("run1", "run2")
        consumer = Consumer(server, timeout_ms=100)
        for which, names in (("all", ["run1", "run2"]), ("finished", ["run1"]), ("unfinished", ["run2"])):
            assert [one["name"] for one in consumer.get_stream_list("", which, detailed=False)] == names
        told = consumer.get_stream_info("run1")
        assert (told["lastId"], told["finished"], told["nextStream"]) == (2, True, "run2")
        assert consumer.get_last_stream()["name"] == "run2"
        assert consumer.get_source_list() == ["detector"]
        consumer.delete_stream("run2")
        assert consumer.get_current_size("run2") == 0
        with pytest.raises(asapo_consumer.AsapoWrongInputError, match="no stream run2"):
            consumer.delete_stream("run2")


def test_metadata_of_beamtime_and_stream_and_version():
    with StandIn({"run1": payloads(1)}) as server:
        server.store.set_meta({"title": "Å"})
        server.store.set_meta({"sample": 3}, server.source, "run1")
        consumer = Consumer(server)
        assert consumer.get_beamtime_meta() == {"title": "Å"}
        assert consumer.get_stream_meta("run1") == {"sample": 3}
        assert consumer.get_version_info()["supported"] is True
