# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a frame, top to bottom: bytes → frame → peaks → lattices → crystals → reflections → text.

Every step is one module; this file has their order and nothing else.  It runs in the workers.  On the CUDA
path a frame comes here twice, for `Pipeline.lay_down` and for `Pipeline.complete`; in between `gpuidx.device`
searches its peaks.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuidx import handover
from gpuidx import peaks as peak_lists
from gpuidx.backends import choose_backend
from gpuidx.backends.filters import Filters
from gpuidx.cell import UnitCell
from gpuidx.errors import Rejected
from gpuidx.formats import Decoder
from gpuidx.formats.frame import widened
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.indexing.consensus import primitive_parameters
from gpuidx.indexing.lattices import Acceptance
from gpuidx.indexing.solutions import read_solutions
from gpuidx.integration.integrator import Integrator
from gpuidx.model import RECOGNISED, Found, Frame, Message, Result
from gpuidx.options import Options
from gpuidx.stream.chunk import ChunkWriter

Clock = Callable[[str], AbstractContextManager[Any]]
"""Gives, for the name of a stage, a context whose duration is counted."""

DECODED_THERE = f"{RECOGNISED}bitshuffle-LZ4 of whole frames, which the device decodes"

Forward = Callable[[Message, bool], None]
"""Takes each message whose frame is in the stream, and whether that is a hit, while the message is whole."""


class Done(NamedTuple):
    """A frame that is finished.

    Attributes
    ----------
    result
        What was found.
    n_byte
        Bytes of its chunk, at the beginning of its slot; 0 for a frame that the stream leaves out.
    n_record
        Bytes of the records for alignment of the detector, right behind the chunk.
    n_candidate
        Lattices before checks.
    """

    result: Result
    n_byte: int
    n_record: int
    n_candidate: int


