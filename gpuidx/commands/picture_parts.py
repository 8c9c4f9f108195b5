# SPDX-License-Identifier: GPL-3.0-or-later
"""What pictures of a detector share: the projection, outlines of panels, blocks of pixels, rings, the file.

Needs matplotlib, the extra ``gpuidx[pictures]``.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gpuidx.geometry import Detector, Geometry, Panel
from gpuidx.geometry.survey import reach

WIDEST = math.radians(70)
"""2θ up to which panels are projected to a plane; beyond, the projection is stereographic."""

SIDE_POINTS = 25
"""Points along the sides of panels, which may look bent."""

RINGS = (
    50, 30, 20, 15, 10, 8, 6, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.4, 1.2, 1.1, 1, 0.9, 0.8, 0.7, 0.6, 0.5,
)  # fmt: skip
"""Å; those of them that suit are drawn."""

MOST_RINGS = 5

BEAM, RING = "#000000", "#2a7f4f"


@contextmanager
def picture(file: str, side: float) -> Iterator[Axes]:
    """Axes to draw on; the PNG is written at the end.

    Parameters
    ----------
    file
        To write.
    side
        Of the picture, inches of 130 pixels.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with mpl.rc_context({"font.size": 9, "axes.grid": False}):
        figure = Figure(figsize=(side, side), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_xlabel("x / mm")
        axes.set_ylabel("y / mm")
        yield axes
        figure.savefig(file, format="png")


class Plane:
    """Where directions lie in the picture, mm.

    Parameters
    ----------
    detector
        Its mean camera length is the scale.
    flat
        Whether directions are projected to a plane at that length, else stereographically.
    """

    def __init__(self, detector: Detector, *, flat: bool) -> None:
        distance = np.abs(np.einsum("px,px->p", normals_of(detector), detector.corner) * detector.pitch)
        self.detector, self.flat = detector, flat
        self.scale = 1e3 * float(np.mean(distance))

    def at(self, panel: int, fs: NDArray[np.float64], ss: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places of positions on a panel; (..., xy), mm."""
        d = self.detector
        place = d.corner[panel] + fs[..., None] * d.fs[panel] + ss[..., None] * d.ss[panel]
        if self.flat:
            flat: NDArray[np.float64] = self.scale * place[..., :2] / place[..., 2:]
            return flat
        along = place[..., 2:] + np.linalg.norm(place, axis=-1)[..., None]
        round_: NDArray[np.float64] = 2 * self.scale * place[..., :2] / np.maximum(along, 1e-9)
        return round_

    def radius(self, two_theta: float) -> float:
        """Radius of a ring, mm."""
        return self.scale * (math.tan(two_theta) if self.flat else 2 * math.tan(two_theta / 2))


def normals_of(detector: Detector) -> NDArray[np.float64]:
    """Unit normals of the panels; (panel, xyz)."""
    normal = np.cross(detector.fs, detector.ss)
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal, axis=1)[:, None]
    return unit


def plane_of(detector: Detector) -> tuple[Plane, float]:
    """The projection that suits a detector, and the largest 2θ of its corners, rad."""
    seen = reach(detector)
    return Plane(detector, flat=seen.corner < WIDEST), seen.corner


def outlines_of(geometry: Geometry, plane: Plane) -> list[NDArray[np.float64]]:
    """The border of each panel; (point, xy), mm."""
    part = np.linspace(0, 1, SIDE_POINTS)
    along = np.concatenate([part, np.ones(SIDE_POINTS), part[::-1], np.zeros(SIDE_POINTS)])
    across = np.concatenate([np.zeros(SIDE_POINTS), part, np.ones(SIDE_POINTS), part[::-1]])
    return [plane.at(number, along * p.width, across * p.height) for number, p in enumerate(geometry.panels)]


def block_side(geometry: Geometry, most: int) -> int:
    """Pixels along the side of square blocks, so that there are about *most* on all panels together."""
    n_pixel = sum(p.width * p.height for p in geometry.panels)
    return max(1, math.ceil(math.sqrt(n_pixel / most)))


def panel_part(slab: NDArray[Any], panel: Panel) -> NDArray[Any]:
    """The part of a slab that is a panel's; a view."""
    return slab[panel.slab_y : panel.slab_y + panel.height, panel.slab_x : panel.slab_x + panel.width]


def blocks(
    values: NDArray[np.float32], side: int, over: np.ufunc
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Blocks of pixels with one value each.

    Parameters
    ----------
    values : (ss, fs)
        Of a panel.
    side
        Of a block, px.
    over
        Makes one value of those of a block: ``np.add``, ``np.fmax``.

    Returns
    -------
    value, ss, fs : (ss, fs), (ss + 1,), (fs + 1,)
        And where blocks begin and end, px.
    """
    ss, fs = (np.append(np.arange(0, n, side), n) for n in values.shape)
    made: NDArray[np.float32] = over.reduceat(over.reduceat(values, ss[:-1], axis=0), fs[:-1], axis=1)
    return made, ss.astype(float), fs.astype(float)


def draw_blocks(
    axes: Axes,
    plane: Plane,
    number: int,
    made: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]],
    **style: Any,
) -> None:
    """Draw `blocks` of a panel."""
    value, ss, fs = made
    place = plane.at(number, *np.meshgrid(fs, ss))
    axes.pcolormesh(place[..., 0], place[..., 1], value, rasterized=True, **style)


def limit(axes: Axes, outlines: list[NDArray[np.float64]]) -> None:
    """Limits that hold all panels and the beam."""
    place = np.concatenate([*outlines, np.zeros((1, 2))])
    low, high = place.min(axis=0), place.max(axis=0)
    margin = 0.04 * float((high - low).max())
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")


def draw_rings(axes: Axes, plane: Plane, wavelength: float | None, corner: float) -> None:
    """Rings of round numbers, well apart; of 2θ where the wavelength is not known."""
    if wavelength is None:
        angles = [(math.radians(a), f"{a}°") for a in (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100)]
    else:
        angles = [
            (2 * math.asin(wavelength / (2 * d)), f"{d:g} Å") for d in RINGS if wavelength / (2 * d) < 1
        ]
    shown = [(plane.radius(a), text) for a, text in angles if a < min(corner, WIDEST if plane.flat else 3.0)]
    largest = plane.radius(corner)
    kept: list[tuple[float, str]] = []
    for radius, text in reversed(shown):
        if not kept or kept[-1][0] - radius > largest / (MOST_RINGS + 1):
            kept.append((radius, text))
    turn = np.linspace(0, 2 * np.pi, 361)
    for radius, text in kept:
        axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=RING, lw=0.8, ls=(0, (6, 3)), zorder=6)
        where = radius * math.cos(math.radians(45)), radius * math.sin(math.radians(45))
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
        axes.annotate(
            text, where, ha="center", va="center", color=RING, fontsize=8, zorder=7, bbox=box, clip_on=True,
            annotation_clip=True,
        )  # fmt: skip


def draw_beam(axes: Axes) -> None:
    """A cross where the beam is."""
    axes.plot(0, 0, "+", color=BEAM, ms=12, mew=1.4, zorder=8)
