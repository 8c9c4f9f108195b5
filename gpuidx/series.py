# SPDX-License-Identifier: GPL-3.0-or-later
"""Which series of frames each connection to the senders is at, and where the messages lie that began them.

With several requests under way (REQ) the first answer of a series may overtake the last of the series before.
So a frame belongs to the series of which its own connection was told last.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from gpuidx.flow.slots import Slots
from gpuidx.tasks import SERIES_AT_A_TIME, parts_in

FEW_SLOTS = 4
"""With so many slots or fewer there is only room for one."""


class Series(NamedTuple):
    """Its number, 0 for none; the slot of the message that began it, and the bytes of that one's parts."""

    number: int
    slot: int
    sizes: tuple[int, ...]


NO_SERIES = Series(0, 0, ())


class SeriesBegun:
    """The series that have begun.

    Parameters
    ----------
    slots
        In which messages lie.
    hold, release
        Told of a slot that must stay as it is, and need not any more.
    """

    def __init__(self, slots: Slots, hold: Callable[[int], None], release: Callable[[int], None]) -> None:
        self._slots, self._hold, self._release = slots, hold, release
        self._most = SERIES_AT_A_TIME if slots.count > FEW_SLOTS else 1
        self._count = 0
        self._kept: list[Series] = []
        self._by_connection: dict[int, Series] = {}

    def of(self, connection: int) -> Series:
        """The series that frames of a connection belong to now."""
        return self._by_connection.get(connection, NO_SERIES)

    def begin(self, connection: int, slot: int, sizes: tuple[int, ...]) -> None:
        """The message in *slot* begins a series on a connection; others may know the same one already."""
        self._hold(slot)
        known = next((one for one in self._kept if self._are_same(one, slot, sizes)), None)
        if known is None:
            self._count += 1
            known = Series(self._count, slot, sizes)
            self._kept.append(known)
        else:
            self._release(slot)
        self._by_connection[connection] = known
        for old in [one for one in self._kept if one not in self._by_connection.values()]:
            self._forget(old)
        if len(self._kept) > self._most:
            self._forget(self._kept[0])

    def _forget(self, series: Series) -> None:
        self._kept.remove(series)
        self._by_connection = {c: one for c, one in self._by_connection.items() if one is not series}
        self._release(series.slot)

    def _are_same(self, series: Series, slot: int, sizes: tuple[int, ...]) -> bool:
        one, other = (parts_in(self._slots[place], sizes) for place in (series.slot, slot))
        as_array = partial(np.frombuffer, dtype=np.uint8)
        return series.sizes == sizes and all(map(np.array_equal, map(as_array, one), map(as_array, other)))
