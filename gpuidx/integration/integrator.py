# SPDX-License-Identifier: GPL-3.0-or-later
"""Crystals with their reflections: prediction and integration of one frame."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Geometry
from gpuidx.geometry.ewald import offset_of_shift, shifted_back
from gpuidx.geometry.masks import Masks
from gpuidx.integration import boxes, prof2d, rings
from gpuidx.integration.method import parse_method
from gpuidx.integration.pixels import Pixels, Tables, box_tables, mark_discs, value_rules
from gpuidx.integration.prediction import FAR, Predictions, predict
from gpuidx.model import Crystal, Frame, Reflections
from gpuidx.options import IntegrationOptions

log = logging.getLogger(__name__)

OVERPREDICTION = 5.0
"""Times the profile radius, with ``--overpredict``."""

PER_NM = 0.1
"""Å⁻¹ in 1 nm⁻¹."""

NO_PROFILE = "crystals without reflections: no spot was clear enough for a profile (prof2d)"
"""A note."""

_FIRST_CAPACITY = 8192


class Integrator:
    """Predicts and integrates the reflections of each crystal; made once per worker.

    Parameters
    ----------
    geometry, masks
        Of the run.
    options
        ``--integration`` and what belongs to it.

    Attributes
    ----------
    notes
        What went wrong without harm to the rest, and how often.
    """

    def __init__(self, geometry: Geometry, masks: Masks, options: IntegrationOptions) -> None:
        self._geometry, self._masks = geometry, masks
        self.notes: Counter[str] = Counter()
        self._method = None if options.cell_parameters_only else parse_method(options.integration)
        self._radius_factor = OVERPREDICTION if options.overpredict else 1.0
        self._push_res = options.push_res * PER_NM
        height, self._width = geometry.slab_shape
        self._tables: Tables = box_tables(options.int_radius, self._width)
        self._counts = np.zeros(height * self._width, np.int16)
        self._max_adu = np.array([panel.max_adu for panel in geometry.panels])
        self._gain_at_zero = geometry.gain(0.0)
        self._gain_per_ev = geometry.gain(1.0) - self._gain_at_zero
        self._limits = self._saturation_limits()
        rules = masks.rules
        self._rules = value_rules(rules.lessthan, rules.morethan, rules.equal)
        self._allocate(_FIRST_CAPACITY)

    def measure(self, frame: Frame, crystals: Sequence[Crystal]) -> tuple[Crystal, ...]:
        """The crystals with the reflections that could be integrated.

        Spots of all crystals are marked before any is measured, so none is background of another.
        Crystals stay without reflections if there are no pixels or integration is turned off.
        """
        if self._method is None or frame.image is None or not crystals:
            return tuple(crystals)
        predictions = [self.predicted(frame, crystal) for crystal in crystals]
        positions = [np.stack([spots.fs, spots.ss], axis=1) for spots in predictions]
        rect = frame.detector.rect
        pixels = Pixels(
            frame.image.reshape(-1),
            self._masks.at(frame.detector, frame.wavelength).reshape(-1),
            self._counts,
            self._rules,
            self._limits if frame.saturation is None else frame.saturation.reshape(-1),
        )
        gain = self._gain_at_zero + self._gain_per_ev * frame.photon_energy
        self._mark(predictions, positions, rect, 1)
        try:
            return tuple(
                replace(crystal, reflections=self._integrate(pixels, spots, position, rect, gain))
                for crystal, spots, position in zip(crystals, predictions, positions, strict=True)
            )
        finally:
            self._mark(predictions, positions, rect, -1)

    def predicted(self, frame: Frame, crystal: Crystal) -> Predictions:
        """Spots of one crystal, up to its resolution limit and ``--push-res`` beyond, sorted by h, k, l."""
        detector, wavenumber = frame.detector, 1.0 / frame.wavelength
        back = detector.back
        if crystal.shift != (0.0, 0.0):
            back = shifted_back(back, offset_of_shift(detector, crystal.shift))
        recip = np.array(crystal.recip, np.float64, order="C")
        while True:
            found = predict(
                recip,
                ord(crystal.centering),
                wavenumber,
                crystal.profile_radius * self._radius_factor,
                self._geometry.bandwidth,
                detector.max_q * wavenumber,
                min(crystal.resolution_limit + self._push_res, FAR),
                back,
                detector.rect,
                self._hkl,
                self._position,
                self._panel,
            )
            if found <= len(self._hkl):
                break
            self._allocate(2 * found)
        return Predictions(
            hkl=self._hkl[:found].copy(),
            fs=self._position[:found, 0].copy(),
            ss=self._position[:found, 1].copy(),
            panel=self._panel[:found].copy(),
        )

    def _allocate(self, capacity: int) -> None:
        self._hkl = np.empty((capacity, 3), np.int32)
        self._position = np.empty((capacity, 2))
        self._panel = np.empty(capacity, np.int32)
        self._results = np.empty((capacity, 6))
        self._chosen = np.empty(capacity, np.int64)

    def _saturation_limits(self) -> NDArray[np.float32]:
        limits = self._masks.saturation_map
        if limits is None:
            return np.empty(0, np.float32)
        return np.ascontiguousarray(limits, np.float32).reshape(-1)

    def _mark(
        self,
        predictions: Sequence[Predictions],
        positions: Sequence[NDArray[np.float64]],
        rect: NDArray[np.int32],
        step: int,
    ) -> None:
        for spots, position in zip(predictions, positions, strict=True):
            mark_discs(self._counts, position, spots.panel, rect, self._width, self._tables.mark, step)

    def _integrate(
        self,
        pixels: Pixels,
        spots: Predictions,
        position: NDArray[np.float64],
        rect: NDArray[np.int32],
        gain: NDArray[np.float64],
    ) -> Reflections:
        method = self._method
        assert method is not None
        where = (pixels, self._tables, self._width, position, spots.panel, rect)
        how = (method.centre, method.saturated, method.gradient, self._results, self._chosen)
        if method.profile:
            measured, n_saturated, n_implausible, n_clear = prof2d.integrate_spots(
                *where, self._max_adu, *how
            )
            if len(spots) and not n_clear:
                self.notes[NO_PROFILE] += 1
        else:
            measured, n_saturated, n_implausible = rings.integrate_spots(*where, gain, self._max_adu, *how)
        chosen, values = self._chosen[:measured], self._results[:measured]
        if (len(spots) - measured) * 4 > len(spots):
            log.debug("%d of %d reflections could not be integrated", len(spots) - measured, len(spots))
        return Reflections(
            hkl=spots.hkl[chosen],
            intensity=values[:, boxes.INTENSITY].copy(),
            sigma=values[:, boxes.SIGMA].copy(),
            peak=values[:, boxes.PEAK].copy(),
            background=values[:, boxes.BACKGROUND].copy(),
            fs=values[:, boxes.FS].copy(),
            ss=values[:, boxes.SS].copy(),
            panel=spots.panel[chosen],
            n_saturated=n_saturated,
            n_implausible=n_implausible,
        )
