# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of one frame in figures: which pixels are bad and why, and the values of the others."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gpuidx.commands.check_record import MaskShare, Pixels
from gpuidx.geometry import Geometry, Panel
from gpuidx.geometry.masks import Masks, ValueRules
from gpuidx.model import Frame
from gpuidx.options import Options


class Image:
    """The pixels of a frame, and which of them are bad.

    Parameters
    ----------
    frame
        With an image.
    geometry, options, masks
        Of the run.

    Attributes
    ----------
    values : (ss, fs)
        The slab, ADU.
    on_panel, usable : (ss, fs)
        Pixels that belong to a panel, and of these the good ones.
    """

    def __init__(self, frame: Frame, geometry: Geometry, options: Options, masks: Masks) -> None:
        assert frame.image is not None
        self.frame, self.geometry, self.options, self.masks = frame, geometry, options, masks
        self.values = frame.image
        self.on_panel = np.zeros(geometry.slab_shape, bool)
        for panel in geometry.panels:
            self.on_panel[_part(panel)] = True
        self._lost = ~np.isfinite(self.values)
        self._flagged = _by_value(self.values, masks.rules)
        bad = masks.at(frame.detector, frame.wavelength) | self._lost | self._flagged
        self.usable = self.on_panel & ~bad

    def masked(self) -> MaskShare:
        """How many pixels are bad, and by which causes."""
        causes = [(what, self._alone(geometry, highres)) for what, geometry, highres in self._single_causes()]
        causes += [
            ("value (flag_...)", self._count(self._flagged & ~self._lost)),
            ("this frame (its masks, the sender's marks, flag_...)", self._count(self._lost)),
        ]
        n_pixel = int(np.count_nonzero(self.on_panel))
        n_bad = n_pixel - int(np.count_nonzero(self.usable))
        return MaskShare(n_pixel, n_bad, tuple((what, n) for what, n in causes if n))

    def _single_causes(self) -> list[tuple[str, Geometry, float]]:
        """The geometry with nothing that makes pixels bad but one thing, and its ``--highres``."""
        geometry = self.geometry
        plain = replace(geometry, bad_regions=(), panels=tuple(_plain(p) for p in geometry.panels))

        def with_panels(*names: str) -> Geometry:
            return replace(
                plain,
                panels=tuple(
                    replace(bare, **{name: getattr(full, name) for name in names})
                    for bare, full in zip(plain.panels, geometry.panels, strict=True)
                ),
            )

        return [
            ("panels without use (no_index)", with_panels("no_index"), np.inf),
            ("mask files", with_panels("masks"), np.inf),
            ("bad regions", replace(plain, bad_regions=geometry.bad_regions), np.inf),
            ("edges (mask_edge_pixels)", with_panels("mask_edge_pixels"), np.inf),
            ("--highres", plain, self.options.highres),
        ]

    def _alone(self, geometry: Geometry, highres: float) -> int:
        masks = Masks(geometry, highres, self.options.mask_data)
        return self._count(masks.at(self.frame.detector, self.frame.wavelength))

    def _count(self, bad: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(bad & self.on_panel))

    def pixels(self) -> Pixels:
        """The values of usable pixels."""
        values = self.values[self.usable]
        whole = self.values.dtype.kind in "iu"
        top = float(np.iinfo(self.values.dtype).max) if whole else None
        return Pixels(
            shape=self.values.shape,
            dtype=str(self.values.dtype),
            n_usable=len(values),
            least=float(values.min()) if len(values) else np.nan,
            median=float(np.median(values)) if len(values) else np.nan,
            greatest=float(values.max()) if len(values) else np.nan,
            n_saturated=self._n_saturated(),
            top=top,
            n_top=int(np.count_nonzero(self.values[self.on_panel] == top)) if whole else 0,
        )

    def _n_saturated(self) -> int:
        limits = np.full(self.values.shape, np.inf, np.float32)
        for panel, limit in zip(self.geometry.panels, self.masks.saturation, strict=True):
            limits[_part(panel)] = limit
        for more in (self.masks.saturation_map, self.frame.saturation):
            if more is not None:
                np.minimum(limits, more, out=limits)
        return int(np.count_nonzero((self.values > limits) & self.usable))

    def n_above(self, threshold: float) -> int:
        """Usable pixels above a value, ADU."""
        return int(np.count_nonzero((self.values > threshold) & self.usable))

    def highest(self) -> tuple[float, str, float] | None:
        """Value of the highest usable pixel, ADU, its place in words, its resolution, Å; None without any."""
        if not self.usable.any():
            return None
        y, x = np.unravel_index(np.argmax(np.where(self.usable, self.values, -np.inf)), self.values.shape)
        for number, p in enumerate(self.geometry.panels):
            if p.slab_x <= x < p.slab_x + p.width and p.slab_y <= y < p.slab_y + p.height:
                fs, ss = int(x) - p.slab_x, int(y) - p.slab_y
                at = (np.array([number]), np.array([fs + 0.5]), np.array([ss + 0.5]))
                q = float(np.linalg.norm(self.frame.detector.q(*at, self.frame.wavelength)))
                place = f"panel {p.name}, fs {fs + p.min_fs}, ss {ss + p.min_ss}"
                return float(self.values[y, x]), place, 1 / q if q else np.inf
        raise AssertionError("a usable pixel is on a panel")


def _part(panel: Panel) -> tuple[slice, slice]:
    return (
        slice(panel.slab_y, panel.slab_y + panel.height),
        slice(panel.slab_x, panel.slab_x + panel.width),
    )


def _plain(panel: Panel) -> Panel:
    """A panel all of whose pixels are good."""
    return replace(
        panel,
        no_index=False,
        masks=(),
        mask_edge_pixels=0,
        flags=(),
        saturation_map=None,
        saturation_map_file=None,
    )


def _by_value(values: NDArray[np.generic], rules: ValueRules) -> NDArray[np.bool_]:
    """Pixels that are bad by a value that means the same on all panels."""
    read = values.astype(np.float32, copy=False)
    bad: NDArray[np.bool_] = (
        (read < np.float32(rules.lessthan))
        | (read > np.float32(rules.morethan))
        | (np.rint(read) == np.float32(rules.equal))
    )
    return bad
