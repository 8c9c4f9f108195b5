# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: a detector and a cell, messages of simulated blanks and hits, the command of a run."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpuidx.arguments import parse
from gpuidx.cell import UnitCell, read_cell
from gpuidx.errors import OptionError
from gpuidx.geometry import Geometry, read_geometry
from gpuidx.handover import extra_bytes
from gpuidx.measure.stages import SPARE, InSlot, in_slot, put_down
from gpuidx.options import Options
from gpuidx.serving import Outgoing
from gpuidx.simulation.detector import LYSOZYME, default_geometry
from gpuidx.simulation.encoder import Encoder, Sized
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.frames import Simulator
from gpuidx.simulation.settings import FrameSettings

PEAK_OPTIONS = ("--peaks=peakfinder8", "--threshold=10", "--min-snr=5", "--min-peaks=10")
"""Of the search, unless the user says; they suit simulated frames."""

DISTINCT = 6
"""Different blanks, and as many hits."""

CYCLE = 1000
"""Frames after which the order of blanks and hits begins again: shares of hits are in steps of 0.1 %."""

PAGE = 4096
"""Bytes; slots begin at pages."""


class Asked(Protocol):
    """What the user may choose; `gpuidx.commands.bench.BenchOptions` has it."""

    @property
    def geometry(self) -> str | None:
        """File; None: the built-in detector."""
        ...

    @property
    def pdb(self) -> str | None:
        """File; None: lysozyme."""
        ...

    @property
    def size(self) -> int:
        """Pixels along a side of the built-in detector."""
        ...


class Subject:
    """Messages and files of one kind of frames.

    Parameters
    ----------
    folder
        For the geometry, the cell and the stream.
    asked
        Files of the user, or the size of the built-in detector.
    frames, messages
        Settings of the simulation; the share of hits is not looked at.
    address
        ZeroMQ address that the frames will be sent at.
    words
        Further words of the run's command line, as a shell takes them.

    Attributes
    ----------
    geometry, cell
        Of the run.
    encoder
        Of the messages.
    stream
        That the run writes.

    Raises
    ------
    OptionError
        If words of the user are not understood.
    GeometryError, CellFileError
        If a file of the user cannot be read or used.
    """

    def __init__(
        self,
        folder: Path,
        asked: Asked,
        frames: FrameSettings,
        messages: EncodeSettings,
        *,
        address: str = "",
        words: str = "",
    ) -> None:
        self.folder, self.stream, self._words = folder, folder / "measured.stream", _split(words)
        self.address = address or f"ipc://{folder}/measured.sock"
        built_in = default_geometry(asked.size, messages.format, None)
        geometry = _file(asked.geometry, folder / "measured.geom", built_in)
        cell = _file(asked.pdb, folder / "measured.cell", LYSOZYME)
        self._files = geometry, cell
        self.geometry: Geometry = read_geometry(geometry)
        self.cell: UnitCell = read_cell(cell)
        self.format, self.dtype = messages.format, frames.dtype
        self.options()  # raises before anything takes time
        self._simulators = [
            Simulator(self.geometry, self.cell, _with_hits(frames, share)) for share in (0.0, 1.0)
        ]
        self.encoder = Encoder(self._simulators[0], messages)

    @cached_property
    def blanks(self) -> list[Sized]:
        """Messages without a crystal."""
        return self._made(self._simulators[0])

    @cached_property
    def hits(self) -> list[Sized]:
        """Messages with one."""
        return self._made(self._simulators[1])

    def _made(self, simulator: Simulator) -> list[Sized]:
        return [self.encoder.message(simulator.numbered(number)) for number in range(DISTINCT)]

    @property
    def n_pixel(self) -> int:
        """Of a frame."""
        height, width = self.geometry.slab_shape
        return height * width

    @property
    def n_byte(self) -> int:
        """Of a message: the mean over blanks and hits."""
        return sum(one.n_byte for one in (*self.blanks, *self.hits)) // (2 * DISTINCT)

    def series(self, hits: float) -> Iterator[Outgoing]:
        """Messages to be sent, without end, of which the share *hits* are hits, evenly spread."""
        in_turn = [
            (self.hits if int((i + 1) * hits + 1e-9) > int(i * hits + 1e-9) else self.blanks)[i % DISTINCT]
            for i in range(CYCLE)
        ]
        return self.encoder.series(in_turn, 0)

    @property
    def slot_bytes(self) -> int:
        """Of a slot for any of the messages, with room for what a device needs."""
        largest = max(one.n_byte for one in (*self.blanks, *self.hits))
        return -(-(largest + SPARE + extra_bytes(self.geometry)) // PAGE) * PAGE

    def received(self, sent: Sequence[Sized], slots: NDArray[np.uint8] | None = None) -> list[InSlot]:
        """The same messages as a worker gets them.

        *slots* (message, `slot_bytes`) are new ones unless they are given.
        """
        if slots is None:
            slots = np.empty((len(sent), self.slot_bytes), np.uint8)
        start, series = next(self.encoder.series(sent, 1)), tuple[memoryview, ...]()
        if not start.is_frame:
            series, _ = put_down(start.parts, np.empty(SPARE + sum(map(len, start.parts)), np.uint8).data)
        return [
            in_slot(one.parts(number), slot.data, number + 1, series)
            for number, (one, slot) in enumerate(zip(sent, slots, strict=True))
        ]

    def command(self, jobs: int, how: str = "--zmq-pull") -> list[str]:
        """Words of a run that reads the frames; *how* is the option that says by which socket."""
        geometry, cell = map(str, self._files)
        return [
            f"--zmq-input={self.address}", how, f"--data-format={self.format}", "-g", geometry, "-p", cell,
            "-o", str(self.stream), "-j", str(jobs), *PEAK_OPTIONS, *self._words,
        ]  # fmt: skip

    def options(self, jobs: int = 1) -> Options:
        """The same, understood.

        Raises
        ------
        OptionError
            If the user's words are not understood.
        """
        return parse(Options, self.command(jobs), "gpuidx", "")


@dataclass(frozen=True)
class BuiltIn:
    """The built-in detector, of *size* pixels along a side, and lysozyme."""

    size: int
    geometry: str | None = None
    pdb: str | None = None


def _with_hits(frames: FrameSettings, share: float) -> FrameSettings:
    fields = FrameSettings.__dataclass_fields__
    return replace(FrameSettings(**{name: getattr(frames, name) for name in fields}), hit_fraction=share)


def _file(given: str | None, own: Path, text: str) -> Path:
    """The file of the user, or one of our own with this text."""
    if given is not None:
        return Path(given)
    own.write_text(text)
    return own


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError as error:
        raise OptionError(f"words of the run (--run): {error}: {words}") from error
