# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a frame: pixels where they lie in the laboratory, with peaks and predicted reflections."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from gpuidx.commands.picture_parts import (
    Plane,
    block_side,
    blocks,
    draw_beam,
    draw_blocks,
    draw_rings,
    limit,
    outlines_of,
    panel_part,
    picture,
    plane_of,
)
from gpuidx.geometry import Detector, Geometry

SIDE = 12
"""Inches."""

MOST_BLOCKS = 1_500_000
"""Blocks of pixels, on all panels together; each shows its highest pixel, so that no peak gets lost."""

DARKEST, LIGHTEST = 99.9, 2.0
"""Percentiles of the blocks that are black and white."""

MANY = 1500
"""Predicted reflections from which on they are drawn smaller."""

PEAK, PREDICTED, BAD, EDGE = "#d62728", "#1f77b4", "#f4e3c1", "#b0b0b0"


class Places(Protocol):
    """Places on panels: `gpuidx.model.PeakList`, `gpuidx.model.Reflections` and their like.

    Attributes
    ----------
    fs, ss : (place,)
        Within the panel, px, 0.0 = corner of the first pixel.
    panel : (place,)
        Its number.
    """

    @property
    def fs(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def ss(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def panel(self) -> NDArray[np.int32]: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class FrameView:
    """A frame to be drawn.

    Attributes
    ----------
    title
        A line above the picture.
    geometry, detector, wavelength
        Of the frame; Å.
    image : (ss, fs)
        The slab, ADU; None: only places are drawn.
    usable : (ss, fs)
        Good pixels; None: all.
    peaks
        Found or sent.
    predicted
        Reflections of each crystal.
    """

    title: str
    geometry: Geometry
    detector: Detector
    wavelength: float
    image: NDArray[Any] | None
    usable: NDArray[np.bool_] | None
    peaks: Places
    predicted: tuple[Places, ...] = ()


def draw(view: FrameView, file: str) -> None:
    """Write the picture as PNG.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with picture(file, SIDE) as axes:
        plane, corner = plane_of(view.detector)
        outlines = outlines_of(view.geometry, plane)
        axes.add_collection(
            PolyCollection(outlines, facecolors="none", edgecolors=EDGE, linewidths=0.4, zorder=3)
        )
        if view.image is not None:
            _pixels(axes, view, plane)
        limit(axes, outlines)
        draw_rings(axes, plane, view.wavelength, corner)
        draw_beam(axes)
        n_predicted = sum(len(places.fs) for places in view.predicted)
        for number, places in enumerate(view.predicted):
            label = f"{n_predicted} predicted" if not number else None
            _places(axes, plane, places, "o", PREDICTED, 6.0 if n_predicted < MANY else 4.0, label)
        _places(axes, plane, view.peaks, "s", PEAK, 10.0, f"{len(view.peaks.fs)} peaks")
        axes.legend(loc="upper right")
        axes.set_title(
            f"{view.title}\n{plane.scale:.4g} mm from the sample, {view.wavelength:.4g} Å; seen against the "
            "beam, y up; sand-coloured: bad pixels; cross: beam",
            fontsize=9,
        )


def _pixels(axes: Axes, view: FrameView, plane: Plane) -> None:
    """Blocks of pixels, the darker the higher; bad ones in a colour of their own."""
    assert view.image is not None
    image = view.image.astype(np.float32)
    if view.usable is not None:
        image[~view.usable] = np.nan
    side = block_side(view.geometry, MOST_BLOCKS)
    made = [blocks(panel_part(image, panel), side, np.fmax) for panel in view.geometry.panels]
    shown = np.concatenate([value.reshape(-1) for value, _, _ in made])
    shown = shown[np.isfinite(shown)]
    low, high = np.percentile(shown, (LIGHTEST, DARKEST)) if len(shown) else (0.0, 1.0)
    colours = colormaps["gray_r"].with_extremes(bad=BAD)
    for number, one in enumerate(made):
        draw_blocks(axes, plane, number, one, cmap=colours, norm=Normalize(low, max(high, low + 1)), zorder=2)


def _places(
    axes: Axes, plane: Plane, places: Places, marker: str, colour: str, size: float, label: str | None
) -> None:
    at = [
        plane.at(int(panel), np.array(fs), np.array(ss))
        for panel, fs, ss in zip(places.panel, places.fs, places.ss, strict=True)
    ]
    x, y = np.array(at).reshape(-1, 2).T
    axes.plot(
        x, y, marker, mfc="none", mec=colour, ms=size, mew=0.8, ls="none", label=label, zorder=7, clip_on=True
    )
