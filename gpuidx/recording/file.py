# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a recording: MsgPack objects one after the other (docs/record.md).

The first is a map that describes the recording, every further one a message, ``[time, link, [part, ...]]``.
All numbers and lengths in front of the parts have their full width, so that a reader finds the parts where
they lie in the file, without a copy.  A file that was cut off is good up to its last whole message.
"""

import fcntl
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from gpuidx.errors import InputFileError, StreamError

FORMAT, VERSION = "gpuidx recording", 1

LONGEST_HEADER = 1 << 20
"""Bytes of the first object, at the most."""

_ARRAY_OF_3, _FLOAT64, _UINT32, _ARRAY16, _BIN32 = 0x93, 0xCB, 0xCE, 0xDC, 0xC6
_MESSAGE = struct.Struct(">BBdBIBH")
_PART = struct.Struct(">BI")
_MOST_BYTES = (1 << 32) - 1


class RecordedMessage(NamedTuple):
    """A message as it came.

    Attributes
    ----------
    time
        Of its arrival, s after the recording began.
    link
        Which of the recorded addresses it came from.
    parts
        All of them, tags too.
    """

    time: float
    link: int
    parts: tuple[memoryview, ...]


def header(description: Mapping[str, Any]) -> bytes:
    """The first object of a file: format and version, and what *description* says besides."""
    packed: bytes = msgpack.packb({"format": FORMAT, "version": VERSION, **description})
    return packed


def pieces(time: float, link: int, parts: Sequence[memoryview]) -> list[bytes | memoryview]:
    """What stands in the file for a message, in order; the parts themselves are not copied.

    Raises
    ------
    StreamError
        If a part is too large for the format.
    """
    head = _MESSAGE.pack(_ARRAY_OF_3, _FLOAT64, time, _UINT32, link, _ARRAY16, len(parts))
    written: list[bytes | memoryview] = [head]
    for part in parts:
        if len(part) > _MOST_BYTES:
            raise StreamError(f"a part of {len(part)} bytes; a recording holds parts of less than 4 GiB")
        written += (_PART.pack(_BIN32, len(part)), part)
    return written


class Recording:
    """A recording to read.

    Parameters
    ----------
    path
        Name as the user gave it.

    Attributes
    ----------
    header
        The first object of the file.
    n_cut_off
        Bytes behind the last whole message; known once all messages were read.

    Raises
    ------
    InputFileError
        If it cannot be read, is no recording, or is one that is being written.
    """

    def __init__(self, path: str) -> None:
        self.path, self.n_cut_off = path, 0
        try:
            with Path(path).open("rb") as file:
                _share(file.fileno(), path)
                # The map lives as long as the parts that were taken from it; it also keeps the lock.
                self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # ValueError: an empty file
            why = getattr(error, "strerror", None) or str(error)
            raise InputFileError(path, None, f"no recording can be read: {why}") from error
        self.header, self._begin = self._read_header()

    def _read_header(self) -> tuple[dict[str, Any], int]:
        unpacker = msgpack.Unpacker()
        unpacker.feed(self._data[:LONGEST_HEADER])
        try:
            first = unpacker.unpack()
        except (msgpack.exceptions.UnpackException, ValueError):
            first = None
        if not isinstance(first, dict) or first.get("format") != FORMAT:
            raise InputFileError(self.path, None, "this is no recording; 'gpuidx record' makes them")
        if first.get("version") != VERSION:
            raise InputFileError(
                self.path, None, f"a recording of version {first.get('version')!r:.40}; known is {VERSION}"
            )
        return first, unpacker.tell()

    def __iter__(self) -> Iterator[RecordedMessage]:
        """All whole messages; the parts lie in the file.

        Raises
        ------
        InputFileError
            If something else stands where a message should begin.
        """
        at = self._begin
        while (found := self._message_at(at)) is not None:
            message, at = found
            yield message
        self.n_cut_off = len(self._data) - at

    def _message_at(self, at: int) -> tuple[RecordedMessage, int] | None:
        """The message that begins there, and where the next one does; None behind the last whole one."""
        if (head := self._unpack(_MESSAGE, at)) is None:
            return None
        array, float64, time, uint32, link, array16, n_part = head
        if (array, float64, uint32, array16) != (_ARRAY_OF_3, _FLOAT64, _UINT32, _ARRAY16) or not n_part:
            raise InputFileError(self.path, None, f"damaged: no message begins at byte {at}")
        at += _MESSAGE.size
        parts = []
        for _ in range(n_part):
            if (head := self._unpack(_PART, at)) is None:
                return None
            kind, size = head
            if kind != _BIN32:
                raise InputFileError(self.path, None, f"damaged: no part of a message begins at byte {at}")
            at += _PART.size + size
            if at > len(self._data):
                return None
            parts.append(self._data[at - size : at])
        return RecordedMessage(time, link, tuple(parts)), at

    def _unpack(self, layout: struct.Struct, at: int) -> tuple[Any, ...] | None:
        return layout.unpack_from(self._data, at) if at + layout.size <= len(self._data) else None


def _share(fd: int, path: str) -> None:
    """See to it that nobody writes the file while it is read: a map of a file that shrinks is deadly."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputFileError(path, None, "another process is writing this file") from error
    except OSError:  # not every file system has locks
        return
