# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process: receive, collect, write, count, hand out.  Decodes nothing.

One thread, one wait for sockets and children together.  The order of a turn is in `Run.turn`.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import zmq

from gpuidx import __version__
from gpuidx.cell import UnitCell, read_cell
from gpuidx.device_pool import DevicePool
from gpuidx.errors import GpuidxError, SourceError
from gpuidx.flow.accounts import CRASHED, DROPPED
from gpuidx.flow.children import Answer, Crash, Pool
from gpuidx.flow.forkserver import start_forkserver, stop_forkserver
from gpuidx.flow.pace import Pace
from gpuidx.flow.placement import ANYWHERE, Placement
from gpuidx.flow.platform import allow_open_files, using_cpus
from gpuidx.flow.slots import Slots
from gpuidx.flow.stop import Stop, interruptible
from gpuidx.geometry import Geometry, read_geometry
from gpuidx.harvest import write_harvest
from gpuidx.intake import Intake
from gpuidx.options import PARTS_VARIABLE, Options
from gpuidx.proposal import CellSearch
from gpuidx.record import Answered, Record
from gpuidx.route import Route
from gpuidx.selection import decide
from gpuidx.sources.asapo.hits import COUNTERS, SentHits
from gpuidx.sources.contract import LATE_ANSWERS, Source
from gpuidx.sources.opening import open_source
from gpuidx.sources.request import FILES_EACH
from gpuidx.start import (
    COMPILING,
    PREPARING,
    announce,
    check_inputs,
    devices_for,
    frame_slots,
    message_bytes,
    patience,
    placement,
    slot_bytes,
    slot_count,
)
from gpuidx.status import profile_lines
from gpuidx.stream.head import head_bytes
from gpuidx.tasks import SEVERAL, Task

log = logging.getLogger(__name__)

STAGES = ("decode", "search and trials", "refine and check", "integrate", "write")
"""Stages that workers time, in the order of the pipeline."""

WORKER, WORKER_WITH_DEVICE = "gpuidx.worker:work", "gpuidx.worker:work_with_device"
"""What runs in a worker."""

DEPTH, DEPTH_WITH_DEVICE = 2, 8
"""Tasks that a worker has at most: with a device, where most of them are short, enough for the longest pause
between turns; else none is to wait behind a long one while another worker is idle."""

POLL_MS = 100
"""Longest wait of a turn, ms; the children's time limits are looked at as often."""

LATE_WORD = 10.0
"""Seconds after the last frame of a stopped run in which a service is told what is done."""


def run(options: Options, argv: Sequence[str]) -> int:
    """Do a whole run; gives the exit code.

    Parameters
    ----------
    options
        With token and rank, if they are needed (`gpuidx.options.with_token`, `with_rank`).
    argv
        The command line, for the head of the stream.

    Raises
    ------
    GpuidxError
        With what ended the run; its `exit_code` is that of the program.
    """
    source = open_source(options)
    geometry = read_geometry(options.geometry)
    cell = read_cell(options.pdb) if options.pdb else None
    check_inputs(options, geometry, cell)
    choice = decide(options)
    placed = placement(options, choice)
    announce(options, geometry, cell, choice, placed)
    write_harvest(options, geometry, cell)
    try:
        with interruptible():
            has_cell = cell is not None and cell.parameters is not None
            os.environ[PARTS_VARIABLE] = ",".join(options.optional_parts(has_cell))
            start_forkserver(["gpuidx.warm"])
            devices = devices_for(options, choice)
            with (  # slots are in the memory of the node where they are made
                using_cpus(placed.main),
                Run(options, argv, geometry, cell, source, devices, placed) as running,
            ):
                return running.loop()
    finally:
        stop_forkserver()


