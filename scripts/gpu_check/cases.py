# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: runs (geometry, options, masks) with the frames of their batches.

Most come from the tests of the peak search, ``tests/backends/peakfinder8_cases.py``; the others vary what
those do not: all pixel types and detector positions in one batch, saturation, peaks and candidates beyond
the caps.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from backends.peakfinder8_cases import (
    CLEN,
    PHOTON_ENERGY,
    FixedMasks,
    Numbers,
    add_spots,
    large_case,
    make_counts,
    make_geometry,
    make_panel,
    small_case,
)

from gpuidx.backends.cuda import backend as cuda_backend
from gpuidx.geometry.detector import Geometry
from gpuidx.model import PIXEL_TYPES, Frame
from gpuidx.options import Options, PeakOptions
from gpuidx.units import wavelength_of_energy

TYPES = tuple(getattr(cuda_backend, "TYPES", PIXEL_TYPES))
"""dtypes that the CUDA backend takes."""

FIRST_SMALL = 12
"""Small cases before the large ones, the rest behind them: what comes late may be left out."""

TINY_BATCHES, LARGE_BATCHES = (3, 11), (3,)
"""Frames of the batches of each run: fewer than lie side by side, in both ways of lying."""


@dataclass
class Run:
    """One backend's work: batches of frames with the same options.

    Attributes
    ----------
    has_over
        Whether a frame has more of something than the device has room for, and must come back without peaks.
    """

    name: str
    geometry: Geometry
    options: PeakOptions
    masks: FixedMasks
    batches: list[list[Frame]]
    has_over: bool = False


def for_cpu(frame: Frame) -> Frame:
    """The frame with its pixels as the CPU's search takes them: bytes become two."""
    kind = frame.image.dtype.str[1:]
    wider = {"u1": "u2", "i1": "i2"}.get(kind, kind)
    return frame if kind in PIXEL_TYPES else replace(frame, image=frame.image.astype(wider))


def run_options(peak: PeakOptions, **more: object) -> Options:
    """Options of a run with these options of the peak search."""
    given = {
        "geometry": "case.geom", "output": "case.stream", "zmq_input": ("tcp://case:1",),
        "zmq_request": "next", "indexing": "none",
    }  # fmt: skip
    return Options(**(given | asdict(peak) | more))


def small_run(number: int) -> Run:
    """A small case of the tests: the frame itself, a blank one, and the same pixels moved and mirrored."""
    case = small_case(number)
    image = case.image
    moved = np.roll(image, (3, 5), (0, 1))
    variants = [image, np.zeros_like(image), moved, image[::-1].copy(), image[:, ::-1].copy()]
    frames = [replace(case.frame, image=variant) for variant in variants]
    batches = [[frames[i % len(frames)] for i in range(n)] for n in TINY_BATCHES]
    return Run(f"small case {number}", case.geometry, case.options, case.masks, batches)


def large_run(number: int) -> Run:
    """A 4-megapixel case of the tests, a blank, and the mirrored frame."""
    case = large_case(number)
    frames = [
        replace(case.frame, image=i) for i in (case.image, np.zeros_like(case.image), case.image[::-1].copy())
    ]
    batches = [frames[:n] for n in LARGE_BATCHES]
    return Run(f"large case {number}", case.geometry, case.options, case.masks, batches)


def _panels(max_adu: float = np.inf) -> Geometry:
    """Four panels, side by side and with gaps in the slab, turned and tilted."""
    boxes = ((0, 0, 60, 48), (63, 0, 57, 50), (2, 52, 58, 61), (64, 55, 56, 58))
    corners = ((-70.2, -61.3), (4.1, -60.7), (-69.5, 5.6), (5.2, 4.4))
    panels = [
        make_panel(f"p{k}", box, corner, (0.9998, 0.02 - 0.01 * k), (0.01 * k - 0.02, 0.9998), max_adu)
        for k, (box, corner) in enumerate(zip(boxes, corners, strict=True))
    ]
    return make_geometry(panels, (114, 121))


def _frame(geometry: Geometry, image: np.ndarray, **position: float) -> Frame:
    at = {"clen": CLEN, "shift_x": 0.0, "shift_y": 0.0} | position
    energy = at.pop("photon_energy", PHOTON_ENERGY)
    return Frame(
        serial=1, filename="case", event="//", image=image, wavelength=wavelength_of_energy(energy),
        photon_energy=energy, detector=geometry.detector(at["clen"], at["shift_x"], at["shift_y"]),
    )  # fmt: skip


def _counts(geometry: Geometry, seed: int, height: int = 400) -> np.ndarray:
    numbers = Numbers(5000 + seed)
    counts = make_counts(numbers, geometry, 2.0, 60, 16)
    add_spots(numbers, geometry, counts, 12, height)
    return counts


