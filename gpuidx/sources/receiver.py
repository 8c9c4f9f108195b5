# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver: takes messages from sockets of its own into slots that main lends it.

Runs in a child process; main names it (`gpuidx.sources.receivers`) and never imports it.
"""

import logging
from collections import deque

import zmq

from gpuidx.flow.child import Port
from gpuidx.flow.platform import allow_open_files
from gpuidx.flow.slots import SharedTable, Slots
from gpuidx.options import LinkOptions
from gpuidx.sources.contract import LiveSource
from gpuidx.sources.receivers import CONNECTED, NOTED, RECEIVED, UNDER_WAY, open_links
from gpuidx.sources.request import FILES_EACH

TURN_MS = 100
"""Longest wait of a turn, ms; late answers, and whether main has stopped, are looked at as often."""


def receive(port: Port, slots: Slots, stop: SharedTable, options: LinkOptions, message_bytes: int) -> None:
    """Fill slots until main ends."""
    logging.disable(logging.WARNING)  # main says what a user has to know, once
    allow_open_files(100 + FILES_EACH * options.zmq_requests)
    source, poller = open_links(options), zmq.Poller()
    source.open(poller)
    poller.register(port.fileno(), zmq.POLLIN)
    # An answer to a request of a predecessor that died is lost, as if the request had been renewed.
    port.counters[NOTED] += port.counters[UNDER_WAY]
    port.counters[UNDER_WAY] = 0
    n_noted, free, stopped = port.counters[NOTED], deque[int](), False
    while (tasks := port.poll(0.0 if free else None)) is not None:
        free.extend(slot for (slot,) in tasks)
        if stop.row(0)[0] and not stopped:
            stopped = True
            source.stop()
        if options.zmq_request is not None:  # beforehand, and at most: who dies may have asked
            port.counters[UNDER_WAY] = min(len(free), options.zmq_requests)
        source.ask(len(free))
        source.notice(dict(poller.poll(TURN_MS)))
        port.counters[CONNECTED] = source.connected()
        port.counters[NOTED] = n_noted + sum(source.notes.values())
        answers = _fill(source, slots, free, port, message_bytes)
        port.counters[UNDER_WAY] = source.pending()
        while stopped and len(free) > source.pending():
            answers.append((free.pop(),))
        if answers:
            port.answer_all(answers)
    source.close()


def _fill(
    source: LiveSource, slots: Slots, free: deque[int], port: Port, message_bytes: int
) -> list[tuple[object, ...]]:
    """Take what is there, as far as there are slots; gives the answers: slot, and what was taken."""
    answers: list[tuple[object, ...]] = []
    while free and source.ready():
        taken = source.take(slots[free[0]][:message_bytes])
        if taken is None:
            break
        port.counters[RECEIVED] += 1
        answers.append((free.popleft(), taken.sizes, taken.rejected, taken.role, taken.connection))
    return answers
