# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in files: a list of names, one per line, each perhaps with an event; the workers read the files.

A file of many frames named without an event stands for all its frames.  Which there are only the file itself
says, and the main process loads no HDF5 library: a helper (`expand`) is asked.  It is asked, too, whether
files are there that may be awaited.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from gpuidx.flow.seen import Seen
from gpuidx.sources.contract import Taken
from gpuidx.sources.expand import Answer, Expander, Question
from gpuidx.sources.listing import Listing, Naming, parse_line
from gpuidx.sources.waiting import Late, Waiting

AHEAD = 8
"""Lines that are read, and files that the helper is asked about, before they are needed."""

MOST_LATE = 100
"""Files that are waited for at the same time; then the list is read no further."""


@dataclass(slots=True, eq=False)
class _Entry(Late):
    """A line of the list: its file and event, and what is still to come of it; None until it is known."""

    event: str | None
    events: Iterator[str] | None = None
    error: str = ""


def events_of(frames: Sequence[tuple[str, Sequence[int]]]) -> Iterator[str]:
    """The events of a file with such frames (`Answer.frames`); ``//`` for one without paths and counts."""
    for paths, counts in frames:
        for index in itertools.product(*map(range, counts)):
            yield f"{paths}//{'/'.join(map(str, index))}"


class Files:
    """A `Source` that names one frame after the other.

    Parameters
    ----------
    listing
        File with the names; ``-`` is the standard input, which is read as lines arrive.
    geometry
        Geometry file: it says where frames are in a file.
    naming
        From the names in the list to those of the files.
    wait
        Seconds to wait for a file that is not there; 0: it is rejected; -1: for ever.
    """

    def __init__(self, listing: str, geometry: str, naming: Naming = Naming(), wait: int = 0) -> None:  # noqa: B008
        self.notes: dict[str, int] = {}
        self._naming = naming
        self._listing = Listing(listing)
        self._expander = Expander(geometry)
        self._waiting = Waiting(wait)
        self._entries: deque[_Entry] = deque()
        self._asked: deque[_Entry] = deque()
        self._there = ""  # the last file that was waited for, or could have been, and is there
        self._next: Taken | None = None
        self._stopped = False
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
        try:
            self._listing.open(poller)
        except BaseException:
            self.close()
            raise
        self._expander.open(poller)

    def ask(self, free: int) -> None:
        """Read ahead in the list; how many slots are free is of no concern, since files wait."""
        if not self._stopped:
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Look again for files that are late; keep some lines at hand, and ask about those that need it."""
        while len(self._asked) < AHEAD and (late := self._waiting.take_due()) is not None:
            assert isinstance(late, _Entry)
            self._ask_about(late)
        while self._has_room and (line := self._listing.next()) is not None:
            name, event = parse_line(line)
            entry = _Entry(self._naming(name), event)
            self._entries.append(entry)
            if event is None or (self._waiting.limit and entry.filename != self._there):
                self._ask_about(entry)
            else:
                entry.events = iter((event,))
        self._listing.want(self._has_room)

    @property
    def _has_room(self) -> bool:
        return len(self._entries) < AHEAD and len(self._waiting) + len(self._asked) < MOST_LATE

    def _ask_about(self, entry: _Entry) -> None:
        self._asked.append(entry)
        self._expander.ask(Question(entry.filename, entry.event, bool(self._waiting.limit)))

    def notice(self, events: Mapping[Any, int]) -> None:
        """Take lines from standard input, and answers of the helper."""
        if self._listing.notice(events):
            self._read_ahead()
        for answer in self._expander.notice(events):
            self._answered(self._asked.popleft(), answer)

    def _answered(self, entry: _Entry, answer: Answer) -> None:
        """Note what a line stands for; a file that is waited for lets the others pass."""
        was_late = entry.since is not None
        if self._waiting.keeps(entry, answer):
            if not was_late:
                self._entries.remove(entry)
            return
        if was_late:
            self._entries.appendleft(entry)
        if answer.absent:
            entry.error = f"{entry.filename}: not there after waiting for it (--wait-for-file)"
        else:
            entry.error = answer.error
        if entry.error:
            entry.events = iter((entry.event or "//",))
        else:
            self._there = entry.filename
            entry.events = iter((entry.event,)) if entry.event is not None else events_of(answer.frames)

    def connected(self) -> bool:
        """Nothing has to connect."""
        return True

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
        self._listing.want(False)

    def pending(self) -> int:
        """Nothing is under way after a stop."""
        return 0

    def ended(self) -> bool:
        """Whether the list is at its end, or was stopped."""
        left = self._entries or self._asked or len(self._waiting) or self._next is not None
        return self._stopped or (self._listing.ended() and not left)

    def close(self) -> None:
        """Close the list and end the helper."""
        self._listing.close()
        self._expander.close()
