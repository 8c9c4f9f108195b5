# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams that several processes have written of one source, joined: each frame once, as it was written.

Chunks are copied as bytes, one at a time.  What is kept in memory is which frames are there: a bit for a
message of ASAP::O, some hundred bytes for any other frame.
"""

import fcntl
import hashlib
import logging
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gpuidx.errors import InputFileError
from gpuidx.flow.output import Output
from gpuidx.flow.seen import Seen
from gpuidx.model import STREAMED
from gpuidx.stream.layout import EVENT, FORMAT_LINE, GEOMETRY_END, SERIAL
from gpuidx.stream.resume import message_key
from gpuidx.stream.scan import Names, Place, cell_in, end_of_head, geometry_in, names_in, whole_chunks

log = logging.getLogger(__name__)

_DIGEST_BYTES = 16
_Name = tuple[str, int] | tuple[str, ...]
"""A message of ASAP::O, or any words."""
_BEGINS = FORMAT_LINE.rpartition(".")[0].encode()


@dataclass(slots=True)
class Merged:
    """What became of the chunks of all parts.

    Attributes
    ----------
    written, duplicates
        Chunks that are in the merged stream, and those left out since their frame was there already.
    nameless
        Of those written, frames of which nothing says which they are.
    torn
        Parts with bytes that are no whole chunk.
    """

    written: int = 0
    duplicates: int = 0
    nameless: int = 0
    torn: int = 0


class _Late(NamedTuple):
    """A chunk that says only that its frame was lost: it waits, for another part may have done the frame."""

    path: str
    place: Place
    names: Names


def common_head(paths: Sequence[str], force: bool = False) -> tuple[bytes, list[str]]:
    """The head of the first part, and which parts have one at all.

    Parameters
    ----------
    paths
        Of the parts.  One that is empty, ends within its head, or was named before, is passed over with a
        warning.
    force
        Parts may have another geometry or target cell than the first.

    Raises
    ------
    InputFileError
        If a part cannot be read, is no stream, has another geometry or cell, or if all are empty.
    """
    common, first, usable = b"", "", []
    for number, path in enumerate(paths):
        if any(Path(path).exists() and Path(path).samefile(other) for other in paths[:number]):
            log.warning("%s: named before: taken once", path)
            continue
        with _opened(path) as text:
            head = b"" if text is None else text[: end_of_head(text)]
        if GEOMETRY_END.encode() not in head:
            if not _BEGINS.startswith(head[: len(_BEGINS)]):
                raise InputFileError(path, None, "this is no CrystFEL stream")
            log.warning("%s: nothing in it yet: left out", path)
            continue
        usable.append(path)
        if not first:
            common, first = head, path
            continue
        for what, of in (("geometry", geometry_in), ("target cell", cell_in)):
            if of(head) != of(common) and not force:
                raise InputFileError(
                    path, None, f"the {what} is another one than in {first}; --force joins them nevertheless"
                )
    if not usable:
        raise InputFileError(paths[0], None, "no part holds a stream; nothing to join")
    return common, usable


@contextmanager
def _opened(path: str) -> Iterator[mmap.mmap | None]:
    """The bytes of a part as they are now; None of an empty one.

    Raises
    ------
    InputFileError
        If it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            if file.seek(0, 2) == 0:
                yield None
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield text
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputFileError(path, None, f"cannot be read: {reason}") from error


def is_being_written(path: str) -> bool:
    """Whether a run holds this file; not every file system can tell."""
    try:
        with Path(path).open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class _Taken:
    """A set of names that stays small: a bit for a message, a digest for any other."""

    def __init__(self) -> None:
        self._messages = Seen()
        self._others: set[bytes] = set()

    def add(self, name: _Name) -> None:
        if isinstance(name[-1], int):
            self._messages.add(name[0], name[-1])
        else:
            self._others.add(_digest(name))

    def __contains__(self, name: _Name) -> bool:
        if isinstance(name[-1], int):
            return (name[0], name[-1]) in self._messages
        return _digest(name) in self._others


def _digest(name: _Name) -> bytes:
    return hashlib.blake2b(repr(name).encode(), digest_size=_DIGEST_BYTES).digest()


class Merger:
    """Writes the chunks of parts to a stream, each frame once.

    Parameters
    ----------
    output
        Holds the head already.
    by
        Names of copied header values that tell frames apart; empty: what the chunks say of their source.
    """

    def __init__(self, output: Output, by: Sequence[str] = ()) -> None:
        self.merged = Merged()
        self._output, self._by = output, tuple(by)
        self._taken = _Taken()
        self._late: list[_Late] = []

    def add(self, path: str) -> None:
        """Take the frames of a part that are not there yet.

        Raises
        ------
        InputFileError, StreamError
            If it cannot be read, or the merged stream not be written.
        """
        if is_being_written(path):
            log.warning("%s: a run is still writing it; taken as it is now", path)
        with _opened(path) as text:
            if text is None:
                return
            at = end_of_head(text)
            missing = 0
            for place in whole_chunks(text, at):
                missing += place.begin - at
                at = place.end
                names = names_in(text, place)
                if names.lost:
                    self._late.append(_Late(path, place, names))
                else:
                    self._take(text, place, names)
            missing += len(text) - at
        if missing:
            self.merged.torn += 1
            log.warning("%s: %d bytes are no whole chunk: left out", path, missing)

    def finish(self) -> Merged:
        """Write the frames that no part has done; gives the counts.

        Raises
        ------
        InputFileError, StreamError
            As `add`.
        """
        for late in self._late:
            with _opened(late.path) as text:
                if text is not None:
                    self._take(text, late.place, late.names)
        self._late.clear()
        return self.merged

    def _take(self, text: mmap.mmap, place: Place, names: Names) -> None:
        if not self._is_new(names):
            self.merged.duplicates += 1
            return
        chunk = text[place.begin : place.end]
        if not names.stream:
            chunk = _renumbered(chunk, names, self.merged.written + 1)
        self._output.write(chunk)
        self.merged.written += 1

    def _is_new(self, names: Names) -> bool:
        """Whether no frame was taken before that has the first of these names; always so without any.

        All are remembered: where a frame was lost, its chunk has fewer of them.
        """
        known_by = self._known_by(names)
        if not known_by:
            self.merged.nameless += 1
            return True
        is_new = known_by[0] not in self._taken
        for name in known_by:
            self._taken.add(name)
        return is_new

    def _known_by(self, names: Names) -> list[_Name]:
        """What tells a frame from others, what counts most first."""
        found: list[_Name] = []
        if self._by and all(header in names.headers for header in self._by):
            found.append(tuple(names.headers[header] for header in self._by))
        if names.stream and names.serial.isdecimal():
            found.append(message_key(names.stream, int(names.serial), names.event))
        elif names.source_id:
            found.append(("source", names.source_id))
        elif names.filename and names.filename != STREAMED:
            found.append(("file", names.filename, names.event))
        return found


def _renumbered(chunk: bytes, names: Names, serial: int) -> bytes:
    """A chunk with a serial number of its own, and the event that is made of it.

    Each process counts from 1, and CrystFEL's programs find a frame again by its filename and event.
    """
    chunk = chunk.replace(f"\n{SERIAL}{names.serial}\n".encode(), f"\n{SERIAL}{serial}\n".encode(), 1)
    if names.filename != STREAMED or names.event != f"//{names.serial}":
        return chunk
    return chunk.replace(f"\n{EVENT}{names.event}\n".encode(), f"\n{EVENT}//{serial}\n".encode(), 1)
