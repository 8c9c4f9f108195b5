# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPU backend: peak search and indexing trials, frame by frame, on one core."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cpu.peakfinder9 import Peakfinder9
from gpuidx.backends.cpu.trials import Trials
from gpuidx.backends.cpu.unknown_cell import UnknownCellTrials
from gpuidx.backends.cpu.zaef import Zaef
from gpuidx.backends.known_cell import shift_sigma
from gpuidx.backends.peak_table import strongest_first
from gpuidx.cell import UnitCell
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Candidate, Found, Frame, PeakList
from gpuidx.options import Options

_NONE = PeakList(fs=np.empty(0), ss=np.empty(0), panel=np.empty(0, np.int32), intensity=np.empty(0))


@dataclass(slots=True)
class CpuBatch:
    """Frames, and what has been found in them so far.

    Attributes
    ----------
    frames
        As given.
    peaks
        One list for each frame, after `CpuBackend.find_peaks`.
    lattices
        Candidates and number of trials of each frame, after `CpuBackend.index`.
    """

    frames: Sequence[Frame]
    peaks: list[PeakList] = field(default_factory=list)
    lattices: list[tuple[tuple[Candidate, ...], int]] = field(default_factory=list)


class CpuBackend:
    """`backends.contract.Backend` on one core of the CPU.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    cell
        The target cell; without one lattices of any cell are looked for, with ``--indexing=none`` none.

    Raises
    ------
    BackendError
        If the cell's parameters make no lattice.
    """

    name = "cpu"

    def __init__(self, geometry: Geometry, options: Options, masks: Masks, cell: UnitCell | None) -> None:
        self._finder = _finder(geometry, options, masks)
        self._trials: Trials | UnknownCellTrials | None = None
        self._min_peaks, self._options = options.min_peaks, options
        self.use_cell(cell)

    def use_cell(self, cell: UnitCell | None) -> None:
        """Look for lattices of this cell from now on; without one, or its parameters, for any.

        Raises
        ------
        BackendError
            If its parameters make no lattice.
        """
        if not self._options.makes_trials:
            return
        if cell is None or cell.parameters is None:
            self._trials = UnknownCellTrials(self._options)
        else:
            self._trials = Trials(cell, self._options)

    def upload(self, frames: Sequence[Frame]) -> CpuBatch:
        """Take a batch of frames; nothing is copied."""
        return CpuBatch(frames)

    def find_peaks(self, batch: CpuBatch) -> None:
        """Find the peaks of frames that have none of their own.

        Raises
        ------
        Rejected
            If a frame's detector is out of range.
        """
        batch.peaks = [self._peaks_of(frame) for frame in batch.frames]

    def _peaks_of(self, frame: Frame) -> PeakList:
        if frame.peaks is not None:
            return frame.peaks
        return self._finder.find(frame) if self._finder is not None else _NONE

    def index(self, batch: CpuBatch, axes: NDArray[np.float32] | None = None) -> None:
        """Make the indexing trials for hits.

        *axes* may be given with a batch of one frame: those of `gpuidx.model.Found`, from a device, which
        trials without a cell go on with.
        """
        batch.lattices = [
            self._lattices_of(frame, peaks, axes)
            for frame, peaks in zip(batch.frames, batch.peaks, strict=True)
        ]

    def _lattices_of(
        self, frame: Frame, peaks: PeakList, axes: NDArray[np.float32] | None
    ) -> tuple[tuple[Candidate, ...], int]:
        if self._trials is None or len(peaks) == 0 or len(peaks) < self._min_peaks:
            return (), 0
        q = frame.detector.q(peaks.panel.astype(np.intp), peaks.fs, peaks.ss, frame.wavelength)
        q, sigma = q[strongest_first(peaks.intensity)], shift_sigma(frame.detector, frame.wavelength)
        if isinstance(self._trials, UnknownCellTrials):
            candidates, n_tries = self._trials.index(q, sigma, axes)
        else:
            candidates, n_tries = self._trials.index(q, sigma)
        return tuple(candidates), n_tries

    def results(self, batch: CpuBatch) -> list[Found]:
        """Peaks and candidate lattices of each frame; steps not taken have found nothing."""
        peaks = batch.peaks or [f.peaks if f.peaks is not None else _NONE for f in batch.frames]
        lattices = batch.lattices or [((), 0)] * len(peaks)
        return [
            Found(peaks=p, candidates=candidates, n_tries=n_tries)
            for p, (candidates, n_tries) in zip(peaks, lattices, strict=True)
        ]


def _finder(geometry: Geometry, options: Options, masks: Masks) -> PeakFinder | Peakfinder9 | Zaef | None:
    """The chosen search; None if peaks are not looked for."""
    if options.peaks == "zaef":
        return Zaef(geometry, options, masks, options.int_radius)
    if options.peaks == "peakfinder9":
        return Peakfinder9(geometry, options, masks)
    return PeakFinder(geometry, options, masks) if options.peaks == "peakfinder8" else None
