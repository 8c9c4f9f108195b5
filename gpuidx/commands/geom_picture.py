# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of ``gpuidx geom check``: panels, bad pixels, beam centre and resolution rings."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gpuidx.commands.geom_report import View
from gpuidx.geometry import Detector, Panel
from gpuidx.geometry.survey import reach

WIDEST = math.radians(70)
"""2θ up to which panels are projected to a plane; beyond, the projection is stereographic."""

MOST_BLOCKS = 120_000
"""Blocks of pixels, on all panels together, whose share of bad pixels is shown."""

SIDE_POINTS = 25
"""Points along the sides of panels, which may look bent."""

MOST_NAMES = 72
"""Panels that have their name in the picture."""

RINGS = (
    50,
    30,
    20,
    15,
    10,
    8,
    6,
    5,
    4,
    3.5,
    3,
    2.5,
    2.2,
    2,
    1.8,
    1.6,
    1.4,
    1.2,
    1.1,
    1,
    0.9,
    0.8,
    0.7,
    0.6,
    0.5,
)
"""Å; those of them that suit are drawn."""

MOST_RINGS = 5

PANEL_FACE, PANEL_EDGE, BAD, BEAM, RING = "#dfe7f2", "#3b5b8c", "#d9482b", "#000000", "#2a7f4f"


def draw(view: View, file: str) -> None:
    """Write the picture as PNG.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with mpl.rc_context({"font.size": 9, "axes.grid": False}):
        figure = Figure(figsize=(9, 9), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        seen = reach(view.detector)
        plane = _Plane(view.detector, flat=seen.corner < WIDEST)
        outlines = _panels(axes, view, plane)
        if view.bad is not None:
            _bad_pixels(axes, view, plane)
        _frame(axes, outlines)
        if view.clen is not None:
            _rings(axes, plane, view.wavelength, seen.corner)
        _beam(axes)
        _words(axes, view, plane)
        figure.savefig(file, format="png")


class _Plane:
    """Where directions lie in the picture, mm.

    Parameters
    ----------
    detector
        Its mean camera length is the scale.
    flat
        Whether directions are projected to a plane at that length, else stereographically.
    """

    def __init__(self, detector: Detector, *, flat: bool) -> None:
        distance = np.abs(np.einsum("px,px->p", _normals(detector), detector.corner) * detector.pitch)
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


def _normals(detector: Detector) -> NDArray[np.float64]:
    normal = np.cross(detector.fs, detector.ss)
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal, axis=1)[:, None]
    return unit


def _panels(axes: Axes, view: View, plane: _Plane) -> list[NDArray[np.float64]]:
    """Draw panels with their names, a dot at the first pixel and a line along its fast scan."""
    outlines = []
    part = np.linspace(0, 1, SIDE_POINTS)
    along = np.concatenate([part, np.ones(SIDE_POINTS), part[::-1], np.zeros(SIDE_POINTS)])
    across = np.concatenate([np.zeros(SIDE_POINTS), part, np.ones(SIDE_POINTS), part[::-1]])
    few = len(view.geometry.panels) <= MOST_NAMES
    for number, panel in enumerate(view.geometry.panels):
        outline = plane.at(number, along * panel.width, across * panel.height)
        outlines.append(outline)
        first = plane.at(number, *_first_row(panel))
        axes.plot(*first.T, color=PANEL_EDGE, lw=1.2, solid_capstyle="butt", zorder=4)
        axes.plot(*first[0], ".", color=PANEL_EDGE, ms=3, zorder=4)
        if few:
            x, y = plane.at(number, np.array(panel.width / 2), np.array(panel.height / 2))
            axes.annotate(
                panel.name,
                (float(x), float(y)),
                ha="center",
                va="center",
                fontsize=6 if len(view.geometry.panels) > 9 else 9,
                color=PANEL_EDGE,
                zorder=5,
                clip_on=True,
            )
    axes.add_collection(
        PolyCollection(outlines, facecolors=PANEL_FACE, edgecolors=PANEL_EDGE, linewidths=0.5, zorder=1)
    )
    return outlines


def _first_row(panel: Panel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions from the first pixel a third of the way along fs."""
    fs = np.linspace(min(0.5, panel.width / 3), panel.width / 3, 12)
    return fs, np.full(12, 0.5)


def _bad_pixels(axes: Axes, view: View, plane: _Plane) -> None:
    """Blocks of pixels, the redder the more of them are bad."""
    assert view.bad is not None
    colours = np.array(mpl.colors.to_rgba(BAD)) * np.ones((65, 1))
    colours[:, 3] = np.linspace(0, 0.65, 65)
    n_pixel = sum(p.width * p.height for p in view.geometry.panels)
    side = max(1, math.ceil(math.sqrt(n_pixel / MOST_BLOCKS)))
    for number, p in enumerate(view.geometry.panels):
        bad = view.bad[p.slab_y : p.slab_y + p.height, p.slab_x : p.slab_x + p.width]
        if not bad.any():
            continue
        ss, fs = (np.append(np.arange(0, n, side), n) for n in bad.shape)
        share = np.add.reduceat(np.add.reduceat(bad.astype(np.float32), ss[:-1], axis=0), fs[:-1], axis=1)
        share /= np.outer(np.diff(ss), np.diff(fs))
        at_fs, at_ss = np.meshgrid(fs.astype(float), ss.astype(float))
        place = plane.at(number, at_fs, at_ss)
        axes.pcolormesh(
            place[..., 0], place[..., 1], share, cmap=ListedColormap(colours), vmin=0, vmax=1,
            zorder=2, rasterized=True,
        )  # fmt: skip


def _frame(axes: Axes, outlines: list[NDArray[np.float64]]) -> None:
    """Limits that hold all panels and the beam."""
    place = np.concatenate([*outlines, np.zeros((1, 2))])
    low, high = place.min(axis=0), place.max(axis=0)
    margin = 0.04 * float((high - low).max())
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")


def _rings(axes: Axes, plane: _Plane, wavelength: float | None, corner: float) -> None:
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


def _beam(axes: Axes) -> None:
    axes.plot(0, 0, "+", color=BEAM, ms=12, mew=1.4, zorder=8)


def _words(axes: Axes, view: View, plane: _Plane) -> None:
    where = (
        "projected to the mean camera length" if plane.flat else "stereographic projection, scale of the beam"
    )
    axes.set_xlabel("x / mm")
    axes.set_ylabel("y / mm")
    length = f"{plane.scale:.4g} mm" + ("" if view.clen is not None else " (assumed)")
    wavelength = f"{view.wavelength:.4g} Å" if view.wavelength is not None else "wavelength not known"
    axes.set_title(
        f"{view.geometry.file.rsplit('/', 1)[-1]}\n{length} from the sample, {wavelength}; {where}\n"
        "seen against the beam, y up; dot and line: first pixel and fast scan; red: bad pixels; cross: beam",
        fontsize=9,
    )
