# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pixels must not be used: regions, edges, mask files, resolution, values; and saturation.

Everything is in the slab, the one array that holds all panels of a frame.  True means "do not use".
Made once in every worker; decoding does the rest by NaN in the image.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import GeometryError
from gpuidx.geometry.description import FlagRule, MaskSource, Panel
from gpuidx.geometry.detector import Detector, Geometry
from gpuidx.geometry.mask_files import MaskFiles, Reader, bad_by_bits, read_dataset
from gpuidx.geometry.raster import draw_beyond, draw_edges, draw_region

MOST_KEPT = 8
"""Masks that are kept, of different detector positions and wavelengths."""

_ALWAYS = (b"", 0.0)
"""`Masks.key` where a mask depends on neither."""


@dataclass(frozen=True, slots=True)
class ValueRules:
    """Pixel values that mean "bad", the same on all panels.

    A value v, as float32, is bad if ``v < lessthan``, ``v > morethan`` or ``rint(v) == equal``;
    NaN and infinity always are.  The limits are float32 numbers.
    """

    lessthan: float = -math.inf
    morethan: float = math.inf
    equal: float = math.nan


class Masks:
    """Bad pixels of a run.

    Parameters
    ----------
    geometry
        Says what is bad.
    highres
        Å; pixels with ``|q|`` of 1/highres and more are bad (``--highres``).
    read_masks
        Whether mask files are read (``--no-mask-data``).
    reader
        Gives data sets of mask files.

    Attributes
    ----------
    rules
        What is bad by value alone, on all panels.
    saturation : (panel,) float64
        ``max_adu`` of each panel, ADU; inf where not given.
    saturation_map : (ss, fs) float32
        Saturation of each pixel, ADU, inf where not given; None without ``saturation_map_file``.

    Raises
    ------
    GeometryError
        If a mask file cannot be read or does not suit the panels.
    """

    def __init__(
        self,
        geometry: Geometry,
        highres: float = math.inf,
        read_masks: bool = True,
        reader: Reader = read_dataset,
    ) -> None:
        self._geometry, self._highres, self._read_masks = geometry, highres, read_masks
        files = MaskFiles(geometry.file, reader)
        self.rules, self._flags = _value_rules(geometry.panels)
        self.saturation = np.array([panel.max_adu for panel in geometry.panels])
        self.saturation_map = _saturation_map(geometry, files)
        self._regions = [region for region in geometry.bad_regions if not region.is_fsss]
        self._fixed = self._draw_fixed(files)
        self._kept: OrderedDict[tuple[bytes, float], NDArray[np.bool_]] = OrderedDict()

    def at(self, detector: Detector, wavelength: float) -> NDArray[np.bool_]:
        """Bad pixels at a detector position; (ss, fs), not to be written.

        The same array object for the same values, as long as it is among the last few used.

        Parameters
        ----------
        detector
            Its shift moves x/y regions; its distance matters for `highres`.
        wavelength
            Å.
        """
        key = self.key(detector, wavelength)
        if key == _ALWAYS:
            return self._fixed
        bad = self._kept.get(key)
        if bad is None:
            bad = self._kept[key] = self._draw(detector, wavelength)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return bad

    def key(self, detector: Detector, wavelength: float) -> tuple[bytes, float]:
        """What a mask depends on: `at` gives equal masks where these are equal; costs nothing."""
        if math.isfinite(self._highres):
            return detector.corner.tobytes(), wavelength
        return (detector.corner[:, :2].tobytes(), 0.0) if self._regions else _ALWAYS

    def flagged(self, image: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Pixels of a slab that are bad by value and by rules that `rules` cannot hold.

        Parameters
        ----------
        image : (ss, fs)
            ADU.

        Returns
        -------
        bad : (ss, fs)
            None if there are no such rules.
        """
        if not self._flags:
            return None
        bad = np.zeros(image.shape, bool)
        for panel, flags in self._flags:
            part = _part(bad, panel)
            values = _part(image, panel).astype(np.float32)
            for flag in flags:
                part |= _has_flag(values, flag)
        return bad

    @property
    def has_flags_besides_rules(self) -> bool:
        """Whether `flagged` has to look at every image."""
        return bool(self._flags)

    @property
    def has_masks_in_frames(self) -> bool:
        """Whether masks lie in the image files; then `in_frame` tells what they say."""
        return self._read_masks and any(
            mask.file is None for panel in self._geometry.panels for mask in panel.masks
        )

    def in_frame(self, read: Callable[[MaskSource, Panel], NDArray[Any]]) -> NDArray[np.bool_]:
        """Bad pixels by the masks that lie in the image file of a frame; (ss, fs).

        Parameters
        ----------
        read
            Gives a panel's part (ss, fs) of a mask in this file.

        Raises
        ------
        ValueError
            If a mask does not hold numbers.
        """
        bad = np.zeros(self._geometry.slab_shape, bool)
        for panel in self._geometry.panels:
            if panel.no_index:
                continue
            for mask in panel.masks:
                if mask.file is None:
                    _part(bad, panel)[...] |= bad_by_bits(read(mask, panel), mask)
        return bad

    @property
    def has_saturation_in_frames(self) -> bool:
        """Whether saturation maps lie in the image files; then `saturation_in_frame` tells what they say."""
        return any(p.saturation_map and not p.saturation_map_file for p in self._geometry.panels)

    def saturation_in_frame(self, read: Callable[[str, Panel], NDArray[Any]]) -> NDArray[np.float32]:
        """Saturation of each pixel, ADU, by the maps in the image file of a frame and in others; (ss, fs).

        Parameters
        ----------
        read
            Gives a panel's part (ss, fs) of a data set of this file.

        Raises
        ------
        ValueError
            If a map does not hold numbers.
        """
        limits = np.full(self._geometry.slab_shape, np.inf, np.float32)
        if self.saturation_map is not None:
            limits[...] = self.saturation_map
        for panel in self._geometry.panels:
            if panel.saturation_map and not panel.saturation_map_file:
                values = read(panel.saturation_map, panel)
                if values.dtype.kind not in "biuf":
                    raise ValueError(f"has values of type {values.dtype}; expected numbers")
                _part(limits, panel)[...] = values
        return limits

    def _draw_fixed(self, files: MaskFiles) -> NDArray[np.bool_]:
        """What is bad at every position and wavelength."""
        geometry = self._geometry
        bad = np.ones(geometry.slab_shape, bool)
        for panel in geometry.panels:
            part = _part(bad, panel)
            part[...] = panel.no_index
            if panel.no_index:
                continue
            draw_edges(part, panel.mask_edge_pixels)
            for mask in panel.masks if self._read_masks else ():
                if mask.file is not None:
                    values = files.panel_part(mask.file, mask.data, panel, mask.line)
                    try:
                        part |= bad_by_bits(values, mask)
                    except ValueError as error:
                        text = f"'{mask.data}' in '{mask.file}' {error}"
                        raise GeometryError(geometry.file, mask.line, text) from error
        panels = {panel.name: panel for panel in geometry.panels}
        for region in geometry.bad_regions:
            if region.is_fsss and region.panel is not None:
                panel = panels[region.panel]
                low_fs, low_ss = region.min_fs - panel.min_fs, region.min_ss - panel.min_ss
                high_fs, high_ss = region.max_fs - panel.min_fs, region.max_ss - panel.min_ss
                _part(bad, panel)[low_ss : high_ss + 1, low_fs : high_fs + 1] = True
        return bad

    def _draw(self, detector: Detector, wavelength: float) -> NDArray[np.bool_]:
        bad = self._fixed.copy()
        for number, panel in enumerate(self._geometry.panels):
            part = _part(bad, panel)
            for region in self._regions:
                draw_region(part, region, detector, number)
            if math.isfinite(self._highres):
                draw_beyond(part, detector, number, wavelength / self._highres)
        return bad


def _part(array: NDArray[Any], panel: Panel) -> NDArray[Any]:
    """The part of a slab that is a panel's; a view."""
    part: NDArray[Any] = array[
        panel.slab_y : panel.slab_y + panel.height, panel.slab_x : panel.slab_x + panel.width
    ]
    return part


def _saturation_map(geometry: Geometry, files: MaskFiles) -> NDArray[np.float32] | None:
    if not any(panel.saturation_map and panel.saturation_map_file for panel in geometry.panels):
        return None
    limits = np.full(geometry.slab_shape, np.inf, np.float32)
    for panel in geometry.panels:
        if panel.saturation_map and panel.saturation_map_file:
            values = files.panel_part(panel.saturation_map_file, panel.saturation_map, panel, None)
            if values.dtype.kind not in "biuf":
                text = f"saturation map '{panel.saturation_map}' has values of type {values.dtype}"
                raise GeometryError(geometry.file, None, f"{text}; expected numbers")
            _part(limits, panel)[...] = values
    return limits


def _value_rules(panels: Iterable[Panel]) -> tuple[ValueRules, list[tuple[Panel, tuple[FlagRule, ...]]]]:
    """Rules that hold on all panels, and the flags of each panel that they do not cover."""
    used = [panel for panel in panels if not panel.no_index]
    flags = {_needed(panel.flags) for panel in used}
    if len(flags) != 1:
        return ValueRules(), [(panel, panel.flags) for panel in used if panel.flags]
    (common,) = flags
    by_kind: dict[str, list[float]] = {}
    for flag in sorted(common, key=lambda flag: flag.value):
        by_kind.setdefault(flag.kind, []).append(flag.value)
    equal, *further = by_kind.get("equal", [math.nan])
    rules = ValueRules(
        lessthan=max(by_kind.get("lessthan", [-math.inf])),
        morethan=min(by_kind.get("morethan", [math.inf])),
        equal=equal,
    )
    rest = tuple(FlagRule("equal", value) for value in further)
    return rules, [(panel, rest) for panel in used if rest]


def _needed(flags: tuple[FlagRule, ...]) -> frozenset[FlagRule]:
    """The strictest limit of each kind, and the single values that those leave."""
    low = max((f.value for f in flags if f.kind == "lessthan"), default=-math.inf)
    high = min((f.value for f in flags if f.kind == "morethan"), default=math.inf)
    # rint(v) == value holds for v up to half away
    single = {f for f in flags if f.kind == "equal" and low <= f.value + 0.5 and f.value - 0.5 <= high}
    limits = {FlagRule("lessthan", low)} if low > -math.inf else set()
    limits |= {FlagRule("morethan", high)} if high < math.inf else set()
    return frozenset(single | limits)


def _has_flag(values: NDArray[np.float32], flag: FlagRule) -> NDArray[np.bool_]:
    limit = np.float32(flag.value)
    if flag.kind == "lessthan":
        return np.less(values, limit)
    if flag.kind == "morethan":
        return np.greater(values, limit)
    return np.equal(np.rint(values), limit)
