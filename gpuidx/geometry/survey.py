# SPDX-License-Identifier: GPL-3.0-or-later
"""What a detector sees: where the beam meets it, how far its rings reach, gaps and overlaps.

Everything is for one position of the detector, in directions as seen from the sample, so panels may be
tilted, staggered or far off the beam.  What is bad on the panels is in `gpuidx.geometry.masks`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Detector

SIDE_POINTS = 32
"""Points along each side of a panel by which the outline of the detector is found."""

RINGS = 120
"""Rings of equal solid angle on which coverage is counted."""

LEAST_OVERLAP = 2.0
"""Pixels; panels that overlap by less do so by the errors of their refinement."""

MOST_PAIRS = 5000
"""Pairs of neighbouring panels that are looked at for overlaps."""


@dataclass(frozen=True, slots=True)
class BeamCentre:
    """Where the direct beam meets the detector.

    Attributes
    ----------
    panel
        Number of the panel; of the nearest if it meets none; -1 if all lie upstream or edge-on.
    fs, ss
        Position within that panel, px, 0.0 = corner of the first pixel; beyond its edges if it meets none.
    outside
        Distance from the panel, px; 0 on it.
    """

    panel: int
    fs: float
    ss: float
    outside: float


@dataclass(frozen=True, slots=True)
class Reach:
    """How far from the beam the detector sees.

    Attributes
    ----------
    edge
        2θ of the largest ring within the detector's convex outline; 0 if the beam is outside of it; rad.
    corner
        Largest 2θ of any pixel, rad.
    covered_to_edge, covered_to_corner
        Share of the solid angle within that is on panels.
    """

    edge: float
    corner: float
    covered_to_edge: float
    covered_to_corner: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two panels that cover the same directions.

    Attributes
    ----------
    first, second
        Numbers of the panels.
    share
        Part of the first one's area.
    width
        px of the first one; the narrow side of what they share.
    """

    first: int
    second: int
    share: float
    width: float


def corners(detector: Detector) -> NDArray[np.float64]:
    """Outer corners of the panels, in turn around each; (panel, 4, xyz), m."""
    size = detector.rect[:, 2:].astype(float)
    turn = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    at = turn[None] * size[:, None]
    place = detector.corner[:, None] + at[..., :1] * detector.fs[:, None] + at[..., 1:] * detector.ss[:, None]
    metres: NDArray[np.float64] = place * detector.pitch[:, None, None]
    return metres


def beam_centre(detector: Detector) -> BeamCentre:
    """Where the direct beam meets the detector; the first panel of the file that it meets."""
    scale, fs, ss = (detector.back @ (0.0, 0.0, 1.0)).T
    with np.errstate(divide="ignore", invalid="ignore"):
        fs, ss = fs / scale, ss / scale
    width, height = detector.rect[:, 2:].T
    outside = np.hypot(
        np.maximum(np.maximum(-fs, fs - width), 0), np.maximum(np.maximum(-ss, ss - height), 0)
    )
    outside[~((scale > 0) & np.isfinite(outside))] = np.inf
    nearest = int(np.argmin(outside))
    if not math.isfinite(outside[nearest]):
        return BeamCentre(-1, math.nan, math.nan, math.inf)
    return BeamCentre(nearest, float(fs[nearest]), float(ss[nearest]), float(outside[nearest]))


def resolution(two_theta: float, wavelength: float) -> float:
    """Å of a ring; infinite at the beam."""
    return wavelength / (2 * math.sin(two_theta / 2)) if two_theta > 0 else math.inf


def reach(detector: Detector) -> Reach:
    """How far the detector reaches, and how much of that it covers."""
    place = corners(detector)
    edge = 2 * math.atan(_nearest_side(_outlines(place)))
    corner = float(np.arctan2(np.hypot(place[..., 0], place[..., 1]), place[..., 2]).max())
    return Reach(edge, corner, covered(detector, edge), covered(detector, corner))


