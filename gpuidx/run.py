# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process: receive, hand out, collect, write, count.  Decodes nothing.

One thread, one wait for sockets and children together.  The order of a turn is in `Run.turn`.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import zmq

from gpuidx import __version__
from gpuidx.cell import UnitCell, read_cell
from gpuidx.errors import GeometryError, GpuidxError, OptionError, SourceError
from gpuidx.flow.accounts import CRASHED, DROPPED, REJECTED, Accounts
from gpuidx.flow.children import Answer, Crash, Pool
from gpuidx.flow.forkserver import start_forkserver, stop_forkserver
from gpuidx.flow.output import Output
from gpuidx.flow.platform import allow_open_files
from gpuidx.flow.slots import Slots
from gpuidx.flow.stop import Stop, interruptible
from gpuidx.geometry import Geometry, read_geometry
from gpuidx.geometry.streaming import check_mask_files, streaming_problems
from gpuidx.options import Options
from gpuidx.selection import decide
from gpuidx.sources import open_source
from gpuidx.sources.contract import Source
from gpuidx.sources.files import check_list
from gpuidx.status import Status
from gpuidx.stream.head import head_bytes

log = logging.getLogger(__name__)

STAGES = ("decode", "search and trials", "refine and check", "integrate", "write")
"""Stages that workers time, in the order of the pipeline."""

POLL_MS = 100
"""Longest wait of a turn, ms; the children's time limits are looked at as often."""

MOST_A_TURN = 256
"""Messages received in a turn; then it is the workers' turn, however fast the sender is."""

LATE_ANSWERS = 3.0
"""Seconds that answers under way are waited for after a stop."""

MOST_LINES = 20
"""Lines printed for one reason of rejection; further frames are only counted."""

SMALLEST_SLOT = 4 << 20
"""Bytes of a slot for small messages; the chunk of a frame must fit too."""


class Answered(NamedTuple):
    """What a worker answers for a frame, after its serial."""

    state: str
    reason: str
    detail: str
    n_byte: int
    n_peak: int
    n_candidate: int
    n_crystal: int
    notes: Sequence[tuple[str, int]]


def run(options: Options, argv: Sequence[str]) -> int:
    """Do a whole run; gives the exit code.

    Raises
    ------
    GpuidxError
        With what ended the run; its `exit_code` is that of the program.
    """
    source = open_source(options)
    geometry = read_geometry(options.geometry)
    cell = read_cell(options.pdb) if options.pdb else None
    _check_inputs(options, geometry, cell)
    choice = decide(options)
    _announce(options, geometry, cell)
    for line in (*choice.warnings, choice.line):
        log.info("%s", line)
    try:
        with interruptible():
            start_forkserver(["gpuidx.warm"])
            with Run(options, argv, geometry, cell, source) as running:
                return running.loop()
    finally:
        stop_forkserver()


