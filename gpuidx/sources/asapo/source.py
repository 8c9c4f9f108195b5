# SPDX-License-Identifier: GPL-3.0-or-later
"""Main's side of ASAP::O: slots to the readers, messages from them, word of what is done back to the service.

Nothing here waits or touches the network: that is the readers' (`gpuidx.sources.asapo.reader`).
With acknowledgements a message goes this way, and no other:

    given out ─► in work (its slot holds it) ─► done (its chunk is written) ─► acknowledged

One that the service gives out again while it is in work is left alone; one that is done is acknowledged once
more.  So a message comes to the stream once, however often answers, readers or connections are lost.
"""

import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import zmq

from gpuidx.flow.children import Answer, Ended, Pool
from gpuidx.flow.seen import Seen
from gpuidx.flow.slots import Slots
from gpuidx.secret import Secret
from gpuidx.sources.asapo import steps
from gpuidx.sources.asapo.ending import Ending
from gpuidx.sources.asapo.messages import Messages
from gpuidx.sources.asapo.outage import Outage
from gpuidx.sources.asapo.place import Where
from gpuidx.sources.asapo.steps import Step
from gpuidx.sources.contract import Keeper, Taken

log = logging.getLogger(__name__)

BODY = "gpuidx.sources.asapo.reader:read"

DEPTH = 2
"""Steps that a reader has: one that it is at, and the next."""

MOST_TOLD = 32
"""Messages acknowledged in one step."""

HANG, TIMEOUTS = 5.0, 10
"""A reader counts as hung after so many s, and so many of the service's timeouts: a step may have these."""


