# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA backend: batches of frames through one device, several under way at a time.

Streams: *up* copies frames to the device, *work* runs the kernels, *down* copies results back, so that
the copies of one batch overlap the kernels of another.  Events order what belongs to one batch:

    up:    frames of a batch → `uploaded`
    work:  waits for `uploaded`; kernels → `searched`
    down:  waits for `searched`; results → `fetched`, which `results` waits for
    more:  then what few frames have more of; not on *down*, where the next batch waits for its kernels

A batch has buffers of its own from `upload` to `results`; what kernels need only while they run is shared,
for they run one after the other on *work*.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cuda.batch import CudaBatch, GroupKey, Part
from gpuidx.backends.cuda.buffers import FIRST_PEAKS, BatchBuffers, Sizes, batch_size, make_scratch
from gpuidx.backends.cuda.events import has_happened
from gpuidx.backends.cuda.kept_tables import KeptTables
from gpuidx.backends.cuda.kernels import Kernels
from gpuidx.backends.cuda.peakfinder8 import FILE, Saturation, defines, find_vectors, lanes_for, search
from gpuidx.backends.cuda.trials import DeviceTrials, TrialBatch, trial_bytes
from gpuidx.backends.known_cell import KnownCell, shift_sigma
from gpuidx.backends.peak_table import peak_list
from gpuidx.backends.values import check_image, float32_rules
from gpuidx.cell import UnitCell
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import BYTE_TYPES, PIXEL_TYPES, Candidate, Found, Frame, PeakList
from gpuidx.options import Options

IN_FLIGHT = 2
"""Batches under way: one is copied while the other is searched."""

TYPES = (*PIXEL_TYPES, *BYTE_TYPES)
"""dtypes of images."""

_NONE = PeakList(fs=np.empty(0), ss=np.empty(0), panel=np.empty(0, np.int32), intensity=np.empty(0))


