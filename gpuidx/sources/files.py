# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in files: a list of names, one per line, each perhaps with an event; the workers read the files.

A file of many frames named without an event stands for all its frames.  How many there are only the file
itself says, and the main process loads no HDF5 library: a helper (`expand`) is asked.
"""

import errno
import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from gpuidx.errors import SourceError
from gpuidx.flow.seen import Seen
from gpuidx.sources.contract import Taken
from gpuidx.sources.expand import Expander

AHEAD = 8
"""Lines that are read, and files that the helper is asked about, before they are needed."""

READ_SIZE = 1 << 16


@dataclass(slots=True)
class _Entry:
    """A line of the list: its file, and the events that are still to come; None until they are known."""

    filename: str
    events: Iterator[str] | None
    error: str = ""


def parse_line(line: str) -> tuple[str, str | None]:
    """File name and event of a line of the list, as CrystFEL 0.12: the event has ``//`` and no blank."""
    name, blank, event = line.rpartition(" ")
    return (name, event) if blank and "//" in event else (line, None)


def events_of(counts: Sequence[int]) -> Iterator[str]:
    """The events of a file with so many frames along each of its frame dimensions; ``//`` for none."""
    for index in itertools.product(*(range(count) for count in counts)):
        yield "//" + "/".join(map(str, index))


def check_list(listing: str) -> None:
    """See whether a list can be read, before anything else is begun.

    Raises
    ------
    SourceError
        If it cannot.
    """
    if listing == "-":
        return
    try:
        os.close(os.open(listing, os.O_RDONLY | os.O_NONBLOCK))
        if os.path.isdir(listing):  # noqa: PTH112  (never raises)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except (OSError, ValueError) as error:
        raise _unreadable(listing, error) from error


def _unreadable(listing: str, error: Exception) -> SourceError:
    why = getattr(error, "strerror", None) or str(error)
    return SourceError(f"{listing}: cannot read the list of files: {why}")


class Files:
    """A `Source` that names one frame after the other.

    Parameters
    ----------
    listing
        File with the names; ``-`` is the standard input, which is read as lines arrive.
    geometry
        Geometry file: it says which dimension of the data counts frames.
    """

    def __init__(self, listing: str, geometry: str) -> None:
        self.listing = listing
        self.notes: dict[str, int] = {}
        self._expander = Expander(geometry)
        self._entries: deque[_Entry] = deque()
        self._next: Taken | None = None
        self._fd = -1
        self._poller: zmq.Poller | None = None
        self._polled = False
        self._rest: bytes | None = None  # the line that has begun; None before the first bytes
        self._lines: deque[str] = deque()
        self._finished = self._stopped = False
        self._skipped: set[tuple[str, str]] = set()

    def skip(self, frames: set[tuple[str, str]], messages: Seen) -> None:
        """Leave these frames out."""
        self._skipped = frames

    def open(self, poller: zmq.Poller) -> None:
        """Open the list and start the helper.

        Raises
        ------
        SourceError
            If the list cannot be read, or is an image file instead of a list.
        """
        self._poller = poller
        try:
            self._fd = sys.stdin.fileno() if self.listing == "-" else os.open(self.listing, os.O_RDONLY)
            if self.listing != "-":
                self._read()
        except OSError as error:
            self.close()
            raise _unreadable(self.listing, error) from error
        except SourceError:
            self.close()
            raise
        self._expander.open(poller)

    def _read(self) -> None:
        """Read some more of the list."""
        data = os.read(self._fd, READ_SIZE)
        if self._rest is None:
            if data.startswith(b"\x89HDF\r\n\x1a\n"):
                raise SourceError(f"{self.listing} is an HDF5 file; --input takes a list of such files")
            if b"\0" in data:
                raise SourceError(f"{self.listing} is not text; --input takes a list of files, one per line")
        self._finished = not data
        lines = ((self._rest or b"") + data).split(b"\n")
        self._rest = b"" if self._finished else lines.pop()
        names = (os.fsdecode(line.rstrip(b"\r")).strip() for line in lines)
        self._lines.extend(name for name in names if name)

    def ask(self, free: int) -> None:
        """Read ahead in the list; how many slots are free is of no concern, since files wait."""
        if not self._stopped:
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Keep some lines at hand, and ask the helper about files without an event."""
        while len(self._entries) < AHEAD:
            while not self._lines and not self._finished and self.listing != "-":
                self._read()
            if not self._lines:
                break
            name, event = parse_line(self._lines.popleft())
            self._entries.append(_Entry(name, iter((event,)) if event is not None else None))
            if event is None:
                self._expander.ask(name)
        self._poll_input(self.listing == "-" and not self._finished and len(self._entries) < AHEAD)

    def _poll_input(self, wanted: bool) -> None:
        """Wait for standard input only while lines are wanted: a file there is always readable."""
        if wanted != self._polled and self._poller is not None:
            self._polled = wanted
            if wanted:
                self._poller.register(self._fd, zmq.POLLIN)
            else:
                self._poller.unregister(self._fd)

    def notice(self, events: Mapping[Any, int]) -> None:
        """Take lines from standard input, and answers of the helper."""
        if self._polled and self._fd in events:
            self._read()
            self._read_ahead()
        for counts, error in self._expander.notice(events):
            entry = next(e for e in self._entries if e.events is None)
            entry.events, entry.error = iter(("//",)) if error else events_of(counts), error

    def ready(self) -> bool:
        """Whether the next frame is known."""
        while self._next is None and not self._stopped:
            entry = self._entries[0] if self._entries else None
            if entry is None or entry.events is None:
                return False
            event = next(entry.events, None)
            if event is None:
                self._entries.popleft()
                self._read_ahead()
                continue
            if (entry.filename, event) in self._skipped:
                self.notes["frames of an earlier run"] = self.notes.get("frames of an earlier run", 0) + 1
                continue
            rejected = ("file cannot be read", entry.error) if entry.error else None
            self._next = Taken(sizes=(), filename=entry.filename, event=event, rejected=rejected)
        return not self._stopped

    def take(self, slot: memoryview) -> Taken | None:
        """Name the next frame; *slot* is left alone."""
        found = self._next if self.ready() else None
        self._next = None
        return found

    def drop(self) -> bool:
        """Do nothing: files wait."""
        return False

    def stop(self) -> None:
        """Name no further frame."""
        self._stopped = True
        self._poll_input(False)

    def pending(self) -> int:
        """Nothing is under way after a stop."""
        return 0

    def ended(self) -> bool:
        """Whether the list is at its end, or was stopped."""
        return self._stopped or (
            self._finished and not self._lines and not self._entries and self._next is None
        )

    def close(self) -> None:
        """Close the list and end the helper."""
        self._poll_input(False)
        self._expander.close()
        if self._fd >= 0 and self.listing != "-":
            os.close(self._fd)
        self._fd = -1
