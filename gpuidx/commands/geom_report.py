# SPDX-License-Identifier: GPL-3.0-or-later
"""What a geometry means in figures: size, beam centre, resolution, coverage, bad pixels; as text."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell
from gpuidx.geometry import Detector, Geometry
from gpuidx.geometry.origins import Row
from gpuidx.geometry.survey import beam_centre, reach, resolution

CLOSEST_SPOTS = 8.0
"""px; closer together than this, a spot lies in the background ring of the next (``--int-radius``)."""

BLOCK = 1 << 20
"""Pixels whose angles are computed at a time."""


@dataclass(frozen=True, eq=False)
class View:
    """A geometry at one camera length and photon energy.

    Attributes
    ----------
    wavelength, clen
        Å, m; None where they are headers and the user does not say.
    detector
        At `clen`, or at a likely one.
    bad : (ss, fs)
        Bad pixels that are known before the first frame; None if there are too many pixels.
    """

    geometry: Geometry
    detector: Detector
    wavelength: float | None
    clen: float | None
    bad: NDArray[np.bool_] | None


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of text; a name that is that of the row above is not repeated."""
    width = max((len(what) for what, _, _ in rows), default=0)
    shown, before = [], ""
    for what, text, line in rows:
        name = "" if what == before else what
        where = f"  (line {line})" if line else ""
        shown.append(f"{name:{width}}  {text}{where}")
        before = what
    return shown


def figures(view: View, cell: UnitCell | None) -> tuple[list[Row], list[str]]:
    """Rows of figures, and warnings that follow from them.

    What depends on a value that is not known is left out, and that is said.

    Parameters
    ----------
    view
        What is looked at.
    cell
        Its spots are looked at; may be None.
    """
    geometry, detector, bad = view.geometry, view.detector, view.bad
    wavelength, clen = view.wavelength, view.clen
    rows: list[Row] = [
        ("panels", _sizes(geometry, detector), None),
        ("beam centre", _centre(geometry, detector), None),
    ]
    warnings: list[str] = []
    if clen is None:
        rows.append(("resolution", "not known; give --camera-length and, for Å, --photon-energy", None))
    else:
        rows += _reach(detector, wavelength)
    lowest = _lowest(geometry, detector, bad) if bad is not None and clen is not None else None
    if bad is not None:
        rows.append(("bad pixels", _bad(geometry, bad), None))
    if lowest is not None and math.isfinite(lowest):
        on_beam = lowest < 2 * float(detector.pitch.max()) / abs(detector.clen or 1.0)
        low = (
            "the beam itself is on usable pixels"
            if on_beam
            else f"{_ring(lowest, wavelength)}, of usable pixels"
        )
        rows.append(("lowest ring", low, None))
    if cell is not None:
        rows.append(_spots(cell, detector, wavelength if clen is not None else None, warnings))
    return rows, warnings


def _sizes(geometry: Geometry, detector: Detector) -> str:
    count = Counter(
        (p.width, p.height, f"{1e6 * pitch:.4g}")
        for p, pitch in zip(geometry.panels, detector.pitch, strict=True)
    )
    kinds = [f"{n} of {w} × {h} px (fs × ss) of {pitch} µm" for (w, h, pitch), n in count.most_common(3)]
    more = f" and {len(count) - 3} other sizes" if len(count) > 3 else ""
    n_pixel = sum(p.width * p.height for p in geometry.panels)
    return f"{', '.join(kinds)}{more}; {n_pixel / 1e6:.3g} million pixels"


def _centre(geometry: Geometry, detector: Detector) -> str:
    centre = beam_centre(detector)
    if centre.panel < 0:
        return "on no panel, nor near one"
    panel = geometry.panels[centre.panel]
    place = f"fs {centre.fs + panel.min_fs:.2f}, ss {centre.ss + panel.min_ss:.2f} of its data array"
    if centre.outside:
        return f"on no panel; nearest is {panel.name}, {centre.outside:.1f} px away; {place}"
    return f"on panel {panel.name}, {place}"


def _ring(two_theta: float, wavelength: float | None) -> str:
    angle = f"2θ = {math.degrees(two_theta):.2f}°"
    return angle if wavelength is None else f"{resolution(two_theta, wavelength):.3g} Å ({angle})"


def _reach(detector: Detector, wavelength: float | None) -> list[Row]:
    seen = reach(detector)
    edge = "the beam is beside the detector: no ring is complete"
    if seen.edge > 0:
        share = f"{100 * seen.covered_to_edge:.0f} % of the solid angle within is on panels"
        edge = f"{_ring(seen.edge, wavelength)}, {share}"
    corner = f"{_ring(seen.corner, wavelength)}, {100 * seen.covered_to_corner:.0f} % within is on panels"
    rows: list[Row] = [("edge", edge, None), ("corner", corner, None)]
    if wavelength is None:
        rows.append(("resolution", "in Å not known; give --photon-energy", None))
    return rows


def _bad(geometry: Geometry, bad: NDArray[np.bool_]) -> str:
    n_pixel = sum(p.width * p.height for p in geometry.panels)
    n_bad = sum(int(np.count_nonzero(_part(bad, geometry, i))) for i in range(len(geometry.panels)))
    later = any(mask.file is None for panel in geometry.panels for mask in panel.masks)
    more = "; more by masks in the data" if later else ""
    if any(panel.flags for panel in geometry.panels):
        more += "; more by value"
    return f"{n_bad} of {n_pixel}, {100 * n_bad / n_pixel:.2g} %{more}"


def _part(bad: NDArray[np.bool_], geometry: Geometry, number: int) -> NDArray[np.bool_]:
    p = geometry.panels[number]
    return bad[p.slab_y : p.slab_y + p.height, p.slab_x : p.slab_x + p.width]


def _lowest(geometry: Geometry, detector: Detector, bad: NDArray[np.bool_]) -> float:
    """Smallest 2θ of a usable pixel's centre, rad; infinite if there is none."""
    largest = -2.0
    for number, panel in enumerate(geometry.panels):
        usable = ~_part(bad, geometry, number)
        rows = max(1, BLOCK // panel.width)
        fs = (np.arange(panel.width) + 0.5)[None, :, None] * detector.fs[number]
        for start in range(0, panel.height, rows):
            ss = np.arange(start, min(start + rows, panel.height)) + 0.5
            place = detector.corner[number] + fs + ss[:, None, None] * detector.ss[number]
            cosine = place[..., 2] / np.sqrt((place * place).sum(axis=2))
            chosen = cosine[usable[start : start + len(ss)]]
            if len(chosen):
                largest = max(largest, float(chosen.max()))
    return math.acos(min(1.0, largest)) if largest >= -1 else math.inf


def _spots(cell: UnitCell, detector: Detector, wavelength: float | None, warnings: list[str]) -> Row:
    """How far apart the spots of a cell are; a warning if that is too little."""
    if cell.parameters is None:
        return "cell", "has no parameters", None
    name = f"{' '.join(f'{x:g}' for x in cell.parameters[:3])} Å, {cell.lattice_type} {cell.centering}"
    if wavelength is None:
        return "cell", f"{name}; how far apart its spots are is not known", None
    apart = detector.clen * wavelength / max(cell.parameters[:3]) / float(detector.pitch.max())
    if apart < CLOSEST_SPOTS:
        text = f"spots of this cell are {apart:.1f} px apart; move the detector back, or take a small"
        warnings.append(f"{text} --int-radius and --local-bg-radius")
    return "cell", f"{name}: spots along the longest axis are {apart:.1f} px apart near the beam", None