class Run:
    """Everything that lives as long as the run; a context that closes it all.

    Parameters
    ----------
    options, geometry, cell
        Of the run.
    argv
        The command line, for the head of the stream.
    source
        Where the messages come from; not yet opened.
    devices
        Numbers of the CUDA devices to use.
    placed
        The CPUs of each process.
    """

    def __init__(
        self,
        options: Options,
        argv: Sequence[str],
        geometry: Geometry,
        cell: UnitCell | None,
        source: Source,
        devices: tuple[int, ...] = (),
        placed: Placement = ANYWHERE,
    ) -> None:
        self.options = options
        self.record = Record(options)
        self.accounts = self.record.accounts
        self.stop = Stop()
        self.poller = zmq.Poller()
        self.source = source
        self._source_stopped = False
        self._pace = Pace()
        self._closing = ExitStack()
        with ExitStack() as closing:
            self.cell_search = CellSearch(options, cell)
            head = head_bytes(__version__, argv, geometry, cell, options.indexing)
            size = slot_bytes(options, geometry, len(devices))
            self.slots = Slots(slot_count(options, len(devices), size), size)
            closing.callback(self.slots.close)
            earlier = self.record.open(head)  # overwrites: only after all that may fail
            self._n_earlier = earlier.n_chunk
            closing.callback(self.record.close)
            columns = {name: column for column, name in enumerate((*STAGES, *COUNTERS))}
            self.pool = Pool(
                WORKER_WITH_DEVICE if devices else WORKER,
                options.jobs,
                (self.slots, columns, options, geometry, cell),
                depth=DEPTH_WITH_DEVICE if devices else DEPTH,
                batch=DEPTH_WITH_DEVICE if devices else 1,
                task_limit=options.task_limit,
                counters=len(columns),
                debug=options.debug,
                cpus=placed.workers,
            )
            self.sent_hits = SentHits(lambda name: self.pool.counter(columns[name]))
            self.work: Pool | Route = self.pool
            self.devices: DevicePool | None = None
            if devices:
                args = (self.slots, options, geometry, cell, devices)
                self.devices = DevicePool(options, len(devices), args, placed.devices)
                self.work = Route(self.pool, self.devices)
            self.intake = Intake(
                source, self.slots, self.record, self.work.give, message_bytes(options, geometry),
                frame_slots(options), lambda: self.cell_search.for_workers, options.max_frames,
            )  # fmt: skip
            if options.resume:
                source.skip(earlier.frames, earlier.messages)
            closing.callback(self._close_children)
            self._closing = closing.pop_all()

    def __enter__(self) -> "Run":
        options = self.options
        allow_open_files(100 + 2 * options.jobs + FILES_EACH * options.zmq_requests)
        with self._closing:
            with patience(COMPILING):
                self.pool.open(self.poller)
            if self.devices is not None:
                with patience(PREPARING):
                    self._open(self.devices)
            self.stop.install(self.poller)
            self._closing.callback(self.stop.remove)
            self._closing.callback(self.source.close)
            self.source.open(self.poller)
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _open(self, devices: DevicePool) -> None:
        """Wait for a device before there are messages that would have to wait for it, or be dropped."""
        devices.open(self.poller)
        while not (devices.is_ready or devices.is_lost):
            events = dict(self.poller.poll(POLL_MS))
            self.pool.collect(events)
            devices.collect(events)

    def _close_children(self) -> None:
        now = self.stop.level > 1
        if self.devices is not None:
            self.devices.close(now)
        self.pool.close(now)

    def loop(self) -> int:
        """Take turns until the run has ended; gives the exit code."""
        self.intake.last_arrival = time.monotonic()
        try:
            while not self._finished():
                self.turn()
        except GpuidxError:
            with suppress(GpuidxError):
                self._tell()
            self.intake.drop_waiting("the run failed")
            self.accounts.finish_all(DROPPED, "the run failed")
            self._conclude()
            raise
        self.intake.drop_waiting("stopped")
        self.accounts.finish_all(DROPPED, "stopped")  # nothing is in flight but after a second signal
        self._conclude()
        if not (self.accounts.received or self.stop.since or self._n_earlier):
            raise SourceError("no data came from the source")
        return 0

    def _tell(self) -> None:
        """Have a service told of what is done, after an error."""
        self.source.stop()
        end = time.monotonic() + LATE_WORD
        while self.intake.n_untold and time.monotonic() < end:
            self.source.notice(dict(self.poller.poll(POLL_MS)))

    def _conclude(self) -> None:
        self.sent_hits.wait(lambda: self.stop.level > 1)
        notes = Counter(self.source.notes) + self.sent_hits.notes()
        if self.devices is not None:
            notes += self.devices.notes
        self.record.conclude(notes)
        self.cell_search.conclude()
        if self.options.profile:
            stages = {stage: self.pool.counter(column) / 1e9 for column, stage in enumerate(STAGES)}
            print(*profile_lines(stages, self.accounts), sep="\n")

    def turn(self) -> None:
        """Ask, rest, wait, receive, collect, hand out: one round of everything."""
        self._ask()
        self._pace.rest(self.accounts.in_flight)
        events = dict(self.poller.poll(POLL_MS))
        self.stop.notice(events)
        self.source.notice(events)
        self.intake.expand()
        self.intake.receive()
        self._collect(events)
        self.work.hand_out()
        self._report()

    def _ask(self) -> None:
        if not self.intake.remaining:
            self.stop.request()
        if self.stop.level and not self._source_stopped:
            self._source_stopped = True
            self.source.stop()
            if self.intake.remaining:
                log.info("stopping: finishing the %d frames that were received", self.accounts.in_flight)
        if not self._source_stopped:
            self.intake.lend()
            self.source.ask(min(self.intake.n_free, self.intake.remaining))

    def _collect(self, events: Mapping[Any, int]) -> None:
        for ended in self.work.collect(events):
            task = Task(*ended.task[: len(Task._fields)])
            if isinstance(ended, Answer) and ended.values[0] == SEVERAL:
                self.intake.several(task, ended.values[1])
                continue
            if isinstance(ended, Crash):
                if self.intake.once_more(task, ended):
                    continue
                self.record.end(task.serial, CRASHED, ended.reason, ended.detail)
            else:
                answered = Answered(*ended.values)
                self.record.finish(task.serial, self.slots[task.slot], answered)
                self.cell_search.add(answered.cells)
            self.intake.ended(task)

    def _report(self) -> None:
        if self.record.is_due():
            self.sent_hits.warn()
            queues = {
                "messages": 1 - (self.slots.n_free + self.intake.n_lent) / self.slots.count,
                "workers": min(1.0, self.pool.n_task / (self.pool.depth * self.pool.count)),
            }
            use = None
            if self.devices is not None:
                queues["device"], use = self.devices.load(), self.devices.use()
            self.record.report(queues, use)

    def _finished(self) -> bool:
        if self.stop.level > 1:
            return True
        if self.accounts.in_flight or self.intake.n_waiting:
            return False
        if self.stop.level == 1:
            waited = time.monotonic() - self.stop.since
            late = time.monotonic() - max(self.stop.since, self.intake.last_end)
            if self.intake.n_untold and late < LATE_WORD:
                return False
            return not self.intake.remaining or not self.source.pending() or waited > LATE_ANSWERS
        if self.source.ended():
            return True
        limit = None if self.intake.minds_silence else self.options.no_data_timeout
        if limit is not None and time.monotonic() - self.intake.last_arrival > limit:
            log.info("nothing has come for %g s: ending (--no-data-timeout)", limit)
            return True
        return False
