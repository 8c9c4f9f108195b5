# SPDX-License-Identifier: GPL-3.0-or-later
"""A short proof that the peak search on the pretended device is right: frames that touch every rule of it.

It goes as a run does: images lie in slots of a registered ring, two batches are under way, and a slot is used
again once its frame's results are there.
"""

import gc
from dataclasses import dataclass, replace
from functools import cache
from unittest.mock import patch

import numpy as np
from backends import peakfinder8_cases as cases
from backends.peakfinder8_reference import search
from backends.ways import DEVICE, cuda_backend, finished

from gpuidx.backends.cpu.peakfinder8 import PeakFinder
from gpuidx.backends.cuda import peakfinder8
from gpuidx.backends.peak_table import strongest_first
from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.masks import ValueRules
from gpuidx.model import Frame, PeakList
from gpuidx.options import PeakOptions

SIZE = (113, 182)
MOST_CANDIDATES = 700
QUEUE = 64
FRAMES_AT_ONCE = 6
OPTIONS = PeakOptions(
    peaks="peakfinder8", threshold=4.0, min_snr=4.0, min_pix_count=2, max_pix_count=80, local_bg_radius=3
)
SATURATED = 60000


@dataclass(frozen=True)
class Kind:
    """One frame of the proof.

    Attributes
    ----------
    n_spot
        Spots on each panel.
    shift_x, clen
        Of the detector, m.
    over
        Cap that the frame is over, so that the device leaves it to the CPU: room in the ``"list"`` of
        candidates or in the ``"queue"`` of a peak.
    """

    n_spot: int
    shift_x: float = 0.0
    clen: float = cases.CLEN
    wavelength: float = 1.3
    over: str = ""


