# SPDX-License-Identifier: GPL-3.0-or-later
"""peakfinder8 on a device: which kernel runs on what, in order.

See ``kernels/peakfinder8.cu`` for what the kernels do.  Nothing here waits for the device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuidx.backends.cuda.kernels import Kernels, c_float
from gpuidx.backends.cuda.tables import Tables
from gpuidx.backends.rings import FALLBACK_SIGMA, FIRST_LIMIT, MASKED, MAX_PEAKS, ROUNDS, TINY
from gpuidx.backends.values import LARGEST, SMALLEST, Rules
from gpuidx.options import PeakOptions

FILE = "peakfinder8.cu"

FEW, MANY = 8, 32
"""Frames side by side: for batches of up to so many, and for larger ones."""

QUEUES = (200, 1000)
"""Pixels of a peak that a thread can hold; the CPU does frames with larger ones that the options allow."""

PIXELS_PER_CANDIDATE, FEWEST_CANDIDATES = 128, 4096
"""Room for candidate pixels: one in so many pixels, but at least so many; the CPU does frames with more."""

MOST_RADIUS = 16383
"""Largest radius of a background that kernels are given: a greater one reaches no further on any panel, and
squares of distances must fit 32 bits."""

WORDS_AT_ONCE = 4
"""32-bit words of the map of candidates that are read at once."""

PEAK = np.dtype(
    [("fs", "f4"), ("ss", "f4"), ("intensity", "f4"), ("highest", "f4"), ("panel", "i4"), ("saturated", "i4")]
)
"""``struct Peak`` of the kernels."""


def lanes_for(n_frame: int) -> int:
    """Frames side by side in a batch of *n_frame*."""
    return FEW if n_frame <= FEW else MANY


def n_word(n_position: int) -> int:
    """Words of a frame's map of candidates."""
    return WORDS_AT_ONCE * -(-n_position // (32 * WORDS_AT_ONCE))


def most_candidates(n_position: int) -> int:
    """Candidate pixels of a frame that there is room for."""
    return max(FEWEST_CANDIDATES, n_position // PIXELS_PER_CANDIDATE)


def defines(options: PeakOptions, lanes: int, *, has_rules: bool) -> dict[str, str | int]:
    """What the source of the kernels expects to be defined, besides the type of the pixels."""
    return {
        "LANES": lanes,
        "HAS_RULES": int(has_rules),
        "SAMPLED": int(options.peakfinder8_fast),
        "QUEUE": QUEUES[0] if options.max_pix_count <= QUEUES[0] else QUEUES[1],
        "ROUNDS": ROUNDS,
        "FIRST_LIMIT": c_float(FIRST_LIMIT),
        "MASKED": MASKED,
        "MAX_PEAKS": MAX_PEAKS,
        "TINY": repr(TINY),
        "FALLBACK_SIGMA": c_float(FALLBACK_SIGMA),
        "SMALLEST": c_float(SMALLEST),
        "LARGEST": c_float(LARGEST),
    }


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """`Tables` on the device, and the rings' numbers of each frame.

    Attributes
    ----------
    host
        The same on the host.
    arrays
        Arrays of `Tables` on the device, by name.
    mean, upper : (frame, ring) float32
        Written by the kernels, ADU.
    """

    host: Tables
    arrays: dict[str, Any]
    mean: Any
    upper: Any


@dataclass(frozen=True, eq=False)
class Scratch:
    """Room that a search needs only while it runs; every batch uses the same, one after the other.

    Attributes
    ----------
    sorted : bytes
        Pixels ring by ring.
    bits : (frame, word) uint32
    candidates : (frame, most) int32
    records : (frame, most × 6) float32
    """

    sorted: Any
    bits: Any
    candidates: Any
    records: Any


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search leaves on the device, for the frames of a batch.

    Attributes
    ----------
    n_candidate, overflow, n_peak, damaged : (frame,) int32
        Candidate pixels, perhaps more than there was room for; not 0 if a peak had no room; peaks; not 0 if
        compressed pixels were damaged.
    peaks : (frame, MAX_PEAKS × 6) float32
        `PEAK` each.
    place_of : (frame, MAX_PEAKS) int32
        Place of each peak when the strongest come first.
    q : (frame, MAX_PEAKS, xyz) float64
        Scattering vectors of the peaks in that order, Å⁻¹.
    """

    n_candidate: Any
    overflow: Any
    n_peak: Any
    damaged: Any
    peaks: Any
    place_of: Any
    q: Any


@dataclass(frozen=True, eq=False)
class Saturation:
    """What is saturated.

    Attributes
    ----------
    max_adu : (panel,) float64
        ADU.
    limits : (pixel,) float32
        Values above which a pixel is saturated, ADU; None without a map.
    drop
        Whether saturated peaks are dropped (``--no-use-saturated``).
    """

    max_adu: Any
    limits: Any | None
    drop: bool


@dataclass(frozen=True, eq=False)
class Panels:
    """Where the frames' panels are.

    Attributes
    ----------
    panels : (detector, panel, 9) float64
        Corner, step along fs, step along ss; px.
    detector_of : (frame,) int32
    wavelength : (frame,) float64
        Å.
    """

    panels: Any
    detector_of: Any
    wavelength: Any


def search(
    kernels: Kernels,
    lanes: int,
    stream: Any,
    frames: Any,
    tables: DeviceTables,
    scratch: Scratch,
    outcome: Outcome,
    options: PeakOptions,
    rules: Rules,
    saturation: Saturation,
) -> None:
    """Start the search of some frames with the same rings and type of pixels.

    Parameters
    ----------
    kernels, lanes
        Compiled for the type of pixels and so many frames side by side.
    stream
        That the kernels run on.
    frames : (frame, pixel)
        On the device.
    tables, scratch, outcome
        Of at least as many frames; of *outcome* exactly the frames' own part.
    options, rules, saturation
        Of the run.
    """
    host, on_device = tables.host, tables.arrays
    n_frame, n_pixel = frames.shape
    group = (n_frame + lanes - 1) // lanes
    words, most = n_word(host.n_position), scratch.candidates.shape[1]
    bits = scratch.bits.reshape(-1)[: n_frame * words]
    bits.data.memset_async(0, bits.nbytes, stream)
    outcome.overflow.data.memset_async(0, outcome.overflow.nbytes, stream)
    limits = {"lessthan": rules.lessthan, "morethan": rules.morethan, "equal": rules.equal}
    ordered = scratch.sorted.view(frames.dtype)
    kernels.launch(
        "sort_by_ring", (_ceil(n_pixel, kernels.numbers["TILE"]), group), stream,
        frames=frames, place_of=on_device["place_of"], sorted=ordered,
        n_frame=n_frame, n_pixel=n_pixel, n_place=host.n_place, **limits,
    )  # fmt: skip
    kernels.launch(
        "clip_rings", (_ceil(host.n_ring * lanes, kernels.threads("clip_rings")), group), stream,
        sorted=ordered, ring_of=on_device["ring_of"], ring_start=on_device["ring_start"],
        position_of=on_device["position_of"], sample_start=on_device["sample_start"],
        sample=on_device["sample"], mean=tables.mean, upper=tables.upper, bits=bits,
        n_frame=n_frame, n_ring=host.n_ring, n_place=host.n_place, n_word=words,
        min_snr=options.min_snr, threshold=options.threshold, **limits,
    )  # fmt: skip
    kernels.launch(
        "list_candidates", (n_frame,), stream,
        bits=bits, candidates=scratch.candidates, n_candidate=outcome.n_candidate,
        n_quad=words // WORDS_AT_ONCE, most=most,
    )  # fmt: skip
    kernels.launch(
        "grow_peaks", (_ceil(most, kernels.threads("grow_peaks")), n_frame), stream,
        frames=frames, bits=bits, candidates=scratch.candidates, n_candidate=outcome.n_candidate,
        ring=on_device["ring"], mean=tables.mean, upper=tables.upper,
        panel_start=on_device["panel_start"], rect=on_device["rect"], placement=on_device["placement"],
        saturation=on_device["placement"].view("f4") if saturation.limits is None else saturation.limits,
        records=scratch.records, overflow=outcome.overflow, n_pixel=n_pixel, slab_width=host.slab_width,
        n_panel=len(host.rect), n_ring=host.n_ring, n_word=words, most=most,
        has_saturation=saturation.limits is not None, min_pix_count=options.min_pix_count,
        max_pix_count=options.max_pix_count, local_bg_radius=min(options.local_bg_radius, MOST_RADIUS),
        min_snr=options.min_snr, **limits,
    )  # fmt: skip
    kernels.launch(
        "collect_peaks", (n_frame,), stream,
        records=scratch.records, n_candidate=outcome.n_candidate, peaks=outcome.peaks,
        n_peak=outcome.n_peak, max_adu=saturation.max_adu, most=most, drop_saturated=saturation.drop,
    )  # fmt: skip


def find_vectors(kernels: Kernels, stream: Any, outcome: Outcome, panels: Panels) -> None:
    """Start the computation of the scattering vectors of the peaks of some frames, strongest first."""
    n_frame = len(outcome.n_peak)
    kernels.launch(
        "order_by_strength", (n_frame,), stream,
        peaks=outcome.peaks, n_peak=outcome.n_peak, place_of=outcome.place_of,
    )  # fmt: skip
    kernels.launch(
        "scattering_vectors", (_ceil(MAX_PEAKS, kernels.threads("scattering_vectors")), n_frame), stream,
        peaks=outcome.peaks, n_peak=outcome.n_peak, panels=panels.panels,
        detector_of=panels.detector_of, wavelength=panels.wavelength, place_of=outcome.place_of, q=outcome.q,
        n_panel=panels.panels.shape[1],
    )  # fmt: skip


def _ceil(number: int, unit: int) -> int:
    return -(-number // unit)
