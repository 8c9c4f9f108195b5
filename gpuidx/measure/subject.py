# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: a detector and a cell, messages of simulated blanks and hits, the command of a run."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gpuidx.arguments import parse
from gpuidx.cell import UnitCell, parse_cell
from gpuidx.geometry import Geometry, parse_geometry
from gpuidx.measure.stages import as_message
from gpuidx.model import Message
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

CYCLE = 20
"""Frames after which the order of blanks and hits begins again: shares of hits are in steps of 5 %."""


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
        Further words of the run's command line.

    Attributes
    ----------
    geometry, cell
        Of the run.
    encoder
        Of the messages.
    blanks, hits
        Messages to be sent.
    stream
        That the run writes.

    Raises
    ------
    OptionError
        If words of the user are not understood.
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
        self.folder, self.stream, self._words = folder, folder / "measured.stream", words
        self.address = address or f"ipc://{folder}/measured.sock"
        self._files = folder / "measured.geom", folder / "measured.cell"
        texts = _texts(asked, messages.format)
        for file, text in zip(self._files, texts, strict=True):
            file.write_text(text)
        self.geometry: Geometry = parse_geometry(texts[0], asked.geometry or "built-in geometry")
        self.cell: UnitCell = parse_cell(texts[1], asked.pdb or "built-in cell")
        self.format, self.dtype = messages.format, frames.dtype
        self.options()  # raises before anything takes time
        simulators = [Simulator(self.geometry, self.cell, _with_hits(frames, share)) for share in (0.0, 1.0)]
        self.encoder = Encoder(simulators[0], messages)
        self.blanks, self.hits = (
            [self.encoder.message(simulator.numbered(number)) for number in range(DISTINCT)]
            for simulator in simulators
        )

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

    def received(self, sent: Sequence[Sized]) -> list[Message]:
        """The same messages as a worker gets them."""
        start = next(self.encoder.series(sent, 1))
        series = () if start.is_frame else start.parts
        return [as_message(one.parts(number), series, number + 1) for number, one in enumerate(sent)]

    def command(self, jobs: int, how: str = "--zmq-pull") -> list[str]:
        """Words of a run that reads the frames; *how* is the option that says by which socket."""
        geometry, cell = map(str, self._files)
        return [
            f"--zmq-input={self.address}", how, f"--data-format={self.format}", "-g", geometry, "-p", cell,
            "-o", str(self.stream), "-j", str(jobs), *PEAK_OPTIONS, *shlex.split(self._words),
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


def _texts(asked: Asked, form: str) -> tuple[str, str]:
    """Geometry and cell."""
    if asked.geometry is not None:
        geometry = Path(asked.geometry).read_text()
    else:
        geometry = default_geometry(asked.size, form, None)
    return geometry, LYSOZYME if asked.pdb is None else Path(asked.pdb).read_text()
