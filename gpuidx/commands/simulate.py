# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx simulate``: frames with known truth, into HDF5 files, over ZeroMQ or as an ASAP::O server."""

import dataclasses
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from gpuidx.arguments import option, parse
from gpuidx.cell import UnitCell, parse_cell, read_cell
from gpuidx.commands.serving import stopped_by_signals
from gpuidx.errors import InputFileError, OptionError, StreamError
from gpuidx.geometry import Geometry, parse_geometry, read_geometry
from gpuidx.serving import SERVING, ServeSettings, serve
from gpuidx.simulation.asapo.feed import serve_asapo
from gpuidx.simulation.asapo.frames import ASAPO_FORMATS, AsapoFrame
from gpuidx.simulation.asapo.settings import AsapoSettings, check_asapo_settings
from gpuidx.simulation.detector import LYSOZYME, check_size, default_geometry
from gpuidx.simulation.encode_hdf5 import COMPRESSIONS as HDF5_COMPRESSIONS
from gpuidx.simulation.encoder import Encoder, Sized
from gpuidx.simulation.files import write_frames, write_mask
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.frames import SimulatedFrame, Simulator
from gpuidx.simulation.settings import FRAMES, WRITING, FrameSettings
from gpuidx.simulation.truth import TruthFile

DESCRIPTION = """Simulated still frames with known truth: written to HDF5 files (--output), or served in any
format that gpuidx reads (--format) over ZeroMQ (--serve) or by ASAP::O (--asapo).
Without -g and -p: a detector of four panels, and lysozyme.  docs/simulate.md has examples."""


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(AsapoSettings, ServeSettings, EncodeSettings, FrameSettings):
    """All options of the command."""

    geometry: Optional[str] = option(  # noqa: UP045
        None, "-g", "--geometry", group=FRAMES, metavar="FILE", help="geometry file (.geom)"
    )
    pdb: Optional[str] = option(  # noqa: UP045
        None, "-p", "--pdb", group=FRAMES, metavar="FILE", help="unit cell, as .cell or PDB file"
    )
    size: int = option(1024, group=FRAMES, metavar="N", help="pixels along a side, without a geometry file")
    frames: int = option(
        100, "-n", "--frames", group=FRAMES, metavar="N", help="frames to make; 0: serve until stopped"
    )
    output: Optional[str] = option(  # noqa: UP045
        None, "-o", "--output", group=WRITING, metavar="PREFIX", help="write PREFIX.h5 and PREFIX.lst"
    )
    truth: Optional[str] = option(  # noqa: UP045
        None,
        group=WRITING,
        metavar="FILE",
        help="write the truth, a line of JSON for each frame; perhaps .gz",
    )
    write_geometry: Optional[str] = option(  # noqa: UP045
        None, group=WRITING, metavar="FILE", help="write the geometry that is used"
    )
    write_cell: Optional[str] = option(  # noqa: UP045
        None, group=WRITING, metavar="FILE", help="write the cell that is used"
    )
    mask: Optional[str] = option(  # noqa: UP045
        None,
        group=WRITING,
        metavar="FILE",
        help="write the bad pixels as HDF5 mask; the built-in geometry names it",
    )
    rate: float = option(
        0.0, group=SERVING, metavar="HZ", help="frames per second; 0: as fast as they are taken"
    )
    distinct: int = option(
        0, group=SERVING, metavar="N",
        help="make so many different frames before serving, then send them in turn; 0: as --memory allows",
    )  # fmt: skip
    memory: int = option(1000, group=SERVING, metavar="MB", help="memory for frames that are served")

    def __post_init__(self) -> None:
        if [self.output is not None, self.serve != "none", self.asapo].count(True) != 1:
            raise OptionError(
                "give either --output=PREFIX to write files, --serve=rep, router, pub or push, or --asapo"
            )
        if self.output is not None and self.format not in ("msgpack", "hdf5"):
            raise OptionError(f"--output writes HDF5 files; --format={self.format} is for --serve")
        if self.output is not None and self.compression not in ("", *HDF5_COMPRESSIONS):
            known = ", ".join(HDF5_COMPRESSIONS)
            raise OptionError(f"--compression={self.compression}: HDF5 files have {known}")
        if self.asapo and self.format not in ASAPO_FORMATS:
            known = ", ".join(ASAPO_FORMATS)
            raise OptionError(f"--format={self.format} is for --serve; --asapo has {known}")
        if self.frames < 0 or (self.frames == 0 and self.output is not None):
            raise OptionError(
                f"--frames is {self.frames}; it must be at least 1, or 0 to serve until stopped"
            )
        if self.frames >= 2**31:
            raise OptionError(f"--frames is {self.frames}; it must be below 2³¹")
        for name, least in (("rate", 0), ("distinct", 0), ("memory", 1), ("subscribers", 0), ("queue", 1)):
            if not getattr(self, name) >= least:
                raise OptionError(f"--{name} is {getattr(self, name):g}; it must be at least {least}")
        check_asapo_settings(self, self.frames, self.rate)
        check_size(self.size)


