# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole chunks of a stream as bytes: where each lies, and which frame it is; no number is read.

For streams of any size: they are looked at as they lie in the file.  `reader` reads what is in chunks.
"""

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from gpuidx.stream.layout import (
    CELL_BEGIN,
    CELL_END,
    CHUNK_BEGIN,
    CHUNK_END,
    EVENT,
    FILENAME,
    GEOMETRY_BEGIN,
    GEOMETRY_END,
    LOST,
    SERIAL,
    SOURCE_ID,
    STREAM_NAME,
)

_BEGIN, _END = f"\n{CHUNK_BEGIN}\n".encode(), f"\n{CHUNK_END}\n".encode()
_LAST_OF_NAMES = b"\nnum_peaks = "
_PREFIXES = {
    "filename": FILENAME,
    "event": EVENT,
    "serial": SERIAL,
    "stream": f"{STREAM_NAME} = ",
    "source_id": f"{SOURCE_ID} = ",
    "lost": f"{LOST} = ",
}
_HEADER = "header/"


class Place(NamedTuple):
    """Where a chunk lies in the file, its markers included."""

    begin: int
    end: int


class Names(NamedTuple):
    """What a chunk says of the frame that it is; empty where it says nothing.

    Attributes
    ----------
    filename, event, serial
        As printed.
    stream
        Of ASAP::O, in which the serial number is the message's.
    source_id
        Series and number of the image.
    lost
        Why there is nothing else in the chunk.
    headers
        Copied header values by name, as printed.
    """

    filename: str = ""
    event: str = ""
    serial: str = ""
    stream: str = ""
    source_id: str = ""
    lost: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)


def end_of_head(text: mmap) -> int:
    """Where the first chunk begins; the end of the file if there is none."""
    first = text.find(_BEGIN)
    return first + 1 if first >= 0 else len(text)


def geometry_in(head: bytes) -> bytes:
    """The geometry in a head, and the line in front of it; nothing if there is none."""
    return _between(head, GEOMETRY_BEGIN, GEOMETRY_END)


def cell_in(head: bytes) -> bytes:
    """The target cell in a head, and the line in front of it; nothing if there is none."""
    return _between(head, CELL_BEGIN, CELL_END)


def _between(head: bytes, first: str, last: str) -> bytes:
    begin, end = head.find(first.encode()), head.find(last.encode())
    return head[begin:end] if 0 <= begin < end else b""


def whole_chunks(text: mmap, begin: int) -> Iterator[Place]:
    """Each chunk from *begin* on that has its end; what was begun and not ended is passed over."""
    at = begin - 1
    while (at := text.find(_BEGIN, at)) >= 0:
        end = text.find(_END, at)
        if end < 0:
            return
        at = text.rfind(_BEGIN, at, end)  # the last one begun: those before it never ended
        yield Place(at + 1, end + len(_END))
        at = end + len(_END) - 1


def names_in(text: mmap, place: Place) -> Names:
    """Which frame a chunk is."""
    stop = text.find(_LAST_OF_NAMES, *place)
    lines = text[place.begin : place.end if stop < 0 else stop].decode("utf-8", "surrogateescape").split("\n")
    found: dict[str, str] = {}
    headers: dict[str, str] = {}
    for line in lines:
        if line.startswith(_HEADER):
            name, _, value = line.partition(" = ")
            headers[name.split("/", 2)[-1]] = value
            continue
        for field, prefix in _PREFIXES.items():
            if field not in found and line.startswith(prefix):
                found[field] = line[len(prefix) :]
    return Names(**found, headers=headers)
