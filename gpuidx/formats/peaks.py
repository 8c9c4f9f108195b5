# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak lists that come with a frame: from positions in the data array to positions in panels."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import Rejected
from gpuidx.formats.msgpack import Fields, Packed, array_of, count_of, kind_of
from gpuidx.geometry import Geometry
from gpuidx.model import PeakList

_NUMBERS = msgspec.msgpack.Decoder(list[float])
_NAMES = msgspec.msgpack.Decoder(list[str | int])

MOST_PEAKS = 100_000
"""In a list; more are no peaks of a frame."""

BLOCK = 4096
"""Peaks that are compared with all panels at a time."""


class PeakReader:
    """Reads the map that ``peak_list`` of the geometry names: arrays ``fs``, ``ss`` and ``intensity``.

    Positions are those of the data array, of pixel centres; half a pixel is added as by CrystFEL 0.12.
    The panel is the one whose range holds the position, or the one that the array ``panel`` (names, or
    numbers from 0) says: panels of different data arrays may share pixel ranges.

    Parameters
    ----------
    geometry
        Of the run.
    half_pixel_shift
        Whether to add half a pixel.
    notes
        Counts dropped peaks.
    """

    def __init__(self, geometry: Geometry, half_pixel_shift: bool, notes: Counter[str]) -> None:
        self.key, self.notes = geometry.peak_list, notes
        self.shift = 0.5 if half_pixel_shift else 0.0
        self.number_of = {panel.name: number for number, panel in enumerate(geometry.panels)}
        self.least_fs, self.end_fs, self.least_ss, self.end_ss = (
            np.array([p.min_fs for p in geometry.panels], float),
            np.array([p.max_fs + 1 for p in geometry.panels], float),
            np.array([p.min_ss for p in geometry.panels], float),
            np.array([p.max_ss + 1 for p in geometry.panels], float),
        )

    def read(self, fields: Fields) -> PeakList:
        """The peaks of a message.

        Raises
        ------
        Rejected
            If the list is missing, its arrays differ in length or hold anything but numbers.
        """
        if self.key is None:
            raise Rejected("bad peak list", "the geometry has no peak_list")
        found = Fields(fields.get(self.key), f"'{self.key}'", self.notes)
        fs, ss, intensity = (
            self._numbers(found.get(name), f"{self.key}/{name}") for name in ("fs", "ss", "intensity")
        )
        if len(fs) > MOST_PEAKS:
            raise Rejected(
                "bad peak list", f"'{self.key}' has {len(fs)} peaks; expected at most {MOST_PEAKS}"
            )
        if not len(fs) == len(ss) == len(intensity):
            raise Rejected(
                "bad peak list",
                f"'{self.key}' has {len(fs)} fs, {len(ss)} ss and {len(intensity)} intensity",
            )
        named = found.find("panel")
        panel = self._panels(named, len(fs)) if named is not None else None
        return self.peaks(fs, ss, intensity, panel)

    def _numbers(self, packed: Packed, name: str) -> NDArray[np.float64]:
        kind = kind_of(packed)
        if kind == "a map":
            array = array_of(packed, name, self.notes)
            if array.ndim != 1:
                raise Rejected("bad peak list", f"'{name}' has shape {array.shape}; expected one dimension")
            return array.astype(np.float64)
        if kind != "an array" or count_of(packed) > MOST_PEAKS:
            raise Rejected(
                "bad peak list", f"'{name}' is {kind}; expected an array of at most {MOST_PEAKS} numbers"
            )
        try:
            return np.array(_NUMBERS.decode(packed), np.float64)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Rejected("bad peak list", f"'{name}' holds something else than numbers: {error}") from error

    def _panels(self, packed: Packed, count: int) -> NDArray[np.int32]:
        """Panel numbers as the message says."""
        name = f"{self.key}/panel"
        said: list[Any]
        if kind_of(packed) == "a map":
            said = array_of(packed, name, self.notes).tolist()
        elif kind_of(packed) != "an array" or count_of(packed) != count:
            raise Rejected(
                "bad peak list", f"'{name}' is {kind_of(packed)}; expected an array of {count} panels"
            )
        else:
            try:
                said = _NAMES.decode(packed)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Rejected("bad peak list", f"'{name}': {error}") from error
        if len(said) != count:
            raise Rejected("bad peak list", f"'{name}' has {len(said)} entries for {count} peaks")
        numbers = [self.number_of.get(one, -1) if isinstance(one, str) else one for one in said]
        for number, one in zip(numbers, said, strict=True):
            if type(number) is not int or not 0 <= number < len(self.number_of):
                raise Rejected(
                    "bad peak list", f"'{name}' has {one!r:.40}, which is no panel of the geometry"
                )
        return np.array(numbers, np.int32)

    def peaks(
        self,
        fs: NDArray[np.float64],
        ss: NDArray[np.float64],
        intensity: NDArray[np.float64],
        panel: NDArray[np.int32] | None = None,
    ) -> PeakList:
        """Peaks in panels; those that are not finite, or in no panel or several, are dropped and counted.

        Parameters
        ----------
        fs, ss : (peak,)
            Position in the data array, px, as sent.
        intensity : (peak,)
            ADU.
        panel : (peak,)
            Number of the panel; None to find it by position.
        """
        fs, ss, intensity = _rounded(fs + self.shift), _rounded(ss + self.shift), _rounded(intensity)
        good = np.isfinite(fs) & np.isfinite(ss) & np.isfinite(intensity)
        self._note("peaks that are not finite, dropped", int(len(good) - good.sum()))
        fs, ss, intensity = fs[good], ss[good], intensity[good]
        panel, n_panel = self._matches(fs, ss, panel[good] if panel is not None else None)
        self._note("peaks outside all panels, dropped", int((n_panel == 0).sum()))
        self._note("peaks in several panels, dropped", int((n_panel > 1).sum()))
        one = n_panel == 1
        panel = panel[one]
        return PeakList(
            fs=fs[one] - self.least_fs[panel],
            ss=ss[one] - self.least_ss[panel],
            panel=panel,
            intensity=intensity[one],
        )

    def _matches(
        self, fs: NDArray[np.float64], ss: NDArray[np.float64], said: NDArray[np.int32] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Panel of each position, and how many panels hold it."""
        if said is not None:
            inside = (self.least_fs[said] <= fs) & (fs < self.end_fs[said])
            inside &= (self.least_ss[said] <= ss) & (ss < self.end_ss[said])
            return said, inside.astype(np.intp)
        panel, n_panel = np.zeros(len(fs), np.int32), np.zeros(len(fs), np.intp)
        for start in range(0, len(fs), BLOCK):
            part = slice(start, start + BLOCK)
            x, y = fs[part, None], ss[part, None]
            inside = (self.least_fs <= x) & (x < self.end_fs) & (self.least_ss <= y) & (y < self.end_ss)
            panel[part], n_panel[part] = inside.argmax(axis=1), inside.sum(axis=1)
        return panel, n_panel

    def _note(self, what: str, count: int) -> None:
        if count:
            self.notes[what] += count


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values rounded to float32, as CrystFEL holds positions and intensities that were sent along."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)
