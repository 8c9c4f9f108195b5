# SPDX-License-Identifier: GPL-3.0-or-later
"""Hits, and placeholders for the rest, to a stream of their own (``--asapo-output-stream``).

Runs in the workers, which alone load the library of producers.  Its threads do the sending; nothing here
waits for the service but for room.  Names, ids, placeholders and the way of storing are those of indexamajig
(CrystFEL 0.12, behaviour of ``im-asapo.c``).  Measured with asapo-producer 25.3.0.
"""

import os
import threading
import time
from functools import partial
from typing import Any

import asapo_producer as library

from gpuidx.model import Message
from gpuidx.options.asapo import AsapoOptions
from gpuidx.secret import Secret
from gpuidx.sources.asapo.hits import (
    COUNTERS,
    LATE,
    NO_ROOM,
    PLACEHOLDERS,
    REFUSED,
    SENT,
    TAKEN,
    TIMEOUT,
    source_of_hits,
)
from gpuidx.sources.asapo.place import STEP

SKIPPED = b"SKIPPED\0"
"""Payload of a placeholder."""

MOST_BYTES = 32_000_000
"""In the queue of a worker, payloads and metadata together; one message may be larger."""

OVERHEAD = 1000
"""Bytes that a message counts for at least."""

WAIT = 1.0
"""s that a message waits for room; none if one before waited in vain, until the service has one again."""

THREADS = 2
"""That send; a worker finds no more than two hits in the time in which one goes over the network."""

_COLUMNS = {name: column for column, name in enumerate(COUNTERS)}


def connect(options: AsapoOptions) -> Any:
    """The library's producer, which writes nothing to standard output; makes no request by itself.

    What it writes before its log can be turned off goes nowhere: nor does anything else that this process
    writes to standard output from now on.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    producer = library.create_producer(
        options.asapo_endpoint, "processed", options.asapo_beamtime, "auto",
        source_of_hits(options.asapo_source or ""), (options.asapo_token or Secret("")).reveal(),
        THREADS, round(1e3 * TIMEOUT), "auto", STEP,
    )  # fmt: skip
    producer.set_log_level("none")
    return producer


class Hits:
    """The messages that one worker sends on.

    Parameters
    ----------
    producer
        See `connect`.
    counters
        The worker's part of the shared table, a column for each of `hits.COUNTERS`.  What a predecessor had
        not settled died with it.
    """

    def __init__(self, producer: Any, counters: memoryview) -> None:
        self._producer, self._counters = producer, counters
        self._changed = threading.Condition()  # the library calls back in threads of its own
        self._n_byte = 0
        self._is_stuck = False
        self._last: tuple[str, int] | None = None
        settled = sum(counters[column] for name, column in _COLUMNS.items() if name != TAKEN)
        self._count(LATE, counters[_COLUMNS[TAKEN]] - settled)

    def send(self, message: Message, is_hit: bool) -> None:
        """Send a message on, or a placeholder for it; what it takes of the message is a copy.

        A message with several frames goes as a whole when one of them is a hit, and has no placeholders: the
        service takes one message with each id.
        """
        key = message.stream, message.serial
        if not message.is_alone and (not is_hit or key == self._last):
            return
        self._last = key
        payload = message.data if is_hit else memoryview(SKIPPED)
        self._count(TAKEN)
        size = len(payload) + len(message.values) + OVERHEAD
        if not self._has_room(size):
            self._count(NO_ROOM)
            return
        kind = "data" if is_hit else "placeholder"
        callback = partial(self._settled, size, SENT if is_hit else PLACEHOLDERS)
        try:
            self._producer.send(
                message.serial,
                f"processed/{message.stream}_hits/{message.stream}-{message.serial}.{kind}",
                bytes(payload),
                user_meta=bytes(message.values).decode() or None,
                ingest_mode=library.CACHE_ONLY_INGEST_MODE,
                stream=message.stream,
                callback=callback,
            )
        except Exception as error:
            callback(None, error)

    def _has_room(self, size: int) -> bool:
        """Wait for room for so many bytes, but not for long; if there is any they count from now on."""
        end = time.monotonic() + (0.0 if self._is_stuck else WAIT)
        with self._changed:
            while self._n_byte and self._n_byte + size > MOST_BYTES:
                if not self._changed.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    self._is_stuck = True
                    return False
            self._n_byte += size
        return True

    def _settled(self, size: int, counter: str, _: object, error: object) -> None:
        """The service has a message, or will not have it; of one that it has had before it says a warning."""
        is_sent = error is None or isinstance(error, library.AsapoServerWarning)
        if not is_sent:
            counter = LATE if isinstance(error, library.AsapoTimeOutError) else REFUSED
        with self._changed:
            self._n_byte -= size
            self._is_stuck = self._is_stuck and not is_sent
            self._changed.notify()
            self._counters[_COLUMNS[counter]] += 1

    def _count(self, counter: str, n: int = 1) -> None:
        with self._changed:
            self._counters[_COLUMNS[counter]] += n