def _as(counts: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "f4":
        return (counts.astype(np.float32) * np.float32(1.37)) - np.float32(0.25)
    info = np.iinfo(dtype)
    return np.clip(counts, info.min, info.max).astype(dtype)


def _options(**more: object) -> PeakOptions:
    return PeakOptions(
        **({"peaks": "peakfinder8", "threshold": 8.0, "min_snr": 4.0, "min_pix_count": 1} | more)
    )


def _types() -> Run:
    """Every pixel type in one batch, blanks and NaN among them."""
    geometry = _panels()
    frames = []
    for number, dtype in enumerate(TYPES):
        counts = _counts(geometry, number)
        frames += [_frame(geometry, _as(counts, dtype)), _frame(geometry, _as(0 * counts, dtype))]
    holes = _as(_counts(geometry, 99), "f4")
    holes[::7, ::3] = np.nan
    holes[5, 5], holes[6, 6] = np.inf, -np.inf
    frames.append(_frame(geometry, holes))
    return Run("all pixel types", geometry, _options(), FixedMasks(geometry), [frames, frames[::-1][:9]])


def _positions() -> Run:
    """Frames of different shift, camera length and wavelength in one batch."""
    geometry = _panels()
    frames = []
    for number in range(13):
        position = {
            "shift_x": (0.0, 2.3e-4)[number // 2 % 2], "shift_y": (0.0, 1.7e-4)[number // 2 % 2],
            "clen": CLEN + 1e-4 * number, "photon_energy": PHOTON_ENERGY + 3.7 * number,
        }  # fmt: skip
        frames.append(
            _frame(geometry, _as(_counts(geometry, 20 + number), ("u2", "i4")[number % 2]), **position)
        )
    return Run("positions and wavelengths", geometry, _options(), FixedMasks(geometry), [frames, frames[:5]])


def _saturation() -> Run:
    """Saturated peaks dropped, by ``max_adu`` and by a map."""
    geometry = _panels(300.0)
    masks = FixedMasks(geometry)
    limits = np.full(geometry.slab_shape, np.inf, np.float32)
    limits[:40] = 120.0
    masks.saturation_map = limits
    frames = [_frame(geometry, _as(_counts(geometry, 40 + k, 900), ("u2", "f4")[k % 2])) for k in range(10)]
    return Run("saturation", geometry, _options(use_saturated=False), masks, [frames])


def _fast() -> Run:
    """``--peakfinder8-fast``."""
    geometry = _panels()
    frames = [_frame(geometry, _as(_counts(geometry, 60 + k), TYPES[k % len(TYPES)])) for k in range(10)]
    return Run("fast", geometry, _options(peakfinder8_fast=True), FixedMasks(geometry), [frames])


def _one_panel(side: int) -> Geometry:
    return make_geometry([make_panel("p0", (0, 0, side, side), (-side / 2, -side / 2))], (side, side))


def _candidates() -> Run:
    """Evenly spread values, half of them above the limit: more candidates than there is room for."""
    geometry = _one_panel(128)
    crowded = (Numbers(77).words(128 * 128).reshape(128, 128) % np.uint64(1000)).astype("i4")
    plain = _as(_counts(geometry, 78), "i4")
    frames = [_frame(geometry, plain), _frame(geometry, crowded), _frame(geometry, plain)]
    options = _options(min_snr=0.5, max_pix_count=100)
    return Run("too many candidates", geometry, options, FixedMasks(geometry), [frames], has_over=True)


def _queue() -> Run:
    """A peak of more pixels than a thread can hold."""
    geometry = _one_panel(256)
    large = _as(_counts(geometry, 79), "u2")
    large[30:70, 30:70] = 3000
    frames = [_frame(geometry, large), _frame(geometry, _as(_counts(geometry, 80), "u2"))]
    options = _options(min_snr=1.0, max_pix_count=5000)
    return Run("too large a peak", geometry, options, FixedMasks(geometry), [frames], has_over=True)


GROUPS: dict[str, Callable[[], Run]] = {
    "types": _types, "positions": _positions, "saturation": _saturation, "fast": _fast,
    "candidates": _candidates, "queue": _queue,
}  # fmt: skip


def all_runs(small: range, large: range, groups: tuple[str, ...]) -> Iterator[Run]:
    """The runs, made one at a time: large frames take memory."""
    for name in groups:
        yield GROUPS[name]()
    for number in small[:FIRST_SMALL]:
        yield small_run(number)
    for number in large:
        yield large_run(number)
    for number in small[FIRST_SMALL:]:
        yield small_run(number)