def main(argv: Sequence[str]) -> int:
    """Run the command; its exit code.

    Raises
    ------
    GpuidxError
        If options or files are wrong, or the address cannot be served.
    """
    options = parse(SimulateOptions, argv, "gpuidx simulate", DESCRIPTION)
    try:
        geometry, cell = _inputs(options)
        simulator = Simulator(geometry, cell, options, _orientations(options))
        if options.mask is not None:
            write_mask(simulator.bad, Path(options.mask))
        if options.serve != "none":
            _serve(simulator, options)
        elif options.asapo:
            _serve_asapo(simulator, options)
        else:
            _write(simulator, options)
    except OSError as error:
        raise StreamError(f"{error.filename or 'output'} cannot be written: {error}") from error
    return 0


def _inputs(options: SimulateOptions) -> tuple[Geometry, UnitCell]:
    """Geometry and cell, from files or the built-in ones; written out where that is asked."""
    if options.geometry is not None:
        geometry = read_geometry(options.geometry)
        geometry_text = geometry.text
    else:
        form = "hdf5" if options.output else options.format
        geometry_text = default_geometry(options.size, form, options.mask)
        geometry = parse_geometry(geometry_text, "built-in geometry")
    if options.pdb is not None:
        cell, cell_text = read_cell(options.pdb), Path(options.pdb).read_text()
    else:
        cell, cell_text = parse_cell(LYSOZYME, "built-in cell"), LYSOZYME
    if options.write_geometry is not None:
        Path(options.write_geometry).write_text(geometry_text)
    if options.write_cell is not None:
        Path(options.write_cell).write_text(cell_text)
    return geometry, cell


def _orientations(options: SimulateOptions) -> list[NDArray[np.float64]] | None:
    if options.orientations is None:
        return None
    try:
        rows = np.loadtxt(options.orientations, ndmin=2)
        return list(rows.reshape(len(rows), 3, 3))
    except (OSError, ValueError) as error:
        raise InputFileError(
            options.orientations, None, f"nine numbers a line are needed; {error}"
        ) from error


def _truths(simulator: Simulator, n_frame: int, options: SimulateOptions) -> Generator[SimulatedFrame]:
    """The frames; their truth goes to its file, and progress to the terminal."""
    shown = time.monotonic()
    # How frames are served says nothing of them, and has the token.
    described = {
        "options": {
            field.name: getattr(options, field.name)
            for field in dataclasses.fields(options)
            if not field.name.startswith("asapo")
        }
    }
    with TruthFile(Path(options.truth), described) if options.truth else nullcontext() as file:
        for number in range(n_frame):
            frame = simulator.numbered(number)
            if file is not None:
                file.write(frame.truth)
            yield frame
            if time.monotonic() > shown + 5:
                shown = time.monotonic()
                print(f"{number + 1} of {n_frame} frames made", file=sys.stderr)


def _write(simulator: Simulator, options: SimulateOptions) -> None:
    assert options.output is not None
    frames = _truths(simulator, options.frames, options)
    compression = HDF5_COMPRESSIONS[options.compression or "none"]
    files = write_frames(frames, options.frames, Path(options.output), simulator.geometry, compression)
    print(f"{options.frames} frames in {files[0]}" + (f" to {files[-1]}" if len(files) > 1 else ""))


def _serve(simulator: Simulator, options: SimulateOptions) -> None:
    encoder = Encoder(simulator, options)
    messages = _messages(simulator, encoder, options)
    asked = options.frames or "endless"

    def ready(address: str) -> None:
        print(
            f"serving {asked} frames, {len(messages)} different, by {options.serve} at {address}", flush=True
        )

    with stopped_by_signals() as stop:
        print(serve(encoder.series(messages, options.frames, options.rate), options, ready, stop), flush=True)


def _serve_asapo(simulator: Simulator, options: SimulateOptions) -> None:
    messages = _messages(simulator, Encoder(simulator, options), options)
    frames = [AsapoFrame.of(message) for message in messages]
    asked = options.frames or "endless"

    def ready(reading: str) -> None:
        print(f"serving {asked} frames, {len(frames)} different, over ASAP::O; to read them:")
        print(f"gpuidx {reading}", flush=True)

    with stopped_by_signals() as stop:
        lines = serve_asapo(frames, options.frames, options, options.rate, ready, stop)
    print(*lines, sep="\n", flush=True)


def _messages(simulator: Simulator, encoder: Encoder, options: SimulateOptions) -> list[Sized]:
    """All messages, made before the first is sent so that making them does not limit the rate."""
    most: Any = options.distinct or options.frames or 1000
    messages: list[Sized] = []
    size = 0
    with closing(_truths(simulator, min(most, options.frames or most), options)) as frames:
        for frame in frames:
            messages.append(encoder.message(frame))
            size += messages[-1].n_byte
            if not options.distinct and size + messages[-1].n_byte > options.memory * 1e6:
                break
    return messages
