# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that have ended: the chunk into the stream, the state into the accounts, the loss to the user."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from gpuidx.errors import StreamError
from gpuidx.flow.accounts import CRASHED, REJECTED, Accounts
from gpuidx.flow.children import Crash
from gpuidx.flow.output import Output, put_aside
from gpuidx.model import RECOGNISED
from gpuidx.options import Options
from gpuidx.status import DeviceUse, Status
from gpuidx.stream.lost import lost_chunk
from gpuidx.stream.resume import Earlier, read_earlier
from gpuidx.tasks import Task, parts_in

log = logging.getLogger(__name__)

MOST_LINES = 20
"""Lines printed for one reason of rejection; further frames are only counted."""


class Answered(NamedTuple):
    """What a worker answers for a frame, after its serial.

    *cells* are the parameters of the crystals' reduced cells, where there is no target cell; *n_record* bytes
    of records for alignment of the detector lie right behind the *n_byte* of the chunk.
    """

    state: str
    reason: str
    detail: str
    n_byte: int
    n_peak: int
    n_candidate: int
    n_crystal: int
    notes: Sequence[tuple[str, int]]
    cells: Sequence[Sequence[float]] = ()
    n_record: int = 0


class Record:
    """The stream, the accounts and the status of a run.

    Parameters
    ----------
    options
        Of the run.

    Attributes
    ----------
    accounts
        Of the frames; whoever receives one counts it there.
    notes
        Counts what was ignored without harm.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.accounts = Accounts(options.serial_start)
        self.status = Status(options.status_interval, options.advise_after, options.does_index)
        self.notes: Counter[str] = Counter()
        self._output: Output | None = None
        self._records: Output | None = None
        self._arrived: dict[int, float] = {}
        self._said: Counter[tuple[str, str]] = Counter()
        self._recognised: set[str] = set()

    def open(self, head: bytes) -> Earlier:
        """Begin the stream with its *head*, or go on with it; gives what is in it already.

        The file of ``--mille`` goes with it.

        Raises
        ------
        StreamError
            If one cannot be written, or is a file that no run has written.
        """
        earlier = read_earlier(self.options.output, head) if self.options.resume else Earlier()
        self._output = Output(self.options.output, head, keep=earlier.size)
        if self.options.mille:
            self._records = open_records(self.options.mille_dir, self.options.mille_file, earlier.size > 0)
        if earlier.size:
            log.info("%s: going on behind %d chunks", self.options.output, earlier.n_chunk)
        if earlier.last_serial is not None:
            self.accounts.serial_start = max(self.accounts.serial_start, earlier.last_serial + 1)
        return earlier

    def close(self) -> None:
        """Have stream and records on the disk, and close them.

        Raises
        ------
        StreamError
            If not all could be written.
        """
        with ExitStack() as closing:
            for output in (self._output, self._records):
                if output is not None:
                    closing.callback(output.close)

    def arrived(self, serial: int, when: float) -> None:
        """Note when a frame came, by `time.monotonic`."""
        self._arrived[serial] = when

    def arrival(self, serial: int) -> float:
        """When a frame came that has not ended."""
        return self._arrived[serial]

    def finish(self, serial: int, place: memoryview, answered: Answered) -> None:
        """Write the chunk, which lies at the beginning of *place*, then its records; count the frame.

        Raises
        ------
        StreamError
            If one cannot be written.
        """
        if answered.n_byte:
            assert self._output is not None
            self._output.write(place[: answered.n_byte])
        if answered.n_record:
            assert self._records is not None
            self._records.write(place[answered.n_byte : answered.n_byte + answered.n_record])
        for text, n in answered.notes:
            if text.startswith(RECOGNISED):
                if text not in self._recognised:
                    log.info("%s", text)
                self._recognised.add(text)
                continue
            if text not in self.notes:
                log.warning("frame %d: %s (further ones are counted only)", serial, text)
            self.notes[text] += n
        self.status.tally.add(answered.n_peak, answered.n_candidate, answered.n_crystal)
        self.end(serial, answered.state, answered.reason, answered.detail)

    def end(self, serial: int, state: str, reason: str = "", detail: str = "") -> None:
        """Count a frame without a chunk."""
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

    def bury(self, task: Task, message: memoryview, crash: Crash) -> None:
        """Write an empty chunk for a frame at which workers die, and keep its message in a file.

        Raises
        ------
        StreamError
            If the chunk cannot be written.
        """
        assert self._output is not None
        stream, number = task.origin or ("", task.serial)
        why = f"{crash.reason} in each worker that had it"
        self._output.write(lost_chunk(task.filename, task.event, number, stream, why))
        name = put_aside(self.options.output, stream, number, parts_in(message, task.sizes)[-1])
        self.end(task.serial, CRASHED, crash.reason, f"{crash.detail} (message kept in {name})".strip())

    def is_due(self) -> bool:
        """Whether it is time for `report`."""
        return self.status.due()

    def report(self, queues: Mapping[str, float], use: DeviceUse | None) -> None:
        """Check the accounts and print the status; see `Status.lines`.

        Raises
        ------
        AccountsError
            If the accounts do not add up.
        """
        self.accounts.check()
        for line in self.status.lines(self.accounts, queues, use):
            log.info("%s", line)

    def conclude(self, notes: Mapping[str, int]) -> None:
        """Check the accounts and print the last status; *notes* are counts from elsewhere.

        Raises
        ------
        AccountsError
            If the accounts do not add up.
        """
        self.accounts.check()
        for line in self.status.final_lines(self.accounts, self.notes + Counter(notes)):
            log.info("%s", line)


def open_records(folder: str, name: str, go_on: bool = False) -> Output:
    """Begin the file of ``--mille``, in a folder that is made if need be, or go on behind its records.

    Raises
    ------
    StreamError
        If it cannot be written, or is a file of another kind.
    """
    path = Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        keep = whole_records(path.read_bytes()) if go_on and path.is_file() else 0
    except (OSError, ValueError) as error:
        raise StreamError(f"--mille-dir={folder}: cannot be made: {error}") from error
    return Output(str(path), keep=keep, is_ours=begins_with_record)


def whole_records(data: bytes) -> int:
    """Bytes of the records of Millepede-II that are there as a whole."""
    end = 0
    while begins_with_record(data[end : end + 8]):
        size = 4 + 4 * int.from_bytes(data[end : end + 4], sys.byteorder)
        if end + size > len(data):
            break
        end += size
    return end


def begins_with_record(begin: bytes) -> bool:
    """Whether a file of Millepede-II begins so: an even length, then a float that is 0."""
    return len(begin) >= 8 and int.from_bytes(begin[:4], sys.byteorder) % 2 == 0 and not any(begin[4:8])
