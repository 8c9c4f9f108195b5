# SPDX-License-Identifier: GPL-3.0-or-later
"""HDF5 messages with the same structure as earlier ones, which HDF5 need not open.

Messages of one sender differ in their values, in the length of compressed pixels, and in the addresses of
what lies behind these.  All else that HDF5 reads to find a data set are the same bytes, and from the same
bytes follows the same.  So these bytes are kept, with what HDF5 said, and compared:

- values of data sets are left out, for HDF5 does not read them to find them;
- the size of a chunk is taken from the B-tree (version 1), `HDF5 File Format Specification 3.0, III.A.1`;
- what lies behind a chunk is displaced as its size says, and so are addresses that point there.  Where these
  stand is seen from two messages with chunks of different size.

Two messages in a row must agree before a structure is used, so that a damaged one cannot be taken for it.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from gpuidx.formats.hdf5_datasets import DataSet, Entry, Group, Stretch

SIGNATURE = b"\x89HDF\r\n\x1a\n"

MOST_BYTES = 1 << 16
"""Of a structure; a file that needs more of them is left to HDF5."""

GROUP = "a group"

Facts = dict[str, dict[Any, Any] | str | None]
"""By path: those of data sets, `GROUP`, or None."""

Span = tuple[int, int]
"""Where bytes begin, and where they end."""

_BEGIN = SIGNATURE + b"\0"  # superblock of version 0
_SIZES = slice(13, 15)  # bytes of addresses and of lengths
_BASE = slice(24, 32)
_END = 40  # where the superblock says where the file ends
_U64, _U32 = struct.Struct("<Q"), struct.Struct("<I")


class Kept(NamedTuple):
    """Bytes of a structure: where they begin, what they are, and where in them addresses stand."""

    begin: int
    data: bytes
    addresses: tuple[int, ...] = ()


class Sized(NamedTuple):
    """A chunk whose size may change: of which data set, and where its size stands."""

    path: str
    corner: tuple[int, ...]
    stretch: Stretch
    at: int


@dataclass(frozen=True)
class Displacement:
    """How far things lie from where they lay in the message of a structure.

    Attributes
    ----------
    steps
        Where chunks lay, and by how much they are longer.
    """

    steps: tuple[tuple[int, int], ...] = ()

    def of(self, place: int) -> int:
        """Where a place of that message is now."""
        return place + sum(longer for begin, longer in self.steps if begin < place)


@dataclass(frozen=True)
class Structure:
    """What HDF5 read of a message, and what it said.

    Attributes
    ----------
    kept
        The bytes.
    facts
        Of everything that was asked for.
    sized
        Chunks, in order of their places.
    """

    kept: tuple[Kept, ...]
    facts: Facts
    sized: tuple[Sized, ...]

    @cached_property
    def _places(self) -> dict[str, dict[Any, Any]]:
        """Of each data set the facts that say where something lies."""
        return {
            path: {
                name: fact
                for name, fact in known.items()
                if isinstance(fact, Stretch) or (name == "offset" and fact is not None)
            }
            for path, known in self.facts.items()
            if isinstance(known, dict)
        }

    def facts_of(self, message: memoryview) -> Facts | None:
        """What HDF5 would say of a message; None if its structure is another one."""
        moved = self._displacement(message)
        if moved is None:
            return None
        for begin, data, addresses in self.kept:
            at = moved.of(begin)
            if at < 0 or bytes(message[at : at + len(data)]) != _readdressed(data, addresses, moved):
                return None
        return self._said(message, moved)

    def adapted(self, message: memoryview) -> "Structure | None":
        """The same, with the addresses that another message displaces; None if that has another structure."""
        moved = self._displacement(message)
        if moved is None:
            return None
        kept = []
        for begin, data, addresses in self.kept:
            at = moved.of(begin)
            found = _addresses(data, bytes(message[at : at + len(data)]), moved)
            if found is None:
                return None
            kept.append(Kept(begin, data, tuple(sorted({*addresses, *found}))))
        return replace(self, kept=tuple(kept))

    def _displacement(self, message: memoryview) -> Displacement | None:
        """How far things lie from where they lay, if the message can be one of this structure."""
        if len(message) < _END + _U64.size or _U64.unpack_from(message, _END)[0] > len(message):
            return None
        moved = Displacement()
        for sized in self.sized:
            at = moved.of(sized.at)
            if not 0 <= at <= len(message) - _U32.size:
                return None
            longer = _U32.unpack_from(message, at)[0] - sized.stretch.size
            moved = Displacement((*moved.steps, (sized.stretch.offset, longer)))
        return moved

    def _said(self, message: memoryview, moved: Displacement) -> Facts:
        said: Facts = {
            path: known | {name: _displaced(fact, moved) for name, fact in self._places[path].items()}
            if isinstance(known, dict)
            else known
            for path, known in self.facts.items()
        }
        steps = iter(moved.steps)
        for path, corner, stretch, _ in self.sized:
            known = said[path]
            assert isinstance(known, dict)
            known[corner] = known[corner]._replace(size=stretch.size + next(steps)[1])
        return said


def _displaced(place: Any, moved: Displacement) -> Any:
    """The place of a chunk, or of values, in a message in which things lie elsewhere."""
    if isinstance(place, Stretch):
        return place._replace(offset=moved.of(place.offset))
    return moved.of(place)


def _readdressed(data: bytes, addresses: Sequence[int], moved: Displacement) -> bytes | bytearray:
    """Bytes with the addresses in them displaced."""
    if not addresses:
        return data
    changed = bytearray(data)
    for at in addresses:
        _U64.pack_into(changed, at, moved.of(_U64.unpack_from(data, at)[0]) % (1 << 64))
    return changed


def _addresses(data: bytes, other: bytes, moved: Displacement) -> list[int] | None:
    """Where bytes have addresses that are displaced in others; None if these differ in another way."""
    found: list[int] = []
    at = 0
    while data[at:] != other[at:]:
        if len(data) != len(other):
            return None
        first = next(i for i in range(at, len(data)) if data[i] != other[i])
        for begin in range(max(at, first - _U64.size + 1), min(first, len(data) - _U64.size) + 1):
            if moved.of(_U64.unpack_from(data, begin)[0]) == _U64.unpack_from(other, begin)[0]:
                found.append(begin)
                at = begin + _U64.size
                break
        else:
            return None
    return found


def structure_of(message: memoryview, reads: Iterable[Span], found: Mapping[str, Entry]) -> Structure | None:
    """The structure of a message; None if others cannot be compared with it.

    Parameters
    ----------
    message
        That HDF5 has understood.
    reads
        Where HDF5 read of it.
    found
        What was asked for, by path.
    """
    spans = _without(reads, [(_END, _END + _U64.size)])
    if (
        bytes(message[: len(_BEGIN)]) != _BEGIN
        or bytes(message[_SIZES]) != b"\x08\x08"
        or any(message[_BASE])
        or sum(end - begin for begin, end in spans) > MOST_BYTES
    ):
        return None
    facts = _facts(found)
    spans = _without(spans, [span for known in facts.values() for span in _values(known)])
    sized = [
        Sized(path, corner, stretch, at)
        for path, known in facts.items()
        if isinstance(known, dict)
        for corner, stretch in known.items()
        if isinstance(stretch, Stretch) and (at := _size_at(message, spans, corner, stretch))
    ]
    sized.sort(key=lambda one: one.stretch.offset)
    if any(one.at > one.stretch.offset for one in sized):
        sized = []  # the size would say where it stands
    spans = _without(spans, [(one.at, one.at + _U32.size) for one in sized])
    kept = tuple(Kept(begin, bytes(message[begin:end])) for begin, end in spans)
    return Structure(kept, facts, tuple(sized))


def _facts(found: Mapping[str, Entry]) -> Facts:
    return {
        path: dict(one.facts) if isinstance(one, DataSet) else GROUP if isinstance(one, Group) else None
        for path, one in found.items()
    }


def _entry(known: dict[Any, Any] | str | None) -> Entry:
    """The contrary of `_facts`."""
    return DataSet(None, known) if isinstance(known, dict) else None if known is None else Group(None)


def _values(known: dict[Any, Any] | str | None) -> list[Span]:
    """Where the values of a data set lie, as far as that is known."""
    if not isinstance(known, dict):
        return []
    spans = [(one.offset, one.offset + one.size) for one in known.values() if isinstance(one, Stretch)]
    if known.get("offset") is not None and known.get("shape") is not None:
        size = math.prod(known["shape"]) * known["dtype"].itemsize
        spans.append((known["offset"], known["offset"] + size))
    return spans


def _size_at(
    message: memoryview, spans: Iterable[Span], corner: tuple[int, ...], stretch: Stretch
) -> int | None:
    """Where a B-tree says the size of a chunk, by what stands behind it; None if that is not clear."""
    behind = _U32.pack(stretch.mask) + b"".join(map(_U64.pack, (*corner, 0, stretch.offset)))
    wanted = _U32.pack(stretch.size) + behind
    places = []
    for begin, end in spans:
        part = bytes(message[begin:end])
        at = part.find(wanted)
        while at >= 0:
            places.append(begin + at)
            at = part.find(wanted, at + 1)
    return places[0] if len(places) == 1 else None


def _without(spans: Iterable[Span], holes: Sequence[Span]) -> list[Span]:
    """What is left of spans, in order and joined."""
    spans = list(spans)
    edges = sorted({edge for span in (*spans, *holes) for edge in span})
    left: list[Span] = []
    for begin, end in pairwise(edges):
        if any(b <= begin < e for b, e in holes) or not any(b <= begin < e for b, e in spans):
            continue
        if left and left[-1][1] == begin:
            left[-1] = left[-1][0], end
        else:
            left.append((begin, end))
    return left


class Known:
    """The structure that the last messages had."""

    def __init__(self) -> None:
        self._structure: Structure | None = None
        self._candidate: Structure | None = None

    def find(self, message: memoryview) -> dict[str, Entry] | None:
        """What is in a message, by path; None if its structure is not known."""
        facts = self._structure.facts_of(message) if self._structure is not None else None
        if facts is None:
            return None
        return {path: _entry(known) for path, known in facts.items()}

    def learn(self, message: memoryview, reads: Iterable[Span], found: Mapping[str, Entry]) -> None:
        """Take note of what HDF5 said of a message; parameters as those of `structure_of`."""
        better = self._candidate.adapted(message) if self._candidate is not None else None
        if better is not None and better.facts_of(message) == _facts(found):
            self._structure = self._candidate = better
        else:
            self._candidate = structure_of(message, reads, found)
