# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream that was begun by an earlier run: where its last whole chunk ends, and what is in it.

For the main process, so it reads no more of a chunk than which frame it is.
"""

import mmap
from dataclasses import dataclass, field
from pathlib import Path

from gpuidx.errors import StreamError
from gpuidx.flow.seen import Seen
from gpuidx.stream.layout import GEOMETRY_END
from gpuidx.stream.scan import Names, end_of_head, geometry_in, names_in, whole_chunks

ONLY_EVENT = "//"


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
                for place in whole_chunks(text, earlier.size):
                    _add(earlier, names_in(text, place), place.end)
    except FileNotFoundError:
        return earlier
    except (OSError, ValueError) as error:
        raise StreamError(f"{path}: cannot be read, to go on with it: {error}") from error
    return earlier


def _end_of_head(text: mmap.mmap, head: bytes, path: str) -> int:
    """Where the chunks begin, in a stream whose geometry is that of *head*; 0 if there are none."""
    end = end_of_head(text)
    old = text[:end]
    if geometry_in(old) != geometry_in(head):
        if end == len(text) and GEOMETRY_END.encode() not in old and head.startswith(old.split(b"\n")[0]):
            return 0
        raise StreamError(f"{path}: --resume: this stream was made with another geometry, or is none")
    return end if end < len(text) else 0


def _add(earlier: Earlier, names: Names, end: int) -> None:
    earlier.size, earlier.n_chunk = end, earlier.n_chunk + 1
    serial = int(names.serial) if names.serial.isdecimal() else None
    if serial is not None and names.stream:
        earlier.messages.add(*message_key(names.stream, serial, names.event))
        return
    earlier.frames.add((names.filename, names.event))
    if serial is not None:
        earlier.last_serial = max(serial, earlier.last_serial or 0)


def message_key(stream: str, number: int, event: str) -> tuple[str, int]:
    """Under which a frame of a message is remembered: `ONLY_EVENT` is that of a message with one frame."""
    return (stream if event == ONLY_EVENT else f"{stream}{event}"), number
