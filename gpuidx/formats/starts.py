# SPDX-License-Identifier: GPL-3.0-or-later
"""What the message at the start of a series says of its frames, read once for all of them.

A frame goes on without it: with several readers only one is sent it, and who joins late never sees it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.planes import plane
from gpuidx.geometry import DataArray, Geometry
from gpuidx.model import PADDING, Message

VIRTUAL = 1 << 31
"""Bit of a pixel mask that says how a pixel got its value, not that it has none (NeXus, NXdetector)."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The start of a series, understood.

    Attributes
    ----------
    values
        Header values by name, the first map that has one is taken.
    series
        What tells the series from others, by key; empty if it does not say.
    unused
        Value of pixels without one, if the sender says.
    greatest
        Valid value of a pixel, if the sender says.
    masked : (ss, fs)
        Bad pixels of the slab by the sender's pixel mask; None without one.
    """

    values: tuple[Mapping[str, Any], ...] = ()
    series: Mapping[str, Any] = field(default_factory=dict)
    unused: int | None = None
    greatest: int | None = None
    masked: NDArray[np.bool_] | None = None


NO_START = Start()


class Starts:
    """Keeps what the last start message said.

    Parameters
    ----------
    read
        Understands the parts of a start message; may raise `Rejected`.
    notes
        Counts start messages that could not be read, and frames of another series.
    """

    def __init__(self, read: Callable[[Sequence[memoryview]], Start], notes: Counter[str]) -> None:
        self._read, self.notes = read, notes
        self._parts: tuple[memoryview, ...] = ()
        self._start = NO_START

    def of(self, message: Message, series: Mapping[str, Any]) -> Start:
        """The start of a frame's series; an empty one if none came, or only that of another series.

        Parameters
        ----------
        message
            The frame's.
        series
            What the frame says of its series, by the keys of `Start.series`.
        """
        if message.series is not self._parts:
            self._parts, self._start = message.series, self._understood(message.series)
        start = self._start
        if all(start.series[key] == value for key, value in series.items() if key in start.series):
            return start
        self.notes["frames of another series than the last start message"] += 1
        return NO_START

    def _understood(self, parts: Sequence[memoryview]) -> Start:
        if not parts:
            return NO_START
        try:
            return self._read((without_padding(parts[0]), *parts[1:]))
        except Rejected as rejected:
            self.notes[f"start messages that cannot be read: {rejected.reason}"] += 1
            return NO_START


def saturation(values: Mapping[str, Any]) -> int | None:
    """What a start message calls ``saturation_value``, above which no value is valid (as in NeXus)."""
    value = values.get("saturation_value")
    return value if type(value) is int and 0 < value < 1 << 64 else None


def without_padding(part: memoryview) -> memoryview:
    """A part without the bytes in front that a source put there to align it."""
    first = bytes(part[:16])
    return part[len(first) - len(first.lstrip(PADDING)) :]


def masked_pixels(
    geometry: Geometry, mask_of: Callable[[DataArray], tuple[NDArray[Any], str] | None]
) -> NDArray[np.bool_] | None:
    """Bad pixels of the slab by pixel masks in which any bit but `VIRTUAL` means bad.

    Parameters
    ----------
    geometry
        Of the run.
    mask_of
        Gives the mask for a data array and what it is called in texts; None if there is none.

    Raises
    ------
    Rejected
        If a mask does not suit the panels.
    """
    bad = np.zeros(geometry.slab_shape, bool)
    for place in geometry.arrays:
        found = mask_of(place)
        if found is None:
            continue
        mask, name = found
        if mask.dtype.kind not in "ui":
            raise Rejected("bad mask", f"{name} has numbers of type {mask.dtype}; expected integers")
        height, width = place.shape
        bits = plane(mask, place, name)[:height, :width].astype(np.int64) & ~VIRTUAL
        bad[place.row : place.row + height, :width] = bits != 0
    return bad if bad.any() else None
