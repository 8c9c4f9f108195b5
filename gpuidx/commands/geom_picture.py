# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of ``gpuidx geom check``: panels, bad pixels, beam centre and resolution rings."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from gpuidx.commands.geom_report import View
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
from gpuidx.geometry import Panel

SIDE = 9
"""Inches."""

MOST_BLOCKS = 120_000
"""Blocks of pixels, on all panels together, whose share of bad pixels is shown."""

MOST_NAMES = 72
"""Panels that have their name in the picture."""

PANEL_FACE, PANEL_EDGE, BAD = "#dfe7f2", "#3b5b8c", "#d9482b"


def draw(view: View, file: str) -> None:
    """Write the picture as PNG.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with picture(file, SIDE) as axes:
        plane, corner = plane_of(view.detector)
        outlines = outlines_of(view.geometry, plane)
        _panels(axes, view, plane, outlines)
        if view.bad is not None:
            _bad_pixels(axes, view, plane)
        limit(axes, outlines)
        if view.clen is not None:
            draw_rings(axes, plane, view.wavelength, corner)
        draw_beam(axes)
        _words(axes, view, plane)


def _panels(axes: Axes, view: View, plane: Plane, outlines: list[NDArray[np.float64]]) -> None:
    """Draw panels with their names, a dot at the first pixel and a line along its fast scan."""
    few = len(view.geometry.panels) <= MOST_NAMES
    for number, panel in enumerate(view.geometry.panels):
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


def _first_row(panel: Panel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions from the first pixel a third of the way along fs."""
    fs = np.linspace(min(0.5, panel.width / 3), panel.width / 3, 12)
    return fs, np.full(12, 0.5)


def _bad_pixels(axes: Axes, view: View, plane: Plane) -> None:
    """Blocks of pixels, the redder the more of them are bad."""
    assert view.bad is not None
    colours = np.array(mpl.colors.to_rgba(BAD)) * np.ones((65, 1))
    colours[:, 3] = np.linspace(0, 0.65, 65)
    side = block_side(view.geometry, MOST_BLOCKS)
    for number, p in enumerate(view.geometry.panels):
        bad = panel_part(view.bad, p)
        if not bad.any():
            continue
        count, ss, fs = blocks(bad.astype(np.float32), side, np.add)
        share = (count / np.outer(np.diff(ss), np.diff(fs))).astype(np.float32)
        draw_blocks(
            axes, plane, number, (share, ss, fs), cmap=ListedColormap(colours), vmin=0, vmax=1, zorder=2
        )


def _words(axes: Axes, view: View, plane: Plane) -> None:
    where = (
        "projected to the mean camera length" if plane.flat else "stereographic projection, scale of the beam"
    )
    length = f"{plane.scale:.4g} mm" + ("" if view.clen is not None else " (assumed)")
    wavelength = f"{view.wavelength:.4g} Å" if view.wavelength is not None else "wavelength not known"
    axes.set_title(
        f"{view.geometry.file.rsplit('/', 1)[-1]}\n{length} from the sample, {wavelength}; {where}\n"
        "seen against the beam, y up; dot and line: first pixel and fast scan; red: bad pixels; cross: beam",
        fontsize=9,
    )
