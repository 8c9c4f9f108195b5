# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames for ``gpuidx check``: from the run's source into memory, and what is found out if nothing comes."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import zmq

from gpuidx.commands.check_record import Arrival
from gpuidx.flow.forkserver import start_forkserver, stop_forkserver
from gpuidx.flow.slots import Slots
from gpuidx.model import Message
from gpuidx.options import Options
from gpuidx.sources.asapo.questions import check_service
from gpuidx.sources.contract import END, START, Keeper, Taken
from gpuidx.sources.knock import knock
from gpuidx.sources.links import Link
from gpuidx.sources.opening import open_source, streams_of
from gpuidx.sources.wiring import read_wiring
from gpuidx.tasks import offsets, parts_in

POLL_MS = 50
"""Longest wait of a turn, ms."""

LISTEN = 3.0
"""Seconds for which all that is published is listened to, if nothing came under the tags of the user."""

MOST_REFUSED = 10
"""Messages that are no frames, after which no further one is waited for."""

LENT = 2
"""Slots for a source that fills them itself."""

ASAPO = "ASAP::O"

HEARD = 64
"""Bytes of a message that are shown."""


def described(options: Options) -> Arrival:
    """The source that the options name, before anything came."""
    if options.asapo_endpoint is not None:
        what = f"stream '{options.asapo_stream}' of source '{options.asapo_source}'"
        return Arrival(source=options.asapo_endpoint, kind=ASAPO, asks=f"{what}, in a group of its own")
    if not options.zmq_input:
        return Arrival(source=f"files of {options.input}", kind="files")
    kind, asks = "PULL", ""
    if options.zmq_request is not None:
        kind, asks = "REQ", f"request '{options.zmq_request}'"
    elif not options.zmq_pull:
        kind, asks = "SUB", f"tag {', '.join(map(repr, options.zmq_subscribe))}"
    encrypted = options.zmq_server_key is not None or options.zmq_own_key is not None
    addresses = ", ".join(options.zmq_input)
    return Arrival(source=addresses, kind=kind, asks=asks, bound=options.zmq_bind, encrypted=encrypted)


def _gentle(options: Options) -> Options:
    """The options with which nobody else loses a frame, as far as the source allows that."""
    if options.asapo_endpoint is None:
        return replace(options, zmq_requests=1, zmq_receivers=0)  # an answer more than needed is lost
    group = f"{options.asapo_group}-check-{uuid.uuid4().hex[:8]}"
    return replace(options, asapo_group=group, asapo_acks=False, asapo_readers=1)


