# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent on, what is counted, and what a service that takes nothing costs; the producer is made up."""

import itertools
import logging

import pytest
from simulation.asapo.client import need_library

from gpuidx.errors import OptionError
from gpuidx.model import Message
from gpuidx.sources.asapo import hits
from gpuidx.sources.asapo.hits import COUNTERS, LATE, NO_ROOM, PLACEHOLDERS, REFUSED, SENT, TAKEN, SentHits

need_library("asapo_producer")

import asapo_producer as library  # noqa: E402

from gpuidx.sources.asapo import producer  # noqa: E402
from gpuidx.sources.asapo.producer import Hits  # noqa: E402


class Producer:
    """Keeps what it is given; settles it when told."""

    def __init__(self):
        self.sent, self.open = [], []

    def send(self, number, name, data, *, user_meta, ingest_mode, stream, callback):
        if data == b"refused at once":
            raise library.AsapoWrongInputError("error: wrong input")
        self.sent.append((number, name, data, user_meta, ingest_mode, stream))
        self.open.append(callback)

    def settle(self, error=None):
        self.open.pop(0)({}, error)


@pytest.fixture
def made_up():
    """A producer, and a worker's counters."""
    return Producer(), memoryview(bytearray(8 * len(COUNTERS))).cast("q")


def message(number, data=b"pixels", values=b'{"a":1}', is_alone=True):
    return Message(
        serial=number, filename="f", event="//", data=memoryview(data), stream="run1",
        values=memoryview(values), is_alone=is_alone,
    )  # fmt: skip


def counted(counters):
    return {name: n for name, n in zip(COUNTERS, counters, strict=True) if n}


def test_hits_go_as_they_came_and_others_as_placeholders(made_up):
    made, counters = made_up
    sender = Hits(made, counters)
    place = bytearray(b"pixels")
    sender.send(message(7, place), True)
    place[:] = b"chunk!"
    sender.send(message(9, values=b""), False)
    assert made.sent == [
        (7, "processed/run1_hits/run1-7.data", b"pixels", '{"a":1}', 9, "run1"),
        (9, "processed/run1_hits/run1-9.placeholder", b"SKIPPED\0", None, 9, "run1"),
    ]
    assert counted(counters) == {TAKEN: 2}
    made.settle()
    made.settle()
    assert counted(counters) == {TAKEN: 2, SENT: 1, PLACEHOLDERS: 1}


@pytest.mark.parametrize(
    ("error", "counter"),
    [
        (library.AsapoServerWarning("duplicated request"), SENT),
        (library.AsapoTimeOutError("timeout"), LATE),
        (library.AsapoWrongInputError("wrong token"), REFUSED),
    ],
)
def test_what_the_service_says_is_counted(made_up, error, counter):
    made, counters = made_up
    Hits(made, counters).send(message(1), True)
    made.settle(error)
    assert counted(counters) == {TAKEN: 1, counter: 1}


def test_a_library_that_refuses_at_once_costs_the_message_alone(made_up):
    made, counters = made_up
    sender = Hits(made, counters)
    sender.send(message(1, b"refused at once"), True)
    sender.send(message(2, values=b"\xff"), True)
    sender.send(message(3), True)
    assert counted(counters) == {TAKEN: 3, REFUSED: 2}
    assert [number for number, *_ in made.sent] == [3]


def test_full_queue_holds_up_one_message_and_takes_more_when_the_service_is_back(made_up, monkeypatch):
    made, counters = made_up
    waits = []
    sender = Hits(made, counters)
    monkeypatch.setattr(producer, "MOST_BYTES", 3 * producer.OVERHEAD)
    monkeypatch.setattr(producer, "WAIT", 0.05)
    monkeypatch.setattr(sender._changed, "wait", lambda s: waits.append(s) if s else None)
    monkeypatch.setattr(producer.time, "monotonic", itertools.count(step=0.03).__next__)
    for number in range(1, 6):
        sender.send(message(number), True)
    assert [number for number, *_ in made.sent] == [1, 2]
    assert counted(counters) == {TAKEN: 5, NO_ROOM: 3}
    assert waits == [pytest.approx(0.02)]
    made.settle(library.AsapoTimeOutError("timeout"))
    sender.send(message(6), True)
    sender.send(message(7), True)
    assert len(waits) == 1
    made.settle()
    sender.send(message(8), True)
    sender.send(message(9), True)
    assert len(waits) == 2
    assert [number for number, *_ in made.sent] == [1, 2, 6, 8]


def test_a_message_larger_than_the_queue_goes_when_the_queue_is_empty(made_up, monkeypatch):
    made, counters = made_up
    monkeypatch.setattr(producer, "MOST_BYTES", 10)
    monkeypatch.setattr(producer, "WAIT", 0.0)
    sender = Hits(made, counters)
    sender.send(message(1), True)
    sender.send(message(2), True)
    made.settle()
    sender.send(message(3), True)
    assert [number for number, *_ in made.sent] == [1, 3]


def test_a_message_with_several_frames_goes_once_and_has_no_placeholder(made_up):
    made, counters = made_up
    sender = Hits(made, counters)
    for is_hit in (False, True, False, True):
        sender.send(message(4, is_alone=False), is_hit)
    assert [name for _, name, *_ in made.sent] == ["processed/run1_hits/run1-4.data"]
    assert counted(counters) == {TAKEN: 1}


def test_queue_of_a_dead_worker_counts_as_not_sent(made_up):
    made, counters = made_up
    sender = Hits(made, counters)
    for number in (1, 2, 3):
        sender.send(message(number), True)
    made.settle()
    Hits(Producer(), counters)
    assert counted(counters) == {TAKEN: 3, SENT: 1, LATE: 2}


def test_end_of_the_run_waits_while_messages_go_and_no_longer(monkeypatch, caplog):
    counts = dict.fromkeys(COUNTERS, 0) | {TAKEN: 5, REFUSED: 1}
    now = 0.0

    def sleep(_):
        nonlocal now
        now += 3.0
        counts[SENT] = min(3, counts[SENT] + 1)

    monkeypatch.setattr(hits.time, "sleep", sleep)
    monkeypatch.setattr(hits.time, "monotonic", lambda: now)
    main = SentHits(counts.__getitem__)
    with caplog.at_level(logging.WARNING):
        main.wait(lambda: False)
        main.warn()
    assert now == 3 * 3.0 + 6.0
    assert [record.message.split(":")[0] for record in caplog.records] == ["hits are not all sent on to ASAP"]
    notes = main.notes()
    assert notes["hits sent on to ASAP::O"] == 3
    assert sorted(n for text, n in notes.items() if text.startswith(hits.UNSENT)) == [1, 1]
    main.wait(lambda: pytest.fail("asked twice") if now > 15.0 else True)
    assert now == 15.0


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(hits, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"^--asapo-output-stream: .* pip install 'gpuidx\[asapo\]'"):
        hits.check_library()