class CudaBackend:
    """`backends.contract.DeviceBackend` on one CUDA device; belongs to the thread that made it.

    All kernels are compiled before this returns, so that no frame waits for that.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    cell
        The target cell; without one, or with ``--indexing=none``, there are no trials.
    device
        Number of the device.
    ring
        Memory that images will lie in; page-locked here, so that they are copied without the CPU.  Images
        elsewhere are taken too.
    compile_for
        dtypes of images whose kernels are compiled at once; those of others when they are first needed.

    Attributes
    ----------
    batch_size, in_flight
        Frames of a batch, and batches under way at a time, at most.
    notes
        What is not as it should be, a line each.

    Raises
    ------
    BackendError
        If it has not enough memory.
    RuntimeError, MemoryError
        If it fails otherwise; `gpuidx.backends.cuda.problems` explains CuPy's exceptions.
    """

    name = "cuda"

    def __init__(
        self,
        geometry: Geometry,
        options: Options,
        masks: Masks,
        cell: UnitCell | None = None,
        *,
        device: int = 0,
        ring: memoryview | None = None,
        compile_for: Sequence[str] = TYPES,
    ) -> None:
        import cupy

        self._device = cupy.cuda.Device(device)
        self._device.use()
        self._geometry, self._options, self._masks = geometry, options, masks
        self._rules = float32_rules(masks.rules)
        self._up, self._work, self._down, self._more = (cupy.cuda.Stream(non_blocking=True) for _ in range(4))
        self._kernels: dict[tuple[str, int], Kernels] = {}
        drop = not options.use_saturated
        limits = masks.saturation_map.reshape(-1) if drop and masks.saturation_map is not None else None
        self._saturation = Saturation(
            max_adu=cupy.asarray(masks.saturation),
            limits=None if limits is None else cupy.asarray(limits),
            drop=drop,
        )
        self.notes: list[str] = []
        self.in_flight = IN_FLIGHT
        rect = np.array([(p.slab_x, p.slab_y, p.width, p.height) for p in geometry.panels], np.int32)
        sizes = Sizes.of(rect, geometry.slab_shape)
        memory = 1e9 * options.gpu_memory or None
        free, _ = cupy.cuda.runtime.memGetInfo()
        known = KnownCell(cell) if cell is not None and options.does_index else None

        def needed(n_frame: int) -> int:
            of_trials = trial_bytes(n_frame, self.in_flight, known) if known else 0
            return sizes.bytes_needed(n_frame, self.in_flight) + of_trials

        self.batch_size = batch_size(needed, free, options.gpu_batch or None, memory)
        self._tables = KeptTables(geometry, options, masks, self.batch_size)
        self._scratch = make_scratch(sizes, self.batch_size)
        self._free = [BatchBuffers(sizes, self.batch_size) for _ in range(self.in_flight)]
        self._trials = (
            DeviceTrials(known, options, self.batch_size, min_peaks=options.min_peaks) if known else None
        )
        if self._trials is not None:
            for buffers in self._free:
                buffers.trials = self._trials.new_batch()
        self._device.synchronize()  # what was cleared was so on the default stream
        self._ring: NDArray[np.uint8] | None = None
        if options.peaks == "peakfinder8" and compile_for:
            self._warm_up(compile_for)
        if ring is not None:
            self._lock_pages(np.frombuffer(ring, np.uint8))

    def _warm_up(self, types: Sequence[str]) -> None:
        """Compile the kernels for some types of pixels, and search a blank frame.

        That makes the tables of the run too, if the detector does not move.
        """
        for pixel in types:
            for n_frame in (self.batch_size, 1):
                self._kernels_for(pixel, lanes_for(n_frame)).compile()
        if self._trials is not None:
            self._trials.compile()
        blank = Frame(
            serial=0,
            filename="",
            event="",
            image=np.zeros(self._geometry.slab_shape, types[0]),
            wavelength=1.0,
            photon_energy=1.0,
            detector=self._geometry.detector(_some_clen(self._geometry)),
        )
        batch = self.upload([blank])
        self.find_peaks(batch)
        self.index(batch)
        self.results(batch)

    def _lock_pages(self, ring: NDArray[np.uint8]) -> None:
        from cupy.cuda import runtime

        try:
            runtime.hostRegister(ring.ctypes.data, ring.nbytes, 0)
        except RuntimeError as error:
            self.notes.append(f"the ring of slots cannot be page-locked, so copies are slower ({error})")
        else:
            self._ring = ring

    def close(self) -> None:
        """Wait for the device and give the ring back."""
        from cupy.cuda import runtime

        for stream in (self._up, self._work, self._down, self._more):
            with suppress(RuntimeError):
                stream.synchronize()
        if self._ring is not None:
            with suppress(RuntimeError):
                runtime.hostUnregister(self._ring.ctypes.data)
            self._ring = None

    def upload(self, frames: Sequence[Frame]) -> CudaBatch:
        """Begin to copy the images of a batch; they must not change until `results`.

        Raises
        ------
        Rejected
            If a frame's detector is out of range.
        ValueError
            If there are more frames than fit, or more batches under way.
        """
        all_groups = self._groups(frames)
        affordable = self._tables.affordable(key.tables for key, own in all_groups.items() for _ in own)
        groups = {key: numbers for key, numbers in all_groups.items() if key.tables in affordable}
        order = [number for numbers in groups.values() for number in numbers]
        if not order:
            return CudaBatch(frames, {})
        if len(order) > self.batch_size or not self._free:
            raise ValueError(f"{len(order)} frames, {len(self._free)} free buffers of {self.batch_size}")
        tables = {key: self._tables.get(frames[numbers[0]]) for key, numbers in groups.items()}
        left = frozenset(n for key, numbers in all_groups.items() if key not in groups for n in numbers)
        batch = CudaBatch(frames, {number: row for row, number in enumerate(order)}, left)
        batch.buffers = self._free.pop()
        for key, numbers in groups.items():
            first = batch.rows[numbers[0]]
            images = batch.buffers.images(first, first + len(numbers), key.dtype)
            batch.parts.append(Part(first, first + len(numbers), images, tables[key]))
            for number, place in zip(numbers, images, strict=True):
                self._copy(frames[number], place)
        self._send_panels(batch.buffers, [frames[number] for number in order])
        batch.uploaded = self._up.record()
        return batch

    def _groups(self, frames: Sequence[Frame]) -> dict[GroupKey, list[int]]:
        """Numbers of the frames that are searched, those together that can be searched together."""
        groups: dict[GroupKey, list[int]] = {}
        for number, frame in enumerate(frames):
            if frame.peaks is None and frame.image is not None and self._options.peaks == "peakfinder8":
                check_image(frame.image, self._geometry.slab_shape, TYPES)
                key = GroupKey(frame.image.dtype.str, self._tables.key(frame))
                groups.setdefault(key, []).append(number)
        return groups

    def _copy(self, frame: Frame, place: Any) -> None:
        from cupy.cuda import runtime

        image = frame.image
        assert image is not None
        runtime.memcpyAsync(
            place.data.ptr, image.ctypes.data, image.nbytes, runtime.memcpyHostToDevice, self._up.ptr
        )

    def _send_panels(self, buffers: BatchBuffers, frames: Sequence[Frame]) -> None:
        detectors = list(dict.fromkeys(frame.detector for frame in frames))
        for number, detector in enumerate(detectors):
            buffers.host_panels[number] = np.hstack([detector.corner, detector.fs, detector.ss])
        for row, frame in enumerate(frames):
            buffers.host_detector_of[row] = detectors.index(frame.detector)
            buffers.host_wavelength[row] = frame.wavelength
            buffers.host_shift_sigma[row] = shift_sigma(frame.detector, frame.wavelength)
        buffers.send_panels(len(detectors), len(frames), self._up)

    def find_peaks(self, batch: CudaBatch) -> None:
        """Begin to search the frames that have no peaks of their own."""
        if batch.buffers is None:
            return
        self._work.wait_event(batch.uploaded)
        for part in batch.parts:
            lanes = lanes_for(part.end - part.first)
            kernels = self._kernels_for(part.images.dtype.str[1:], lanes)
            outcome = batch.buffers.outcome_of(part.first, part.end)
            search(
                kernels, lanes, self._work, part.images, part.tables, self._scratch, outcome, self._options,
                self._rules, self._saturation,
            )  # fmt: skip
        n_frame = len(batch.rows)
        find_vectors(
            kernels, self._work, batch.buffers.outcome_of(0, n_frame), batch.buffers.panels_of(n_frame)
        )
        self._down.wait_event(self._work.record())
        batch.buffers.fetch(n_frame, self._down)
        batch.fetched = self._down.record()

    def _kernels_for(self, pixel: str, lanes: int) -> Kernels:
        if (pixel, lanes) not in self._kernels:
            named = defines(self._options, lanes, has_rules=_has_rules(self._masks))
            self._kernels[pixel, lanes] = Kernels(FILE, pixel, named)
        return self._kernels[pixel, lanes]

    def index(self, batch: CudaBatch) -> None:
        """Begin the indexing trials of the frames that are searched; `done` keeps them going.

        Without a cell, or with ``--indexing=none``, there are none.  Candidates of other frames are None.
        """
        if self._trials is None or batch.buffers is None or batch.fetched is None:
            return
        buffers, n_frame = batch.buffers, len(batch.rows)
        batch.trials = buffers.trials
        outcome = buffers.outcome
        self._trials.start(batch.trials, outcome.q, outcome.n_peak, buffers.shift_sigma, n_frame, self._work)

    def done(self, batch: CudaBatch) -> bool:
        """Whether `results` would not have to wait.

        Raises
        ------
        RuntimeError
            If the device has failed.
        """
        if batch.fetched is None:
            return True
        if not has_happened(batch.fetched):
            return False
        return batch.trials is None or self._advance(batch.trials)

    def _advance(self, trials: TrialBatch) -> bool:
        assert self._trials is not None
        return self._trials.advance(trials, self._work)

    def results(self, batch: CudaBatch) -> list[Found | None]:
        """Peaks of each frame; None for one with more of something than there is room for.

        That is candidates, pixels of a peak, or positions of the detector and masks in the batch.
        """
        buffers = batch.buffers
        if buffers is None:
            return [self._found(frame, _NONE) for frame in batch.frames]
        (batch.fetched or batch.uploaded).synchronize()
        lattices = self._lattices(batch)
        found: list[Found | None] = []
        for number, frame in enumerate(batch.frames):
            row = batch.rows.get(number)
            if number in batch.left:
                found.append(None)
            elif row is None or batch.fetched is None:
                found.append(self._found(frame, _NONE))
            elif self._is_over(buffers, row):
                found.append(None)
            else:
                found.append(self._found(frame, self._peaks(buffers, row), *lattices[row]))
        batch.buffers = None
        self._free.append(buffers)
        return found

    def _lattices(self, batch: CudaBatch) -> Sequence[tuple[tuple[Candidate, ...] | None, int]]:
        """Candidates, and trials that were made, of each row; waits for the trials."""
        if batch.trials is None:
            return [(None, 0)] * len(batch.rows)
        assert self._trials is not None
        self._trials.finish(batch.trials, self._work)
        return self._trials.results(batch.trials)

    @staticmethod
    def _found(
        frame: Frame, peaks: PeakList, candidates: tuple[Candidate, ...] | None = None, n_tries: int = 0
    ) -> Found:
        own = frame.peaks if frame.peaks is not None else peaks
        return Found(peaks=own, candidates=candidates, n_tries=n_tries)

    def _is_over(self, buffers: BatchBuffers, row: int) -> bool:
        n_candidate, overflow, _ = buffers.counts[:, row]
        return bool(n_candidate > self._scratch.candidates.shape[1] or overflow)

    def _peaks(self, buffers: BatchBuffers, row: int) -> PeakList:
        n_peak = int(buffers.counts[2, row])
        rows = buffers.first[row, :n_peak]
        if n_peak > FIRST_PEAKS:
            rows = buffers.further_peaks(row, n_peak, self._more)
        return peak_list(rows["fs"], rows["ss"], rows["panel"], rows["intensity"])


def _has_rules(masks: Masks) -> bool:
    """Whether a whole number can be bad by its value."""
    rules = masks.rules
    return bool(np.isfinite([rules.lessthan, rules.morethan]).any() or not np.isnan(rules.equal))


def _some_clen(geometry: Geometry) -> float:
    """A camera length, m, with all panels a metre and more from the sample, whatever frames will say.

    What is made ahead depends on x and y alone, unless there is ``--highres``.
    """
    return 1.0 - min(panel.coffset for panel in geometry.panels)
