# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader does with what a client, which is made up, says."""

from collections import Counter

import pytest
from simulation.asapo.client import need_library

need_library()

from sources.asapo.clocks import Clock  # noqa: E402

from gpuidx.sources.asapo import reader, steps  # noqa: E402
from gpuidx.sources.asapo.client import (  # noqa: E402
    MOST_FAILURES,
    Client,
    DeniedError,
    Envelope,
    Finished,
    LostError,
    NothingYet,
    TroubleError,
)
from gpuidx.sources.asapo.place import Where  # noqa: E402
from gpuidx.tasks import parts_in  # noqa: E402


class MadeUp(Client):
    """Answers what it was told; an exception is raised."""

    def __init__(self, acks=True, message=None, payload=b"", acknowledged=()):
        self.where = Where("host:1", "b", "s", "g", acks=acks)
        self._failures = Counter()
        self.answer, self.data, self.answers = message, payload, list(acknowledged)
        self.given_back, self.acknowledged = [], []

    def next(self, stream):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def message(self, stream, number):
        return self.next(stream)

    def payload(self, envelope):
        if isinstance(self.data, Exception):
            raise self.data
        return memoryview(self.data)

    def acknowledge(self, stream, number):
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        self.acknowledged.append(number)

    def give_back(self, stream, number, delay):
        self.given_back.append(number)


def envelope(size=5):
    return Envelope(7, "name", size, b'{"a":1}', {})


def place(size=64):
    return memoryview(bytearray(size))


def test_a_message_lies_behind_the_senders_values():
    slot = place()
    client = MadeUp(message=envelope(), payload=b"image")
    outcome, number, name, sizes = reader.fetch(client, "s", 0, slot)
    assert (outcome, number, name) == (steps.GOT, 7, "name")
    assert [bytes(part) for part in parts_in(slot, sizes)] == [b'{"a":1}', b"image"]


def test_a_message_may_fill_the_slot_and_not_more():
    assert reader.fetch(MadeUp(message=envelope(48), payload=bytes(48)), "s", 0, place())[0] == steps.GOT
    outcome, number, _, detail = reader.fetch(MadeUp(message=envelope(49)), "s", 0, place())
    assert (outcome, number) == (steps.TOO_LARGE, 7)
    assert "a slot holds 64" in detail


def test_a_message_without_data_is_none_to_process():
    assert reader.fetch(MadeUp(message=envelope(0)), "s", 0, place())[:2] == (steps.EMPTY, 7)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [(NothingYet(3), (steps.NOTHING, 3)), (Finished(3, "run2"), (steps.FINISHED, 3, "run2"))],
)
def test_the_end_is_passed_on(said, outcome):
    assert reader.fetch(MadeUp(message=said), "s", 0, place()) == outcome


def test_data_that_cannot_be_had_now_are_asked_for_again():
    client = MadeUp(message=envelope(), payload=TroubleError("away"))
    for _ in range(2 * MOST_FAILURES):
        with pytest.raises(TroubleError):
            reader.fetch(client, "s", 0, place())
    assert client.given_back == [7] * 2 * MOST_FAILURES
    with pytest.raises(TroubleError):  # the message of a worker that died: its id is known
        reader.fetch(client, "s", 7, place())


@pytest.mark.parametrize("wanted", [0, 7])
def test_data_that_are_gone_count_as_lost_after_a_few_tries(wanted):
    client = MadeUp(message=envelope(), payload=LostError("evicted"))
    for _ in range(MOST_FAILURES - 1):
        with pytest.raises(TroubleError):
            reader.fetch(client, "s", wanted, place())
    assert reader.fetch(client, "s", wanted, place())[:2] == (steps.LOST, 7)


def test_without_acknowledgements_there_is_no_other_try():
    client = MadeUp(acks=False, message=envelope(), payload=TroubleError("away"))
    assert reader.fetch(client, "s", 0, place()) == (steps.LOST, 7, "name", "away")
    assert client.given_back == []


KEYS = [("s", number) for number in (1, 2, 3)]


def test_acknowledgements_stop_at_trouble():
    client = MadeUp(acknowledged=[None, TroubleError("away")])
    assert reader.tell(client, KEYS) == steps.Told(KEYS[1:], [], "away")


def test_a_refused_acknowledgement_does_not_stop_the_others():
    client = MadeUp(acknowledged=[None, DeniedError("never heard of it")])
    assert reader.tell(client, KEYS) == steps.Told((), [("s", 2)], "")
    assert client.acknowledged == [1, 3]


def test_slow_acknowledgements_are_split_over_several_steps(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reader, "time", clock)
    client = MadeUp()
    monkeypatch.setattr(client, "acknowledge", lambda *_: clock.sleep(0.9 * reader.MOST_TELLING))
    assert reader.tell(client, KEYS) == steps.Told(KEYS[2:], [], "")
