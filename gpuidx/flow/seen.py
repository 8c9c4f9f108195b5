# SPDX-License-Identifier: GPL-3.0-or-later
"""Which messages of a stream were done, a bit for each: a run of days has tens of millions."""

_BITS = 16
_MASK = (1 << _BITS) - 1


class Seen:
    """A set of pairs of stream and id (from 0); what was added stays."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], bytearray] = {}
        self._count = 0

    def add(self, stream: str, number: int) -> None:
        """Add a message."""
        if (stream, number) in self:
            return
        page = self._pages.setdefault((stream, number >> _BITS), bytearray(1 << (_BITS - 3)))
        page[(number & _MASK) >> 3] |= 1 << (number & 7)
        self._count += 1

    def __contains__(self, message: tuple[str, int]) -> bool:
        stream, number = message
        page = self._pages.get((stream, number >> _BITS))
        return page is not None and bool(page[(number & _MASK) >> 3] >> (number & 7) & 1)

    def __len__(self) -> int:
        return self._count