def slot_bytes(options: Options, geometry: Geometry) -> int:
    """Bytes of a slot: four a pixel and room for the other values, unless the user says more."""
    if options.slot_size:
        return int(options.slot_size * 1e6)
    if options.zmq_input is None or not options.image_data:
        return SMALLEST_SLOT
    return SMALLEST_SLOT + 4 * geometry.slab_shape[0] * geometry.slab_shape[1]


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
    """

    def __init__(
        self,
        options: Options,
        argv: Sequence[str],
        geometry: Geometry,
        cell: UnitCell | None,
        source: Source,
    ) -> None:
        self.options = options
        self.accounts = Accounts(options.serial_start)
        self.status = Status(options.status_interval, options.advise_after, options.does_index)
        self.stop = Stop()
        self.poller = zmq.Poller()
        self.source = source
        self.notes: Counter[str] = Counter()
        self._arrived: dict[int, float] = {}
        self._last_arrival = time.monotonic()
        self._said: Counter[tuple[str, str]] = Counter()
        self._source_stopped = False
        self._closing = ExitStack()
        with ExitStack() as closing:
            head = head_bytes(__version__, argv, geometry, cell, options.indexing)
            self.slots = Slots(options.slots or 4 + 4 * options.jobs, slot_bytes(options, geometry))
            closing.callback(self.slots.close)
            self.output = Output(options.output, head)  # overwrites: only after all that may fail
            closing.callback(self.output.close)
            stages = {stage: column for column, stage in enumerate(STAGES)}
            self.pool = Pool(
                "gpuidx.worker:work",
                options.jobs,
                (self.slots, stages, options, geometry, cell),
                task_limit=options.task_limit,
                counters=len(STAGES),
                debug=options.debug,
            )
            closing.callback(self._close_children)
            self._closing = closing.pop_all()

    def __enter__(self) -> "Run":
        options = self.options
        allow_open_files(100 + 2 * options.jobs + 5 * options.zmq_requests)
        with self._closing:
            with _patience():
                self.pool.open(self.poller)
            self.stop.install(self.poller)
            self._closing.callback(self.stop.remove)
            self._closing.callback(self.source.close)
            self.source.open(self.poller)
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _close_children(self) -> None:
        self.pool.close(now=self.stop.level > 1)

    def loop(self) -> int:
        """Take turns until the run has ended; gives the exit code."""
        self._last_arrival = time.monotonic()
        try:
            while not self._finished():
                self.turn()
        except GpuidxError:
            self.accounts.finish_all(DROPPED, "the run failed")
            self._conclude()
            raise
        self.accounts.finish_all(DROPPED, "stopped")  # nothing is in flight but after a second signal
        self._conclude()
        if not self.accounts.received and not self.stop.since:
            raise SourceError("no data came from the source")
        return 0

    def _conclude(self) -> None:
        self.accounts.check()
        for line in self.status.final_lines(self.accounts, self.notes + Counter(self.source.notes)):
            log.info("%s", line)
        if self.options.profile:
            self._print_profile()

    def turn(self) -> None:
        """Ask, wait, receive, hand out, collect: one round of everything."""
        self._ask()
        events = dict(self.poller.poll(POLL_MS))
        self.stop.notice(events)
        self.source.notice(events)
        self._receive()
        self.pool.hand_out()
        self._collect(events)
        self._report()

    def _remaining(self) -> int:
        """Messages that may still be received."""
        limit = self.options.max_frames
        return self.slots.count if limit is None else limit - self.accounts.received

    def _ask(self) -> None:
        if self._remaining() <= 0:
            self.stop.request()
        if self.stop.level and not self._source_stopped:
            self._source_stopped = True
            self.source.stop()
            if self._remaining() > 0:
                log.info("stopping: finishing the %d frames that were received", self.accounts.in_flight)
        if not self._source_stopped:
            self.source.ask(min(self.slots.n_free, self._remaining()))

    def _receive(self) -> None:
        for _ in range(MOST_A_TURN):
            if self._remaining() <= 0 or not self.source.ready():
                return
            slot = self.slots.take()
            if slot is None:
                if not self.source.drop():
                    return
                self.accounts.finish(self.accounts.receive(), DROPPED, "no free slot")
                continue
            if not self._take(slot):
                self.slots.give_back(slot)
                return

    def _take(self, slot: int) -> bool:
        """Take one message into *slot* and hand both on; False if there was none."""
        taken = self.source.take(self.slots[slot])
        if taken is None:
            return False
        serial = self.accounts.receive()
        self._last_arrival = time.monotonic()
        if taken.rejected is not None:
            self.slots.give_back(slot)
            self._end(serial, REJECTED, *taken.rejected)
        else:
            self._arrived[serial] = self._last_arrival
            self.pool.give((serial, slot, taken.size, taken.filename, taken.event or f"//{serial}"))
        return True

    def _collect(self, events: Mapping[Any, int]) -> None:
        for ended in self.pool.collect(events):
            serial, slot = ended.task[:2]
            if isinstance(ended, Crash):
                self._end(serial, CRASHED, ended.reason, ended.detail)
            else:
                self._finish(serial, slot, ended)
            self.slots.give_back(slot)

    def _finish(self, serial: int, slot: int, answer: Answer) -> None:
        """Write the chunk, then count the frame."""
        values = Answered(*answer.values)
        if values.n_byte:
            self.output.write(self.slots[slot][: values.n_byte])
        for text, n in values.notes:
            if text not in self.notes:
                log.warning("frame %d: %s (further ones are counted only)", serial, text)
            self.notes[text] += n
        self.status.tally.add(values.n_peak, values.n_candidate, values.n_crystal)
        self._end(serial, values.state, values.reason, values.detail)

    def _end(self, serial: int, state: str, reason: str = "", detail: str = "") -> None:
        self.accounts.finish(serial, state, reason)
        if serial in self._arrived:
            self.status.finished(time.monotonic() - self._arrived.pop(serial))
        if state in (REJECTED, CRASHED):
            self._tell(serial, state, reason, detail)

    def _tell(self, serial: int, state: str, reason: str, detail: str) -> None:
        self._said[state, reason] += 1
        n = self._said[state, reason]
        if n <= MOST_LINES or self.options.debug:
            what = "rejected" if state == REJECTED else "lost with its worker"
            log.warning("frame %d %s: %s", serial, what, f"{reason}: {detail}" if detail else reason)
            if n == MOST_LINES and not self.options.debug:
                log.warning("further frames %s for this reason (%s) are counted only", what, reason)

    def _report(self) -> None:
        if self.status.due():
            self.accounts.check()
            queues = {
                "messages": 1 - self.slots.n_free / self.slots.count,
                "workers": min(1.0, self.pool.n_task / (self.pool.depth * self.pool.count)),
            }
            for line in self.status.lines(self.accounts, queues):
                log.info("%s", line)

    def _finished(self) -> bool:
        if self.stop.level > 1:
            return True
        if self.accounts.in_flight:
            return False
        if self.stop.level == 1:
            waited = time.monotonic() - self.stop.since
            return self._remaining() <= 0 or not self.source.pending() or waited > LATE_ANSWERS
        if self.source.ended():
            return True
        limit = self.options.no_data_timeout
        if limit is not None and time.monotonic() - self._last_arrival > limit:
            log.info("nothing has come for %g s: ending (--no-data-timeout)", limit)
            return True
        return False

    def _print_profile(self) -> None:
        """Where the time went: wall-clock time of the workers by stage, CPU time of this process."""
        frames = max(self.accounts.processed, 1)
        print(f"{'stage':24s} {'ms a frame':>10s} {'total s':>9s}")
        for column, stage in enumerate(STAGES):
            seconds = self.pool.counter(column) / 1e9
            print(f"{stage:24s} {1e3 * seconds / frames:10.3f} {seconds:9.2f}")
        seconds = time.process_time()
        print(f"{'main process (CPU)':24s} {1e3 * seconds / frames:10.3f} {seconds:9.2f}")


def _check_inputs(options: Options, geometry: Geometry, cell: UnitCell | None) -> None:
    """See what the options and the files together cannot do.

    Raises
    ------
    OptionError, GeometryError, SourceError
        Before anything is opened.
    """
    if options.input is not None:
        check_list(options.input)
    check_mask_files(geometry, read_masks=options.mask_data)
    if options.zmq_input is not None:
        wanted = {"read_masks": options.mask_data, "read_images": options.image_data}
        for problem in streaming_problems(geometry, **wanted):
            raise GeometryError(geometry.file, None, problem)
    if options.peaks == "msgpack" and not geometry.peak_list:
        raise GeometryError(geometry.file, None, "--peaks=msgpack needs 'peak_list = KEY' here")
    if options.does_index and (cell is None or cell.parameters is None):
        raise OptionError(f"{options.pdb} has no cell parameters; indexing needs them (or --indexing=none)")


def _announce(options: Options, geometry: Geometry, cell: UnitCell | None) -> None:
    log.info("gpuidx %s", __version__)
    for warning in (*geometry.warnings, *(cell.warnings if cell else ())):
        log.warning("%s", warning)
    if options.engine_names:
        names = ", ".join(options.engine_names)
        log.info("--indexing=%s: gpuidx has one engine of its own, which is used instead", names)


@contextmanager
def _patience() -> Iterator[None]:
    """Tell the user, if starting takes long, what the wait is for."""
    text = "compiling for this machine, once (a minute or two); 'gpuidx warmup' does it ahead"
    timer = threading.Timer(3.0, log.info, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
