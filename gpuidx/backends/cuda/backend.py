# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA backend: batches of frames through one device, several under way at a time.

Streams: *up* copies frames to the device, *work* runs the kernels, *down* copies results back, so that
the copies of one batch overlap the kernels of another.  Events order what belongs to one batch:

    up:    frames of a batch, as they are or compressed → `uploaded`
    work:  waits for `uploaded`; kernels → `searched`
    down:  waits for `searched`; results → `fetched`, which `results` waits for, then for the trials
    more:  then what few frames have more of; not on *down*, where the next batch waits for its kernels

A batch has room for its images from `upload` until they have been searched, and other buffers of its own
until the last of its results is given, so that a frame which takes many trials keeps no others waiting.  What
kernels need only while they run is shared, for they run one after the other on *work*.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.backends.cuda.axes_search import AxesSearch, axes_bytes
from gpuidx.backends.cuda.batch import CudaBatch, GroupKey
from gpuidx.backends.cuda.buffers import BatchBuffers, ImageBuffer, Sizes, batch_size, make_scratch
from gpuidx.backends.cuda.events import has_happened
from gpuidx.backends.cuda.kept_tables import KeptTables
from gpuidx.backends.cuda.kernels import Kernels
from gpuidx.backends.cuda.peakfinder8 import (
    FILE,
    DeviceTables,
    Saturation,
    defines,
    find_vectors,
    lanes_for,
    search,
)
from gpuidx.backends.cuda.pixels import TYPES, PixelUpload, limits_of, pixel_type
from gpuidx.backends.cuda.results import result
from gpuidx.backends.cuda.trials import DeviceTrials, trial_bytes
from gpuidx.backends.known_cell import KnownCell, shift_sigma
from gpuidx.backends.values import LARGEST, Rules, float32_rules
from gpuidx.cell import UnitCell
from gpuidx.errors import Rejected
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.model import Found, Frame
from gpuidx.options import Options

IN_FLIGHT = 2
"""Batches whose images are on the device: one is copied while the other is searched."""

UNFINISHED = 4
"""Batches under way, those included in which a few frames are still tried."""


