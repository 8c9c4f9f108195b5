# SPDX-License-Identifier: GPL-3.0-or-later
"""A reader: fetches messages into slots and tells the service of those that are done.

Runs in a child process; main names it (`gpuidx.sources.asapo.source`) and never imports it.  One that hangs
in the client library is killed by its pool, and its successor makes a new connection: there is no other way.

What main asks of it and what it answers is in `gpuidx.sources.asapo.steps`.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from gpuidx.flow.child import Port
from gpuidx.flow.slots import Slots
from gpuidx.secret import Secret
from gpuidx.sources.asapo import steps
from gpuidx.sources.asapo.client import (
    Client,
    DeniedError,
    Finished,
    LostError,
    NothingYet,
    TroubleError,
)
from gpuidx.sources.asapo.place import Where
from gpuidx.tasks import offsets

log = logging.getLogger(__name__)

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""s after one failure (or finished stream), two, more: the library has none, and would take a whole core."""

MOST_TELLING = 2.0
"""s that acknowledgements may take in one step; a service that is slow with each is not one that hangs."""

SENT_AGAIN_AFTER = 1000
"""ms after which a message should come again whose data could not be had."""


def read(port: Port, slots: Slots, where: Where, token: Secret, message_bytes: int) -> None:
    """Answer every step; see the module."""
    client = Client(where, token)
    failures = 0
    for number, kind, stream, slot, wanted, done in port.tasks():
        told = tell(client, done)
        try:
            if kind in (steps.FETCH, steps.REFETCH):
                outcome = fetch(client, stream, wanted, slots[slot][:message_bytes])
            else:
                outcome = ask(client, kind, stream)
        except DeniedError as error:
            outcome = steps.DENIED, str(error)
        except TroubleError as error:
            outcome = steps.TROUBLE, str(error)
        failed = outcome[0] in (*steps.TROUBLES, steps.FINISHED) or bool(told.refused or told.failure)
        failures = failures + 1 if failed else 0
        if failed:
            time.sleep(PAUSES[min(failures, len(PAUSES)) - 1])
        port.answer(number, told, *outcome)


def tell(client: Client, done: Sequence[tuple[str, int]]) -> steps.Told:
    """Acknowledge messages, up to the first with which that fails, or until it has taken too long."""
    refused: list[tuple[str, int]] = []
    end = time.monotonic() + MOST_TELLING
    for n, one in enumerate(done):
        if time.monotonic() > end:
            return steps.Told(done[n:], refused, "")
        try:
            client.acknowledge(*one)
        except DeniedError as error:
            log.debug("acknowledgement of %s refused: %s", one, error)
            refused.append(one)
        except TroubleError as error:
            return steps.Told(done[n:], refused, str(error))
    return steps.Told((), refused, "")


def ask(client: Client, kind: str, stream: str) -> tuple[Any, ...]:
    """Do a step that fetches nothing; gives the outcome and its values.

    Raises
    ------
    DeniedError, TroubleError
    """
    if kind in (steps.ASK_LEFT, steps.RECALL):
        return steps.LEFT, client.unacknowledged(stream), client.size(stream)
    if kind == steps.ASK_STREAMS:
        return steps.STREAMS, [(s["name"], s["timestampCreated"], s["lastId"]) for s in client.streams()]
    return (steps.TOLD,)


def fetch(client: Client, stream: str, wanted: int, place: memoryview) -> tuple[Any, ...]:
    """The next message of *stream*, or that with the id *wanted*, into *place*; gives outcome and values.

    Raises
    ------
    DeniedError, TroubleError
    """
    try:
        envelope = client.message(stream, wanted) if wanted else client.next(stream)
    except (NothingYet, Finished) as end:
        if wanted:
            return steps.LOST, wanted, "", str(end)
        if isinstance(end, NothingYet):
            return steps.NOTHING, end.last
        return steps.FINISHED, end.last, end.successor
    if envelope.size == 0:
        return steps.EMPTY, envelope.id, envelope.name, "only the sender's values"
    sizes = (len(envelope.headers), envelope.size)
    begins = offsets(sizes)
    if begins[-1] > len(place):
        detail = f"{envelope.size} bytes; a slot holds {len(place)}, --slot-size changes that"
        return steps.TOO_LARGE, envelope.id, envelope.name, detail
    try:
        payload = client.payload(envelope)
    except (LostError, TroubleError) as error:
        is_gone = isinstance(error, LostError) and client.failed_before(stream, envelope.id)
        if is_gone or not (wanted or client.where.acks):
            return steps.LOST, envelope.id, envelope.name, str(error)
        if not wanted:
            client.give_back(stream, envelope.id, SENT_AGAIN_AFTER)
        raise TroubleError(str(error)) from error
    place[: sizes[0]] = envelope.headers
    place[begins[1] : begins[2]] = payload
    return steps.GOT, envelope.id, envelope.name, sizes