class Receiver:
    """Takes frames one by one; a context that closes the source.

    Parameters
    ----------
    options
        Of the run; `no_data_timeout` is the longest wait for a message.
    size
        Bytes of the largest message.

    Attributes
    ----------
    arrival
        What is known of the source so far.
    """

    def __init__(self, options: Options, size: int) -> None:
        self.options, self.arrival = options, described(options)
        self._size = size
        self._series: tuple[memoryview, ...] = ()
        self._source = open_source(_gentle(options))
        self._poller = zmq.Poller()
        self._slots: Slots | None = None
        self._begun, self._n_refused = 0.0, 0

    def __enter__(self) -> "Receiver":
        self._begun = time.monotonic()
        if isinstance(self._source, Keeper):
            check_service(self.options)
            start_forkserver([])
            self._slots = Slots(LENT, self._size)
            self._source.attach(self._slots, self._size)
        self._source.open(self._poller)
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        if self._slots is not None:
            stop_forkserver()

    def frames(self, most: int) -> Iterator[Message]:
        """Up to *most* frames; fewer if the source ends, is silent for too long, or sends no frames."""
        last, limit = self._begun, self.options.no_data_timeout or 0.0
        while self.arrival.n_frame < most and self._n_refused < MOST_REFUSED:
            if self._source.ended() or time.monotonic() - last > limit:
                break
            message = self._next()
            if message is None:
                continue
            yield message
            last = time.monotonic()
        self.arrival = replace(self.arrival, waited=time.monotonic() - self._begun)

    def _next(self) -> Message | None:
        """The frame that comes in a turn, if there is one."""
        if isinstance(self._source, Keeper):
            return self._lent(self._source)
        taken, place = self._turn()
        return None if taken is None else self._message(taken, place)

    def _lent(self, source: Keeper) -> Message | None:
        """The same where the source fills slots; the message is copied, for the slot is used again."""
        assert self._slots is not None
        while source.n_wanted() > 0 and (slot := self._slots.take()) is not None:
            source.lend(slot)
        source.notice(dict(self._poller.poll(POLL_MS)))
        now = time.monotonic() - self._begun
        if self.arrival.connected is None:
            self.arrival = replace(self.arrival, connected=now)
        filled = source.filled()
        if filled is None:
            return None
        slot, taken = filled
        if taken.rejected is not None:
            return self._message(taken, memoryview(b""))
        place = memoryview(bytearray(self._slots[slot][: offsets(taken.sizes)[-1]]))
        source.done(slot)
        self._slots.give_back(slot)
        self.arrival = replace(
            self.arrival, n_frame=self.arrival.n_frame + 1, first=self.arrival.first or now
        )
        assert taken.origin is not None
        values, data = parts_in(place, taken.sizes)
        return Message(
            serial=taken.origin[1], filename=taken.filename, event=taken.event, data=data,
            stream=taken.origin[0], values=values,
        )  # fmt: skip

    def _turn(self) -> tuple[Taken | None, memoryview]:
        """Ask, wait, take a message if there is one, and note when connection and messages came."""
        source, place = self._source, memoryview(b"")
        source.ask(1)
        source.notice(dict(self._poller.poll(0 if source.ready() else POLL_MS)))
        now = time.monotonic() - self._begun
        if self.arrival.connected is None and source.connected():
            self.arrival = replace(self.arrival, connected=now)
        if not source.ready():
            return None, place
        place = np.empty(self._size, np.uint8).data
        taken = source.take(place)
        if taken is not None and self.arrival.first is None:
            self.arrival = replace(self.arrival, first=now)
        return taken, place

    def _message(self, taken: Taken, place: memoryview) -> Message | None:
        """The message, if it is a frame; one that begins a series is kept for those that follow."""
        parts = parts_in(place, taken.sizes)
        if taken.rejected is not None:
            self.arrival = replace(self.arrival, refused=taken.rejected)
            self._n_refused += 1
            return None
        if taken.role in (START, END):
            self._series = parts if taken.role == START else self._series
            return None
        serial = self.arrival.n_frame + 1
        self.arrival = replace(self.arrival, n_frame=serial)
        return Message(
            serial=serial,
            filename=taken.filename,
            event=taken.event or f"//{serial}",
            data=parts[-1] if parts else memoryview(b""),
            parts=parts if len(parts) > 1 else (),
            series=self._series,
        )


def silence(options: Options, arrival: Arrival) -> Arrival:
    """What can be found out about a source that sent no frame."""
    if arrival.kind == ASAPO:
        return replace(arrival, streams=streams_of(options))
    if arrival.kind == "files" or arrival.refused is not None or options.zmq_bind:
        return arrival
    if arrival.connected is not None:
        return replace(arrival, heard=_heard(options)) if arrival.kind == "SUB" else arrival
    return replace(arrival, neighbours=tuple((a, knock(a)) for a in options.zmq_input))


def _heard(options: Options) -> bytes | None:
    """The beginning of any message that is published, with its tag."""
    wiring = read_wiring(options.zmq_bind, options.zmq_own_key, options.zmq_server_key)
    poller = zmq.Poller()
    with zmq.Context() as context:
        link = Link(context, poller, zmq.SUB, options.zmq_input, 1, wiring)
        try:
            link.socket.subscribe(b"")
            if not link.socket.poll(int(1e3 * LISTEN)):
                return None
            first: bytes = link.socket.recv_multipart()[0]
            return first[:HEARD]
        finally:
            link.close()