class Asapo(Keeper):
    """A `Keeper` for one stream, or for one after the other.

    Parameters
    ----------
    where, token
        Of the source.
    stream
        The first to read.
    patience
        s without any data, or with a service that does not answer, until the run ends.
    wait_for_stream
        A stream without a message may take as long as it wants.
    follow
        Go on with the next stream where one ends.
    readers
        Number of processes.
    """

    def __init__(
        self,
        where: Where,
        token: Secret,
        stream: str,
        *,
        patience: float = 60.0,
        wait_for_stream: bool = False,
        follow: bool = False,
        readers: int = 1,
    ) -> None:
        self.where, self.follow = where, follow
        self.notes: Counter[str] = Counter()
        self._token, self._n_reader = token, readers
        self._patience, self._waits = patience, wait_for_stream
        self._messages = Messages(where.acks)
        self._outage = Outage(where.endpoint, patience)
        self._deafness = Outage(where.endpoint, patience)  # to acknowledgements
        self._past: set[str] = set()
        self._ending = self._begin(stream)
        self._pool: Pool | None = None
        self._n_step = 0
        self._steps: dict[int, Step] = {}
        self._idle: deque[int] = deque()
        self._again: deque[int] = deque()
        self._filled: deque[tuple[int, Taken]] = deque()
        self._stopped = self._over = self._has_to_recall = False

    def _begin(self, stream: str) -> Ending:
        self._past.add(stream)
        self.stream = stream
        return Ending(self.where, stream, self._patience, self._waits, self.follow)

    def skip(self, frames: set[tuple[str, str]], messages: Seen) -> None:
        """Leave these messages out, but acknowledge them."""
        self._messages.skip(messages)
        self._has_to_recall = self.where.acks and len(messages) > 0

    def attach(self, slots: Slots, message_bytes: int) -> None:
        """Say where messages go, and how many bytes of a slot are theirs; before `open`."""
        self._pool = Pool(
            BODY, self._n_reader, (slots, self.where, self._token, message_bytes), depth=DEPTH,
            task_limit=HANG + TIMEOUTS * self.where.timeout / 1e3, name="ASAP::O reader",
        )  # fmt: skip

    def open(self, poller: zmq.Poller) -> None:
        """Start the readers."""
        assert self._pool is not None
        self._pool.open(poller)
        self._ending = self._begin(self.stream)

    # Slots, in the order in which they go through here.

    def n_wanted(self) -> int:
        """Slots that would be of use now."""
        if self._stopped or self._over:
            return 0
        return DEPTH * self._n_reader - len(self._idle) - self._n_fetch

    def lend(self, slot: int) -> None:
        """Have a message put into *slot*, sooner or later."""
        self._idle.append(slot)

    def filled(self) -> tuple[int, Taken] | None:
        """The next message that has come, and its slot; None if there is none."""
        return self._filled.popleft() if self._filled else None

    def done(self, slot: int) -> None:
        """Everything that belongs to the message in *slot* is in the file: tell the service."""
        self._messages.done(slot)

    def fetch_again(self, slot: int) -> None:
        """Have the message in *slot* put there once more."""
        self._again.append(slot)

    def has(self, slot: int, number: int) -> bool:
        """Whether frame *number* of the message in *slot* was done by an earlier run."""
        stream, message = self._messages.key_in(slot)
        return self._messages.has((f"{stream}//{number}", message))

    def untold(self) -> int:
        """Messages that are done and not yet acknowledged."""
        return self._messages.n_to_tell + sum(len(step.done) for step in self._steps.values())

    def pending(self) -> int:
        """Messages that may still come of what is under way."""
        return self._n_fetch + len(self._filled) + len(self._again)

    @property
    def _n_fetch(self) -> int:
        return sum(step.kind in (steps.FETCH, steps.REFETCH) for step in self._steps.values())

    # A turn of the run.

    def notice(self, events: Mapping[Any, int]) -> None:
        """Take the readers' answers, and give them what is next.

        Raises
        ------
        SourceError
            If the service refuses us, or does not answer for as long as silence may last.
        """
        assert self._pool is not None
        for ended in self._pool.collect(events):
            self._take(ended)
        if self._pool.restarts:
            self.notes["ASAP::O readers replaced"] = self._pool.restarts
        if failures := self._outage.count + self._deafness.count:
            self.notes["requests to ASAP::O that failed"] = failures
        self._outage.check()
        self._deafness.check()
        if not self._stopped and not self._over and self._ending.is_over(self._messages):
            self._go_on()
        while self._pool.room() > 0 and (step := self._next_step()) is not None:
            self._n_step += 1
            self._steps[self._n_step] = step
            self._pool.give((self._n_step, *step))
        self._pool.hand_out()  # also the steps that a reader which has died had not begun

    def _next_step(self) -> Step | None:
        if self._again:
            slot = self._again.popleft()
            stream, number = self._messages.key_in(slot)
            return Step(steps.REFETCH, stream, slot, number, self._messages.to_tell(MOST_TOLD))
        is_open = not self._stopped and not self._over
        if is_open and self._has_to_recall:
            self._has_to_recall = False
            return self._step(steps.RECALL)
        if is_open and (question := self._ending.question()) is not None:
            return self._step(question)
        if is_open and self._idle:
            return self._step(steps.FETCH, self._idle.popleft())
        return self._step(steps.TELL) if self._messages.n_to_tell else None

    def _step(self, kind: str, slot: int = steps.NO_SLOT) -> Step:
        return Step(kind, self.stream, slot, 0, self._messages.to_tell(MOST_TOLD))

    def _go_on(self) -> None:
        """The stream is over: go to the next, or end."""
        if self._ending.gaps:
            self.notes["messages that were never sent (gaps in the ids)"] += len(self._ending.gaps)
        if self.follow and self._ending.successor:
            self._ending = self._begin(self._ending.successor)
            log.info("reading stream %r", self.stream)
        else:
            self._over = True

    # What became of steps.

    def _take(self, ended: Ended) -> None:
        step = self._steps.pop(ended.task[0])
        if not isinstance(ended, Answer):
            self._messages.not_told(step.done)
            self._take_back(step)
            self._outage.note(f"a reader ended: {ended.reason} {ended.detail}".rstrip())
            self._ending.unsure()
            return
        told, outcome, *values = ended.values
        self._hear(step, steps.Told(*told))
        if outcome in steps.TROUBLES:
            self._outage.note(values[0], is_refusal=outcome == steps.DENIED)
        else:
            self._outage.over()
        if outcome in steps.MESSAGES:
            self._arrive(step, outcome, values)
        elif step.kind != steps.RECALL or outcome == steps.TROUBLE:
            self._take_back(step)
        elif outcome == steps.LEFT:
            self._messages.recall(step.stream, values[0])
        if step.stream == self.stream:
            self._learn(outcome, values)

    def _hear(self, step: Step, told: steps.Told) -> None:
        """What the service said to acknowledgements."""
        self._messages.not_told(told.left)
        if given_up := self._messages.refused(told.refused):
            self.notes["acknowledgements that ASAP::O refused"] += given_up
        if told.failure:
            self._deafness.note(f"{self.untold()} message(s) cannot be acknowledged: {told.failure}")
        elif step.done:
            self._deafness.over()

    def _arrive(self, step: Step, outcome: str, values: Sequence[Any]) -> None:
        number, name, what = values
        key = (step.stream, number)
        if step.kind == steps.FETCH and not self._messages.begin(key, step.slot):
            self.notes["messages that came once more"] += 1
            self._idle.append(step.slot)
            return
        self._ending.got()
        taken = Taken(
            sizes=tuple(what) if outcome == steps.GOT else (),
            filename=name,
            event="//",
            rejected=None if outcome == steps.GOT else (steps.REASONS[outcome], f"message {number}: {what}"),
            origin=key,
        )
        self._filled.append((step.slot, taken))

    def _take_back(self, step: Step) -> None:
        """A step has put nothing into its slot."""
        if step.kind == steps.FETCH:
            self._idle.append(step.slot)
        elif step.kind == steps.REFETCH:
            self._again.append(step.slot)
        elif step.kind == steps.RECALL:
            self._has_to_recall = True

    def _learn(self, outcome: str, values: Sequence[Any]) -> None:
        """What an outcome says of the end of the stream."""
        if outcome == steps.NOTHING:
            self._ending.nothing(values[0])
        elif outcome == steps.FINISHED:
            self._ending.finished(*values)
        elif outcome == steps.LEFT:
            self._ending.left(*values)
        elif outcome == steps.STREAMS:
            self._ending.streams(values[0], self._past)
        elif outcome in steps.TROUBLES:
            self._ending.unsure()

    # The end.

    def stop(self) -> None:
        """Fetch nothing more; what is under way may still come, and what is done is still told."""
        self._stopped = True

    def ended(self) -> bool:
        """Whether all streams are over."""
        return (self._stopped or self._over) and not self.pending() and not self.untold()

    def close(self) -> None:
        """End the readers; what they were not told yet is said."""
        if n := self.untold():
            log.warning("%d message(s) in the stream could not be acknowledged; they will be sent again", n)
        if self._pool is not None:
            self._pool.close()
            self._pool = None
