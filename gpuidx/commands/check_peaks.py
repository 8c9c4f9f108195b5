# SPDX-License-Identifier: GPL-3.0-or-later
"""The peaks of one frame for ``gpuidx check``: how good they are, and which options would give more."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from gpuidx import peaks as peak_lists
from gpuidx.backends.discs import Radii, measure, pixels_of
from gpuidx.backends.values import float32_rules
from gpuidx.commands.check_image import Image
from gpuidx.commands.check_record import PeakSummary
from gpuidx.errors import OptionError
from gpuidx.model import Frame, PeakList
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline

LOWER = (2.0, 5.0, 20.0)
"""``--threshold`` and its like are tried divided by these."""

LEAST_SNR = 3.0
"""No lower ``--min-snr`` is suggested."""

FEWEST_TO_HELP = 10
"""Peaks that options must give to be suggested, if ``--min-peaks`` is less: as many as indexing needs."""


def searched(pipeline: Pipeline, frame: Frame) -> PeakList:
    """The peaks that a run would have; those sent along are checked."""
    if frame.peaks is not None:
        if not pipeline.options.revalidate:
            return frame.peaks
        made = (pipeline.geometry, pipeline.options, pipeline.masks, pipeline.filters)
        return peak_lists.validate(frame, frame.peaks, *made)
    batch = pipeline.backend.upload([frame])
    pipeline.backend.find_peaks(batch)
    return batch.peaks[0]


def summary(pipeline: Pipeline, frame: Frame, peaks: PeakList, image: Image | None) -> PeakSummary:
    """What is to be said of peaks.

    Parameters
    ----------
    pipeline
        Of the run.
    frame
        As it was sent.
    peaks
        By `searched`.
    image
        Of the frame; None without one.
    """
    options, inv_d = pipeline.options, peak_lists.one_over_d(peaks, frame)
    found = PeakSummary(
        method=options.peaks,
        least=options.min_peaks,
        n_peak=len(peaks),
        n_sent=None if frame.peaks is None else len(frame.peaks),
        resolution=(float(1 / inv_d.min()), float(1 / inv_d.max()))
        if len(peaks) and inv_d.min() > 0
        else None,
        snr=_snr(pipeline, frame, peaks) if image is not None else None,
        threshold=options.threshold if options.peaks in ("zaef", "peakfinder8") else None,
        n_above=image.n_above(options.threshold) if image is not None else 0,
        highest=image.highest() if image is not None else None,
    )
    return found if found.enough else replace(found, remedies=tuple(_remedies(pipeline, frame, found)))


def _snr(pipeline: Pipeline, frame: Frame, peaks: PeakList) -> tuple[float, float, float] | None:
    """Percentiles of intensity over sigma, by the disc and ring of ``--peak-radius``."""
    masks, options = pipeline.masks, pipeline.options
    assert frame.image is not None
    bad = masks.at(frame.detector, frame.wavelength)
    pixels = pixels_of(frame.image, bad, float32_rules(masks.rules), masks, frame.detector.rect)
    radii = Radii(*(float(int(radius)) for radius in options.peak_radius or options.int_radius))
    gain = pipeline.geometry.gain(frame.photon_energy)
    ratios = []
    for fs, ss, panel in zip(peaks.fs, peaks.ss, peaks.panel, strict=True):
        one = measure(pixels, panel, int(fs), int(ss), radii, gain[panel])
        if one.sure and one.variance > 0:
            ratios.append(one.intensity / one.variance**0.5)
    if not ratios:
        return None
    low, middle, high = np.percentile(ratios, (5, 50, 95))
    return float(low), float(middle), float(high)


def _remedies(pipeline: Pipeline, frame: Frame, found: PeakSummary) -> Iterator[tuple[str, int]]:
    """Options that give enough peaks, each alone, the mildest of its kind."""
    wanted = max(FEWEST_TO_HELP, pipeline.options.min_peaks)
    for attempts in _changes(pipeline.options, found):
        for changes in attempts:
            with suppress(OptionError):
                options = replace(pipeline.options, **{**changes, "indexing": "none"})  # type: ignore[arg-type]
                n_peak = len(searched(Pipeline(options, pipeline.geometry, None), frame))
                if n_peak >= wanted:
                    yield " ".join(_flag(name, value) for name, value in changes.items()), n_peak
                    break


def _changes(o: Options, found: PeakSummary) -> list[list[dict[str, float]]]:
    """Changes to try, by what is changed, the mildest of a kind first."""
    if found.n_sent is not None:
        return [[{"revalidate": False}]] if o.revalidate else []
    if not o.searches:
        return []
    highest = found.highest[0] if found.highest is not None else 0.0
    thresholds = [min(o.threshold, highest) / by for by in LOWER]
    lower: list[list[dict[str, float]]] = [[{"threshold": t} for t in thresholds]]
    if o.peaks == "zaef":  # a step of so many ADU from one pixel to the next has this gradient
        lower = [
            [{"threshold": t, "min_squared_gradient": min(o.min_squared_gradient, t * t)} for t in thresholds]
        ]
    if o.peaks == "peakfinder9":
        lower = [
            [{name: getattr(o, name) / by} for by in LOWER] for name in ("min_sig", "min_snr_biggest_pix")
        ]
    lower.append([{"min_snr": o.min_snr - less} for less in (1, 2) if o.min_snr - less >= LEAST_SNR])
    lower.append([{"min_pix_count": 1}] if o.min_pix_count > 1 and o.peaks != "zaef" else [])
    return lower + [[{name: 0}] if getattr(o, name) else [] for name in ("max_res", "min_res")]


def _flag(name: str, value: float) -> str:
    word = name.replace("_", "-")
    return f"--no-{word}" if value is False else f"--{word}={value:.4g}"
