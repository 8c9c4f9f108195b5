# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx check``: a frame of a run's source through all steps, with figures, likely causes, a picture."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpuidx.arguments import option, parse
from gpuidx.cell import UnitCell, read_cell
from gpuidx.commands.check_lattices import integrated, looked_for
from gpuidx.commands.check_peaks import searched, summary
from gpuidx.commands.check_receive import Receiver, silence
from gpuidx.commands.check_record import Decoded, HeaderRow, Record, Times
from gpuidx.commands.check_report import NOTHING, conclusion, sections
from gpuidx.commands.check_steps import Examiner
from gpuidx.commands.picture_errors import drawing
from gpuidx.errors import OptionError, Rejected
from gpuidx.geometry import Geometry, read_geometry
from gpuidx.model import Frame, Message, PeakList, Result
from gpuidx.options import OWN, Options, notices, with_token
from gpuidx.options.values import BASIC
from gpuidx.selection import Choice, decide
from gpuidx.start import check_inputs, message_bytes, patience

log = logging.getLogger(__name__)

DESCRIPTION = """Take the options of a run, take one frame of its source, and say of each step what it gives:
connection, format, header values, masks, peaks, lattices, reflections, time; with likely causes where a step
gives nothing.  Ends with 1 then.  Writes no stream."""

WARM_UP = 2
"""Times that the frame is done before the time is taken."""

SLOW = "this takes a moment; the first time, kernels are compiled for this machine (a minute or two)"

CHECK = "Options of gpuidx check"


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Those of a run, and some more."""

    frames: int = option(
        1, group=CHECK, metavar="N", help="take so many frames, and look at the one with the most peaks"
    )
    picture: str | None = option(
        None, group=CHECK, metavar="FILE", help="draw the frame, its peaks and predicted reflections as PNG"
    )
    output: str = option("none", "-o", "--output", group=BASIC, metavar="FILE", help="without effect")
    no_data_timeout: float | None = option(
        10.0, group=BASIC, metavar="S", help="wait no longer than this for a message"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise OptionError(f"--frames is {self.frames}; it must be at least 1")


def main(argv: Sequence[str]) -> int:
    """Print the report, step by step as they are made, and draw the picture; gives the exit code."""
    options = parse(CheckOptions, argv, "gpuidx check", DESCRIPTION, own=(*OWN, "frames", "picture"))
    options = with_token(options)
    geometry = read_geometry(options.geometry)
    cell = read_cell(options.pdb) if options.pdb else None
    check_inputs(options, geometry, cell)
    for warning in (*notices(options), *geometry.warnings, *(cell.warnings if cell else ())):
        log.warning("%s", warning)
    check = Check(options, geometry, cell, decide(options))
    n_shown, said = 0, sections(check.record)
    for record in check.steps():
        said = sections(record)
        for section in said[n_shown:]:
            print(section.text(), flush=True)
        n_shown = len(said)
    if options.picture is not None and check.looked is not None:
        check.draw(options.picture)
    print(conclusion(said))
    return 1 if any(section.state == NOTHING for section in said) else 0


class Looked(NamedTuple):
    """The frame that is looked at, its peaks, and its message."""

    frame: Frame
    peaks: PeakList
    message: Message


class Check:
    """The steps, one after the other.

    Parameters
    ----------
    options, geometry, cell
        Of the run.
    choice
        What would do its array work; here it is the CPU.

    Attributes
    ----------
    record
        What is known so far.
    looked, result
        The frame that is looked at and what was found in it; None until then.
    """

    def __init__(
        self, options: CheckOptions, geometry: Geometry, cell: UnitCell | None, choice: Choice
    ) -> None:
        self.options, self.geometry, self.choice = options, geometry, choice
        self._size = message_bytes(options, geometry)
        self._receiver = Receiver(options, self._size)
        self._examiner = Examiner(options, geometry, cell)
        self.record = Record(self._receiver.arrival)
        self.looked: Looked | None = None
        self.result: Result | None = None

    def steps(self) -> Iterator[Record]:
        """Make the steps; gives the record after each."""
        self._receive()
        yield self.record
        if self.looked is None:
            return
        frame, peaks, message = self.looked
        pipeline = self._examiner.pipeline
        image = self._examiner.image(frame)
        if image is not None:
            self.record.masks = image.masked()
            yield self.record
        self.record.peaks = summary(pipeline, frame, peaks, image)
        yield self.record
        if not self.record.peaks.enough:
            return
        with patience(SLOW):
            self.record.indexed, self.result = looked_for(pipeline, replace(frame, peaks=peaks))
        yield self.record
        if self.result.crystals:
            self.record.integrated = integrated(self.options, self.result)
            yield self.record
        self.record.times = self._times(message)
        yield self.record

    def _receive(self) -> None:
        """Take frames, and keep the one with the most peaks; a rejected one only while there is no other."""
        size = 0
        with self._receiver as receiver:
            for message in receiver.frames(self.options.frames):
                with patience(SLOW):
                    decoded, headers, looked = self._look(message)
                if self.looked is not None and (
                    looked is None or len(looked.peaks) <= len(self.looked.peaks)
                ):
                    continue
                self.record.decoded, self.record.headers, self.looked = decoded, headers, looked
                size = sum(map(len, message.parts or (message.data,)))
        self.record.arrival = replace(receiver.arrival, size=size)
        if not receiver.arrival.n_frame:
            self.record.arrival = silence(self.options, receiver.arrival)

    def _look(self, message: Message) -> tuple[Decoded, tuple[HeaderRow, ...], Looked | None]:
        """Decode a message and search its peaks."""
        decoded, headers, frame = self._examiner.decode(message)
        if frame is None:
            return decoded, headers, None
        try:
            return decoded, headers, Looked(frame, searched(self._examiner.pipeline, frame), message)
        except Rejected as why:
            return replace(decoded, rejected=(why.reason, why.detail)), headers, None

    def _times(self, message: Message) -> Times:
        place = np.empty(self._size, np.uint8).data
        for _ in range(WARM_UP):
            self._examiner.timed(message, place)
        return Times(self._examiner.timed(message, place), self.options.jobs, self.choice.line)

    def draw(self, file: str) -> None:
        """Write the picture of the frame that was looked at."""
        assert self.looked is not None
        with drawing(file):
            from gpuidx.commands.frame_picture import FrameView, draw

            frame, peaks, _ = self.looked
            image = self._examiner.image(frame)
            crystals = self.result.crystals if self.result is not None else ()
            view = FrameView(
                title=f"{Path(frame.filename).name} {frame.event}",
                geometry=self.geometry,
                detector=frame.detector,
                wavelength=frame.wavelength,
                image=frame.image,
                usable=image.usable if image is not None else None,
                peaks=peaks,
                predicted=tuple(c.reflections for c in crystals if c.reflections is not None),
            )
            draw(view, file)