class CudaBackend:
    """`backends.contract.DeviceBackend` on one CUDA device; belongs to the thread that made it.

    All kernels are compiled before this returns, so that no frame waits for that.

    Parameters
    ----------
    geometry, options, masks
        Of the run.
    cell
        The target cell; without one, axes are looked for of which a worker makes cells.  With
        ``--indexing=none`` there are no trials.
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
        Frames of a batch, and batches whose images are on the device at a time, at most.
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
        self._kernels: dict[tuple[str, int, bool], Kernels] = {}
        self._pixels = PixelUpload()
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
        has_cell, has_trials = cell is not None and cell.parameters is not None, options.makes_trials
        known = KnownCell(cell) if cell is not None and has_cell and has_trials else None

        def needed(n_frame: int) -> int:
            of_trials = trial_bytes(n_frame, UNFINISHED, known) if known else axes_bytes(n_frame, options)
            searched = sizes.bytes_needed(n_frame, self.in_flight, UNFINISHED)
            return searched + of_trials if has_trials else searched

        self.batch_size = batch_size(needed, free, options.gpu_batch or None, memory)
        self._tables = KeptTables(geometry, options, masks, self.batch_size)
        self._scratch = make_scratch(sizes, self.batch_size)
        self._free_images = [ImageBuffer(sizes, self.batch_size) for _ in range(self.in_flight)]
        self._free = [BatchBuffers(sizes, self.batch_size) for _ in range(UNFINISHED)]
        self._searched: list[CudaBatch] = []
        self._trials: Any = None  # `DeviceTrials` or `AxesSearch`, each with batches of its own kind
        if known is not None:
            self._trials = DeviceTrials(known, options, self.batch_size, min_peaks=options.min_peaks)
        elif has_trials:
            self._trials = AxesSearch(options, self.batch_size, min_peaks=options.min_peaks)
        if self._trials is not None:
            for buffers in self._free:
                buffers.trials = self._trials.new_batch()
        self._device.synchronize()  # what was cleared was so on the default stream
        self._ring: NDArray[np.uint8] | None = None
        if options.device_searches and compile_for:
            self._warm_up(compile_for)
        if ring is not None:
            self._lock_pages(np.frombuffer(ring, np.uint8))

    def _warm_up(self, types: Sequence[str]) -> None:
        """Compile the kernels for some types of pixels, and search a blank frame.

        That makes the tables of the run too, if the detector does not move.
        """
        for pixel in types:
            for n_frame in (self.batch_size, 1):
                self._kernels_for(pixel, lanes_for(n_frame), self._rules).compile()
            self._pixels.kernels_for(pixel).compile()
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

    @property
    def has_room(self) -> bool:
        """Whether another batch may be uploaded.

        Raises
        ------
        RuntimeError
            If the device has failed.
        """
        if not self._free_images:
            for batch in list(self._searched):
                if batch.fetched is not None and has_happened(batch.fetched):
                    self._give_images_back(batch)
        return bool(self._free_images and self._free)

    def upload(self, frames: Sequence[Frame]) -> CudaBatch:
        """Begin to copy the images of a batch; they must not change until they have been searched.

        Raises
        ------
        ValueError
            If there are more frames than fit, or `has_room` is not true.
        """
        all_groups = self._groups(frames)
        affordable = self._tables.affordable(key.tables for key, own in all_groups.items() for _ in own)
        made = {
            key: self._tables_for(frames[numbers[0]])
            for key, numbers in all_groups.items()
            if key.tables in affordable
        }
        tables = {key: own for key, own in made.items() if own is not None}
        groups = {key: all_groups[key] for key in tables}
        left = frozenset(n for key, numbers in all_groups.items() if key not in groups for n in numbers)
        order = [number for numbers in groups.values() for number in numbers]
        batch = CudaBatch(frames, {number: row for row, number in enumerate(order)}, left)
        if not order:
            return batch
        if len(order) > self.batch_size or not self.has_room:
            n_free = min(len(self._free), len(self._free_images))
            raise ValueError(f"{len(order)} frames, {n_free} free buffers of {self.batch_size}")
        batch.images, batch.buffers = self._free_images.pop(), self._free.pop()
        self._searched.append(batch)
        n_packed = 0
        for key, numbers in groups.items():
            own, first = [frames[number] for number in numbers], batch.rows[numbers[0]]
            part = self._pixels.send(batch.images, own, first, n_packed, tables[key], self._up)
            batch.parts.append(part)
            n_packed = part.end_packed
        if n_packed:
            batch.images.about[:n_packed].set(batch.images.host_about[:n_packed], stream=self._up)
        self._send_panels(batch.buffers, [frames[number] for number in order])
        batch.uploaded = self._up.record()
        return batch

    def _tables_for(self, frame: Frame) -> DeviceTables | None:
        """None if its detector is out of range; the CPU says why."""
        try:
            return self._tables.get(frame)
        except Rejected:
            return None

    def _groups(self, frames: Sequence[Frame]) -> dict[GroupKey, list[int]]:
        """Numbers of the frames that are searched, those together that can be searched together."""
        groups: dict[GroupKey, list[int]] = {}
        for number, frame in enumerate(frames):
            if frame.peaks is None and self._options.device_searches:
                dtype = pixel_type(frame, self._geometry.slab_shape)
                if dtype is not None:
                    key = GroupKey(dtype.str, limits_of(frame), self._tables.key(frame))
                    groups.setdefault(key, []).append(number)
        return groups

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
        if batch.buffers is None or batch.images is None:
            return
        self._work.wait_event(batch.uploaded)
        for part in batch.parts:
            lanes = lanes_for(part.end - part.first)
            rules = _within(self._rules, *part.limits)
            kernels = self._kernels_for(part.images.dtype.str[1:], lanes, rules)
            outcome = batch.buffers.outcome_of(part.first, part.end)
            self._pixels.decode(batch.images, part, outcome.damaged, self._work)
            search(
                kernels, lanes, self._work, part.images, part.tables, self._scratch, outcome, self._options,
                rules, self._saturation,
            )  # fmt: skip
        n_frame = len(batch.rows)
        find_vectors(
            kernels, self._work, batch.buffers.outcome_of(0, n_frame), batch.buffers.panels_of(n_frame)
        )
        self._down.wait_event(self._work.record())
        batch.buffers.fetch(n_frame, self._down)
        batch.fetched = self._down.record()

    def _kernels_for(self, pixel: str, lanes: int, rules: Rules) -> Kernels:
        key = pixel, lanes, _has_rules(rules)
        if key not in self._kernels:
            self._kernels[key] = Kernels(FILE, pixel, defines(self._options, lanes, has_rules=key[2]))
        return self._kernels[key]

    def index(self, batch: CudaBatch) -> None:
        """Begin the indexing trials of the frames that are searched; `done` keeps them going.

        With ``--indexing=none`` there are none.  Candidates of other frames are None; without a cell, of all.
        """
        if self._trials is None or batch.buffers is None or batch.fetched is None:
            return
        buffers, n_frame = batch.buffers, len(batch.rows)
        batch.trials = buffers.trials
        outcome = buffers.outcome
        self._trials.start(batch.trials, outcome.q, outcome.n_peak, buffers.shift_sigma, n_frame, self._work)

    def finished(self, batch: CudaBatch) -> list[tuple[int, Found | None]]:
        """Results that are ready and were not given before, with the numbers of their frames; never waits.

        For None see `results`.

        Raises
        ------
        RuntimeError
            If the device has failed.
        """
        if batch.fetched is not None and not has_happened(batch.fetched):
            return []
        if batch.trials is not None and self._trials is not None:
            self._trials.advance(batch.trials, self._work)
        ready = [number for number in batch.waiting if batch.is_ready(number)]
        most_candidates = self._scratch.candidates.shape[1]
        found = [(number, result(batch, number, most_candidates, self._more)) for number in ready]
        batch.waiting = [number for number in batch.waiting if not batch.is_ready(number)]
        if not batch.waiting:
            self._give_back(batch)
        return found

    def results(self, batch: CudaBatch) -> list[Found | None]:
        """Peaks and lattices of each frame of a batch that `finished` was not asked about; waits for them.

        None for a frame whose detector is out of range, or with more of something than there is room for:
        that is candidates, pixels of a peak, or positions of the detector and masks in the batch.
        """
        if batch.uploaded is not None:
            (batch.fetched or batch.uploaded).synchronize()
        if batch.trials is not None and self._trials is not None:
            self._trials.finish(batch.trials, self._work)
        return [found for _, found in self.finished(batch)]

    def _give_images_back(self, batch: CudaBatch) -> None:
        if batch.images is not None:
            self._searched.remove(batch)
            self._free_images.append(batch.images)
            batch.images, batch.parts = None, []

    def _give_back(self, batch: CudaBatch) -> None:
        self._give_images_back(batch)
        if batch.buffers is not None:
            self._free.append(batch.buffers)
            batch.buffers = None


def _within(rules: Rules, low: float, high: float) -> Rules:
    """The rules with limits that may be stricter."""
    lessthan, morethan = max(rules.lessthan, np.float32(low)), min(rules.morethan, np.float32(high))
    return rules._replace(lessthan=lessthan, morethan=morethan)


def _has_rules(rules: Rules) -> bool:
    """Whether a whole number can be bad by its value."""
    return bool(rules.lessthan > -LARGEST or rules.morethan < LARGEST or not np.isnan(rules.equal))


def _some_clen(geometry: Geometry) -> float:
    """A camera length, m, with all panels a metre and more from the sample, whatever frames will say.

    What is made ahead depends on x and y alone, unless there is ``--highres``.
    """
    return 1.0 - min(panel.coffset for panel in geometry.panels)