BATCHES = (
    (
        Kind(12, over="queue"), Kind(30, over="list"), Kind(0), Kind(20, clen=0.1, wavelength=0.9),
        Kind(40), Kind(50, shift_x=0.002, over="list"),
    ),
    (Kind(55), Kind(30, wavelength=1.1), Kind(40, shift_x=0.002)),
    (Kind(10, shift_x=-0.003), Kind(15, wavelength=1.7)),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is searched and what must be found; None where the CPU has to do a frame.

    *rings*: means and limits for each frame of the last batch, (2, ring).
    """

    geometry: Geometry
    masks: cases.FixedMasks
    batches: tuple[tuple[Frame, ...], ...]
    expected: tuple[tuple[PeakList | None, ...], ...]
    rings: tuple[np.ndarray, ...]


@cache
def make_case(pixel: str) -> Case:
    """The frames of `BATCHES` as pixels of one type."""
    panels = [
        cases.make_panel("left", (0, 2, 93, 101), (-96.3, -50.2)),
        cases.make_panel("right", (97, 0, 85, 110), (3.4, 61.7), (0.02, -1.0), (1.0, 0.02)),
    ]
    geometry = cases.make_geometry(panels, SIZE)
    numbers = cases.Numbers(8)
    bad = numbers.words(SIZE[0] * SIZE[1]).reshape(SIZE) % np.uint64(100) < 1
    rules = ValueRules(morethan=float(SATURATED))
    masks = cases.FixedMasks(geometry, bad, rules)
    finder = PeakFinder(geometry, OPTIONS, masks)
    batches = tuple(tuple(_frame(numbers, geometry, pixel, kind) for kind in kinds) for kinds in BATCHES)
    expected = tuple(
        tuple(None if kind.over else finder.find(frame) for kind, frame in zip(kinds, frames, strict=True))
        for kinds, frames in zip(BATCHES, batches, strict=True)
    )
    # of the last batch, whose frames lie apart: on the device others have been written over
    limits = tuple(
        np.stack(search(frame.image, frame.detector, bad, rules, OPTIONS)[:2]) for frame in batches[-1]
    )
    return Case(geometry, masks, batches, expected, limits)


def _frame(numbers: cases.Numbers, geometry: Geometry, pixel: str, kind: Kind) -> Frame:
    counts = cases.make_counts(numbers, geometry, 1, 90, 16)
    cases.add_spots(numbers, geometry, counts, kind.n_spot, 160)
    counts.reshape(-1)[numbers.words(40).astype(np.intp) % counts.size] = SATURATED + 1
    counts.reshape(-1)[numbers.words(40).astype(np.intp) % counts.size] = SATURATED
    counts[32, 91:93], counts[33, :2] = 400, 400  # at two borders of a panel: not one peak
    if kind.over == "queue":
        counts[40:50, 20:28] = 2000
    if kind.over == "list":
        counts[::4, ::5] += 80
    image = counts.astype(pixel)
    if pixel[0] != "u":
        image -= 1
    if pixel[0] == "f":
        image *= np.float32(3.7)  # so that sums are rounded
    detector = geometry.detector(kind.clen, kind.shift_x)
    return replace(cases.make_frame(geometry, image), wavelength=kind.wavelength, detector=detector)


class Slots:
    """A ring of slots for the images of two batches."""

    def __init__(self, case: Case) -> None:
        first = case.batches[0][0].image
        self.memory = np.empty((2, FRAMES_AT_ONCE, *first.shape), first.dtype)

    def filled(self, number: int, frames: tuple[Frame, ...]) -> list[Frame]:
        """Frames of batch *number* with their images in slots."""
        own = self.memory[number % 2][: len(frames)]
        for slot, frame in zip(own, frames, strict=True):
            slot[...] = frame.image
        return [replace(frame, image=slot) for slot, frame in zip(own, frames, strict=True)]


def findings(order="lazy", check=False, pixel="i4", between=None) -> set[str]:
    """What is wrong with a run; nothing where all is as it should be.

    Parameters
    ----------
    order, check
        Of the pretended device.
    pixel
        dtype of the images.
    between
        Called with the frames in their slots and the number of the batch, after its search was started.

    Returns
    -------
    found
        ``"peaks"``, ``"vectors"``, ``"caps"`` (a frame that is over a cap, or not, without saying so),
        ``"rings"`` (means and limits of the last batch); kinds of faults that the device reports (``"race"``,
        …); names of exceptions.
    """
    case, found = make_case(pixel), set()
    DEVICE.reset()
    _forget()
    DEVICE.set(order=order, check=check)
    try:
        _search(case, found, between)
    except Exception as error:
        found.add(type(error).__name__)
    DEVICE.reset()
    DEVICE.set(order="lazy", check=False)
    _forget()
    return found


def _forget() -> None:
    """Give all memory back, so that nothing is found in it that was left by another run."""
    import cupy

    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def _kind(message: str) -> str:
    """From "kernel: kind: text"; any other message as it is."""
    parts = message.split(": ")
    return parts[1] if len(parts) > 2 else message


def _search(case: Case, found: set[str], between) -> None:
    slots = Slots(case)
    few = {"QUEUES": (4, QUEUE), "FEWEST_CANDIDATES": MOST_CANDIDATES}
    with patch.multiple(peakfinder8, **few):
        ring = memoryview(slots.memory).cast("B")
        backend = cuda_backend(case.geometry, OPTIONS, case.masks, ring=ring, gpu_batch=FRAMES_AT_ONCE)
        try:
            under_way = []
            for number, frames in enumerate(case.batches):
                if len(under_way) == backend.in_flight:
                    _compare(case, backend, found, *under_way.pop(0))
                placed = slots.filled(number, frames)
                batch = backend.upload(placed)
                parts = batch.parts
                backend.find_peaks(batch)
                under_way.append((number, batch))
                if between is not None:
                    between(number, placed)
            while under_way:
                _compare(case, backend, found, *under_way.pop(0))
            if not all(map(np.array_equal, _rings(parts), case.rings)):
                found.add("rings")
        finally:
            found |= {_kind(message) for message in DEVICE.messages}
            DEVICE.reset()  # a device that has failed gives no memory back
            backend.close()


def _rings(parts) -> list[np.ndarray]:
    """Means and limits of the rings of the first frame of each part of a batch that is done."""
    pairs = ((part.tables.mean, part.tables.upper) for part in parts)
    return [np.stack([mean[0].get(), upper[0].get()]) for mean, upper in pairs]


def _compare(case: Case, backend, found: set[str], number: int, batch) -> None:
    rows, buffers = dict(batch.rows), batch.buffers
    results = finished(backend, batch) if number % 2 else backend.results(batch)
    for i, (result, expected) in enumerate(zip(results, case.expected[number], strict=True)):
        if result is None or expected is None:
            found |= {"caps"} if result is not expected else set()
            continue
        peaks, frame = result.peaks, case.batches[number][i]
        if not _equal(peaks, expected):
            found.add("peaks")
            continue
        q = frame.detector.q(peaks.panel.astype(np.intp), peaks.fs, peaks.ss, frame.wavelength)
        q = q[strongest_first(peaks.intensity)]
        if not np.array_equal(buffers.outcome.q[rows[i], : len(peaks)].get(), q):
            found.add("vectors")


def _equal(peaks: PeakList, expected: PeakList) -> bool:
    return all(
        np.array_equal(getattr(peaks, name), getattr(expected, name))
        for name in ("fs", "ss", "panel", "intensity")
    )