class Pipeline:
    """All steps of one run, made once per worker.

    Parameters
    ----------
    options, geometry, cell
        Of the run; *cell* is None without a target cell.
    clock
        Told when a stage begins and ends (``--profile``).
    forward
        Sends messages on (``--asapo-output-stream``).
    """

    def __init__(
        self,
        options: Options,
        geometry: Geometry,
        cell: UnitCell | None,
        clock: Clock = lambda stage: nullcontext(),
        forward: Forward = lambda message, is_hit: None,
    ) -> None:
        masks = Masks(geometry, options.highres, options.mask_data)
        self.forward = forward
        self.options, self.geometry, self.masks, self.clock = options, geometry, masks, clock
        self.decoder = Decoder(geometry, options, masks)
        self.packs = options.device_searches and not masks.has_flags_besides_rules
        self.filters = Filters.wanted(geometry, options, masks)
        self.backend = choose_backend(options, geometry, masks, cell)
        self.cell = cell
        self.acceptance = Acceptance(geometry, cell, options, options)
        self.solutions = None
        if options.fromfile_input_file is not None:
            self.solutions = read_solutions(options.fromfile_input_file)
        self.notes: Counter[str] = Counter()
        self._has_packed = False
        self.integrator = Integrator(geometry, masks, options)
        self.writer = ChunkWriter(geometry, options, max(0.0, options.fix_divergence))

    def process(self, message: Message, place: memoryview) -> Done:
        """Do everything for one message; the text of its chunk goes to *place*.

        Raises
        ------
        Rejected
            If the frame cannot be used.
        """
        with self.clock("decode"):
            frame = self.decode(message)
        return self.complete(frame, message, place)

    def lay_down(
        self, message: Message, place: memoryview, used: int
    ) -> tuple[Frame, handover.Descriptor | None]:
        """Decode, with the image in the slot *place*, where a device takes it from.

        An image that a device can decode stays compressed; here it is decoded when its pixels are needed,
        which those of a blank never are.

        The message may use the first bytes of the slot, as many as *used* says.

        Returns
        -------
        frame, descriptor
            None instead of a descriptor if there is nothing for a device to do, or no room for the image.

        Raises
        ------
        Rejected
            If the frame cannot be used.
        """
        with self.clock("decode"):
            frame = self.decode(message, handover.room_behind(place, used), self.packs)
            if (frame.image is None and frame.packed is None) or frame.peaks is not None:
                return frame, None
            laid = handover.laid_down(frame, place, used)
        if frame.packed is not None and not self._has_packed:
            self._has_packed = True
            self.notes[DECODED_THERE] = 1
        return laid

    def complete(self, frame: Frame, message: Message, place: memoryview, found: Found | None = None) -> Done:
        """All steps after decoding, but for those that a device has done already; see `process`.

        Parameters
        ----------
        frame
            Decoded.
        message
            From which it was.
        place
            For the text of the chunk, which may be written over the message.
        found
            By a device; None if there was none.

        Raises
        ------
        Rejected
            If the frame cannot be used.
        """
        if found is None:
            frame = self.with_pixels(frame)
        with self.clock("search and trials"):
            if found is None:
                (found,) = self.search([frame])
            elif found.candidates is None:
                (found,) = self.search([dataclasses.replace(frame, peaks=found.peaks)], found.axes)
        result = self.finish(frame, found)
        given = self.solutions.of(frame.filename, frame.event) if self.solutions is not None else ()
        n_candidate = len(given or found.candidates or ())
        with self.clock("write"):
            if self.is_written(result):
                self.forward(message, result.hit)
            n_byte = self.write(result, place)
            n_record = write_records(result, place[n_byte:]) if n_byte else 0
        return Done(result, n_byte, n_record, n_candidate)

    def decode(self, message: Message, room: memoryview | None = None, packs: bool = False) -> Frame:
        """Bytes to pixels, header values and, if they were sent along, checked peaks.

        *room* is for an image that cannot stay in the message; with *packs* it may stay compressed.
        """
        frame = self.decoder.decode(message, room, packs)
        if frame.peaks is not None and self.options.revalidate:
            return peak_lists.validated(widened(frame), self.geometry, self.options, self.masks, self.filters)
        return frame

    def with_pixels(self, frame: Frame) -> Frame:
        """The frame with pixels as the CPU wants them.

        Raises
        ------
        Rejected
            If they are compressed and damaged.
        """
        with self.clock("decode"):
            return widened(self.decoder.with_pixels(frame))

    def search(self, frames: Sequence[Frame], axes: NDArray[np.float32] | None = None) -> list[Found]:
        """Peaks and candidate lattices of a batch; *axes* of its only frame may be known from a device."""
        batch = self.backend.upload(frames)
        self.backend.find_peaks(batch)
        self.backend.index(batch, axes)
        return list(self.backend.results(batch))

    def finish(self, frame: Frame, found: Found) -> Result:
        """Candidates, or crystals from a file, to refined, checked crystals with integrated reflections."""
        hit = peak_lists.is_hit(found.peaks, self.options.min_peaks)
        n_tries = found.n_tries
        with self.clock("refine and check"):
            if self.solutions is not None and hit:
                solutions, n_tries = self.solutions.of(frame.filename, frame.event), 1
                if not solutions:
                    self.notes[f"no crystal of this frame in {self.solutions.file}"] += 1
                crystals = self.acceptance.given(frame, found.peaks, solutions)
            else:
                candidates = found.candidates or ()
                crystals = self.acceptance.crystals(frame, found.peaks, candidates)
        frame = self.with_pixels(frame) if crystals else frame
        with self.clock("integrate"):
            crystals = self.integrator.measure(frame, crystals) if crystals else ()
        inv_d = peak_lists.one_over_d(found.peaks, frame)
        return Result(
            frame=frame,
            peaks=found.peaks,
            hit=hit,
            inv_d=inv_d,
            peak_resolution=peak_lists.peak_resolution(inv_d),
            n_tries=n_tries,
            crystals=crystals,
        )

    def write(self, result: Result, place: memoryview) -> int:
        """The chunk's text into *place*; its size, 0 if the stream leaves the frame out."""
        return self.writer.write(result, place) if self.is_written(result) else 0

    def is_written(self, result: Result) -> bool:
        """Whether the stream has a chunk for the frame."""
        return result.hit or self.options.non_hits_in_stream

    def use_cell(self, cell: UnitCell | None) -> None:
        """Index with this target cell from now on; with None go on as before."""
        if cell is not None and cell != self.cell:
            self.cell = cell
            self.backend.use_cell(cell)
            self.acceptance = Acceptance(self.geometry, cell, self.options, self.options)

    def cells(self, result: Result) -> list[tuple[float, ...]]:
        """Parameters of the crystals' reduced cells, Å and degrees; none if there is a target cell."""
        if self.cell is not None and self.cell.parameters is not None:
            return []
        return [primitive_parameters(crystal.recip) for crystal in result.crystals]

    def take_notes(self) -> list[tuple[str, int]]:
        """What was ignored without harm since the last call, and how often."""
        counters = (self.decoder.notes, self.integrator.notes, self.notes)
        notes = [note for counter in counters for note in counter.items()]
        for counter in counters:
            counter.clear()
        return notes


def write_records(result: Result, place: memoryview) -> int:
    """The crystals' records for alignment of the detector into *place*; their size, bytes.

    Raises
    ------
    Rejected
        If they do not fit.
    """
    records = b"".join(crystal.alignment for crystal in result.crystals)
    if len(records) > len(place):
        detail = f"{len(records)} bytes, and room for {len(place)}; raise --slot-size"
        raise Rejected("records of --mille larger than the slot", detail)
    place[: len(records)] = records
    return len(records)
