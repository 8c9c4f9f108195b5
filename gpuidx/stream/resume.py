# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream that was begun by an earlier run: where its last whole chunk ends, and what is in it.

For the main process, so it reads only the first lines of a chunk; CrystFEL's markers tell where it ends.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpuidx.errors import StreamError
from gpuidx.flow.seen import Seen
from gpuidx.stream.layout import (
    CHUNK_BEGIN,
    CHUNK_END,
    EVENT,
    FILENAME,
    GEOMETRY_BEGIN,
    GEOMETRY_END,
    SERIAL,
    STREAM_NAME,
)

ONLY_EVENT = "//"

_BEGIN, _END = f"\n{CHUNK_BEGIN}\n".encode(), f"\n{CHUNK_END}\n".encode()
_FIRST_LINES = 8
"""Lines at the beginning of a chunk that say which frame it is."""


@dataclass(slots=True)
class Earlier:
    """What is in a stream.

    Attributes
    ----------
    size
        Bytes up to the end of the last whole chunk.
    n_chunk
        Number of whole chunks.
    last_serial
        Highest serial number; None without chunks.
    frames
        Image filename and event of each chunk, but for those from ASAP::O.
    messages
        Stream and id of each chunk from ASAP::O; of one of several frames in a message its event is added to
        the stream's name.
    """

    size: int = 0
    n_chunk: int = 0
    last_serial: int | None = None
    frames: set[tuple[str, str]] = field(default_factory=set)
    messages: Seen = field(default_factory=Seen)


def read_earlier(path: str, head: bytes) -> Earlier:
    """What an earlier run has left in a file.

    Parameters
    ----------
    path
        Of the stream; there may be none, or an empty one.
    head
        Of the new run: the geometry must be the same.

    Raises
    ------
    StreamError
        If the file cannot be read, is no stream, or was made with another geometry.
    """
    earlier = Earlier()
    try:
        with Path(path).open("rb") as file:
            if file.seek(0, 2) == 0:
                return earlier
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                earlier.size = _end_of_head(text, head, path)
                for lines, end in _chunks(text, earlier.size):
                    _add(earlier, lines, end)
    except FileNotFoundError:
        return earlier
    except (OSError, ValueError) as error:
        raise StreamError(f"{path}: cannot be read, to go on with it: {error}") from error
    return earlier


def _end_of_head(text: mmap.mmap, head: bytes, path: str) -> int:
    """Where the chunks begin, in a stream whose geometry is that of *head*; 0 if there are none."""
    first = text.find(_BEGIN)
    old = text[: first + 1] if first >= 0 else text[:]
    if _geometry(old) != _geometry(head):
        if first < 0 and GEOMETRY_END.encode() not in old and head.startswith(old.split(b"\n")[0]):
            return 0
        raise StreamError(f"{path}: --resume: this stream was made with another geometry, or is none")
    return first + 1


def _geometry(head: bytes) -> bytes:
    begin, end = head.find(GEOMETRY_BEGIN.encode()), head.find(GEOMETRY_END.encode())
    return head[begin:end] if 0 <= begin < end else b""


def _chunks(text: mmap.mmap, begin: int) -> Iterator[tuple[list[bytes], int]]:
    """The first lines of each whole chunk, and where it ends."""
    at = begin - 1
    while (at := text.find(_BEGIN, at)) >= 0:
        end = text.find(_END, at)
        if end < 0:
            return
        lines, here = [], at + len(_BEGIN)
        for _ in range(_FIRST_LINES):
            stop = text.find(b"\n", here, end + 1)
            if stop < 0:
                break
            lines.append(text[here:stop])
            here = stop + 1
        at = end + len(_END) - 1
        yield lines, at + 1


def _add(earlier: Earlier, lines: list[bytes], end: int) -> None:
    filename = event = stream = ""
    serial = None
    for raw in lines:
        line = raw.decode("utf-8", "surrogateescape")
        if line.startswith(FILENAME):
            filename = line[len(FILENAME) :]
        elif line.startswith(EVENT):
            event = line[len(EVENT) :]
        elif line.startswith(SERIAL) and line[len(SERIAL) :].isdecimal():
            serial = int(line[len(SERIAL) :])
        elif line.startswith(f"{STREAM_NAME} = "):
            stream = line.partition(" = ")[2]
    earlier.size, earlier.n_chunk = end, earlier.n_chunk + 1
    if serial is not None and stream:
        earlier.messages.add(*message_key(stream, serial, event))
        return
    earlier.frames.add((filename, event))
    if serial is not None:
        earlier.last_serial = max(serial, earlier.last_serial or 0)


def message_key(stream: str, number: int, event: str) -> tuple[str, int]:
    """Under which a frame of a message is remembered: `ONLY_EVENT` is that of a message with one frame."""
    return (stream if event == ONLY_EVENT else f"{stream}{event}"), number