def _outlines(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points along the outlines of panels, in the stereographic projection from the sample; (point, xy).

    In it directions at any angle have a place, rings are circles, and sides of flat panels are bent outwards.
    """
    part = (np.arange(SIDE_POINTS) / SIDE_POINTS)[:, None]
    step = np.roll(place, -1, axis=1) - place
    point = (place[:, :, None] + part * step[:, :, None]).reshape(-1, 3)
    along = point[:, 2] + np.linalg.norm(point, axis=1)
    seen = along > 1e-6 * np.abs(point[:, 2])
    flat: NDArray[np.float64] = point[seen, :2] / along[seen, None]
    return flat


def _nearest_side(point: NDArray[np.float64]) -> float:
    """Distance from the origin to the convex hull of points, from within; 0 outside."""
    half: list[list[NDArray[np.float64]]] = []
    ordered = point[np.lexsort(point.T[::-1])]
    for way in (ordered, ordered[::-1]):  # the monotone chain of Andrew 1979
        hull: list[NDArray[np.float64]] = []
        for p in way:
            while len(hull) > 1 and _turn(hull[-2], hull[-1], p) <= 0:
                hull.pop()
            hull.append(p)
        half.append(hull[:-1])
    start = np.array(half[0] + half[1])
    if len(start) < 3:  # no direction downstream, or all the same
        return 0.0
    side = np.roll(start, -1, axis=0) - start
    length = np.hypot(*side.T)
    distance = (start[:, 0] * side[:, 1] - start[:, 1] * side[:, 0])[length > 0] / length[length > 0]
    return max(0.0, float(distance.min())) if len(distance) else 0.0


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def covered(detector: Detector, two_theta: float) -> float:
    """Share of the solid angle up to a ring (2θ, rad) that is on panels; 1 if the ring is a point."""
    if not two_theta > 0:
        return 1.0
    cosine = 1 - (1 - math.cos(two_theta)) * (np.arange(RINGS) + 0.5) / RINGS
    azimuth = (np.arange(2 * RINGS) + 0.5) * (np.pi / RINGS)
    sine = np.sqrt(1 - cosine**2)
    rays = np.stack(
        [np.outer(sine, np.cos(azimuth)), np.outer(sine, np.sin(azimuth)),
         np.repeat(cosine[:, None], len(azimuth), axis=1)], axis=-1
    ).reshape(-1, 3)  # fmt: skip
    on_panel = np.zeros(len(rays), bool)
    for back, rect in zip(detector.back, detector.rect, strict=True):
        scale, fs, ss = back @ rays.T
        inside = (scale > 0) & (fs >= 0) & (ss >= 0)
        on_panel |= inside & (fs < rect[2] * scale) & (ss < rect[3] * scale)
    return float(np.mean(on_panel))


def overlaps(detector: Detector) -> list[Overlap]:
    """Panels that hide others, or parts of them, by more than `LEAST_OVERLAP`; in file order."""
    place = corners(detector)
    unit = place / np.linalg.norm(place, axis=2)[..., None]
    middle = unit.mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1)[:, None]
    spread = np.arccos(np.clip(np.einsum("pcx,px->pc", unit, middle), -1, 1)).max(axis=1)
    found: list[Overlap] = []
    n_pair = 0
    for first in range(len(place)):
        apart = np.arccos(np.clip(middle[first + 1 :] @ middle[first], -1, 1))
        near = first + 1 + np.flatnonzero(apart < spread[first + 1 :] + spread[first])
        for second in near[: MOST_PAIRS - n_pair]:
            overlap = _overlap(detector, place, first, int(second))
            if overlap is not None:
                found.append(overlap)
        n_pair += len(near)
        if n_pair >= MOST_PAIRS:
            break
    return found


def _overlap(detector: Detector, place: NDArray[np.float64], first: int, second: int) -> Overlap | None:
    """What two panels share, in pixels of the first; None if that is next to nothing."""
    scale, fs, ss = detector.back[first] @ place[second].T
    if not (scale > 0).all():  # behind the sample as seen from the first
        return None
    polygon = list(zip((fs / scale).tolist(), (ss / scale).tolist(), strict=True))
    width, height = (float(n) for n in detector.rect[first, 2:])
    for axis, limit in ((0, width), (1, height)):
        polygon = _cut(polygon, axis, 0.0, 1.0)
        polygon = _cut(polygon, axis, limit, -1.0)
    if len(polygon) < 3:
        return None
    x, y = np.array(polygon).T
    area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    longest = max(float(np.ptp(x)), float(np.ptp(y)))
    narrow = area / longest if longest > 0 else 0.0
    return Overlap(first, second, area / (width * height), narrow) if narrow > LEAST_OVERLAP else None


def _cut(
    polygon: list[tuple[float, float]], axis: int, limit: float, sign: float
) -> list[tuple[float, float]]:
    """The part of a convex polygon with ``sign * (x - limit) >= 0`` (Sutherland and Hodgman 1974)."""
    kept: list[tuple[float, float]] = []
    for here, then in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        a, b = sign * (here[axis] - limit), sign * (then[axis] - limit)
        if a >= 0:
            kept.append(here)
        if (a >= 0) != (b >= 0):
            part = a / (a - b)
            kept.append((here[0] + part * (then[0] - here[0]), here[1] + part * (then[1] - here[1])))
    return kept
