# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a geometry file is legal and yet hardly meant: lengths in the wrong unit, swapped axes, overlaps.

The reader's own warnings, of lines that have no effect, are in `Geometry.warnings`.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gpuidx.geometry.detector import Detector, Geometry, Lookup, Panel
from gpuidx.geometry.lexer import Remarks
from gpuidx.geometry.lookup import wavelength_from
from gpuidx.geometry.survey import BeamCentre, beam_centre, corners, overlaps
from gpuidx.units import energy_of_wavelength

CAMERA_LENGTHS = (0.005, 20.0)
"""m from the sample to a panel; beyond that the unit is wrong."""

PHOTON_ENERGIES = (100.0, 1e6)
"""eV, of X-rays."""

PITCHES = (1e-6, 2e-3)
"""m."""

LARGEST_SHIFT = 1.0
"""m."""

LENGTH_ERROR = 0.02
"""Relative; fs and ss of a well-made file are one pixel long."""

ANGLE_ERROR = 0.02
"""Cosine of the angle between fs and ss."""

Finding = tuple[int | None, str, str]
"""Line, text, and what makes two of them alike."""


def suspicions(geometry: Geometry, detector: Detector) -> list[tuple[int | None, str]]:
    """Line and text of everything that is hardly meant, in order of lines.

    Parameters
    ----------
    geometry
        As read.
    detector
        Its panels at a likely camera length.
    """
    remarks = Remarks()
    for find in (_lengths, _beam, _directions, _shared_pixels):
        for line, text, kind in find(geometry):
            remarks.add(line, text, kind)
    for look in (_handedness, _overlaps, _centre):
        for line, text, kind in look(geometry, detector):
            remarks.add(line, text, kind)
    return remarks.shown()


def _lengths(geometry: Geometry) -> Iterator[Finding]:
    clen, (shortest, longest) = geometry.clen, CAMERA_LENGTHS
    if clen.header is not None and not clen.unit:
        text = f"clen is the header '{clen.header}' without a unit, so it is taken to be in mm; write mm or m"
        yield clen.line, text, "clen"
    factor = 1e-3 if clen.unit == "mm" else 1.0
    for panel in geometry.panels:
        if abs(panel.coffset) > longest:
            line, text = panel.line("coffset"), f"panel {panel.name}: coffset is {panel.coffset:g} m"
            yield line, f"{text}; it is always in metres", "coffset"
        elif clen.value is not None:
            away = clen.value * factor + panel.coffset
            flat = panel.fs[2] == panel.ss[2] == 0
            if abs(away) > longest or (flat and abs(away) < shortest):
                yield clen.line, f"panel {panel.name} is {away:g} m from the sample{_unit_hint(clen)}", "away"
            elif flat and away < 0:
                yield clen.line, f"panel {panel.name} is upstream of the sample, at {away:g} m", "upstream"
        pitch = 1 / panel.res
        if not PITCHES[0] <= pitch <= PITCHES[1]:
            text = f"panel {panel.name}: res = {panel.res:g} means pixels of {pitch:g} m"
            yield panel.line("res"), f"{text}; res is in pixels per metre", "res"
    for axis, shift in (("x", geometry.shift_x), ("y", geometry.shift_y)):
        if shift is not None and shift.value is not None:
            metres = shift.value * (1e-3 if shift.unit == "mm" else 1.0)
            if abs(metres) > LARGEST_SHIFT:
                yield shift.line, f"detector_shift_{axis} is {metres:g} m{_unit_hint(shift)}", f"shift{axis}"


def _unit_hint(lookup: Lookup) -> str:
    return "; without a unit metres are meant" if not lookup.unit else ""


def _beam(geometry: Geometry) -> Iterator[Finding]:
    lookup, kind = geometry.wavelength, geometry.wavelength_kind
    if lookup.value is None or kind == "electron_voltage":
        return
    energy = energy_of_wavelength(wavelength_from(kind, lookup.value, lookup.unit))
    least, largest = PHOTON_ENERGIES
    if not least <= energy <= largest:
        hint = "; without a unit it is in eV" if kind == "photon_energy" and not lookup.unit else ""
        yield lookup.line, f"{kind} means photons of {energy:g} eV{hint}", "energy"


def _directions(geometry: Geometry) -> Iterator[Finding]:
    for panel in geometry.panels:
        fs, ss = np.array(panel.fs), np.array(panel.ss)
        long = {"fs": float(np.linalg.norm(fs)), "ss": float(np.linalg.norm(ss))}
        for name, length in long.items():
            if abs(length - 1) > LENGTH_ERROR:
                text = f"panel {panel.name}: {name} is {length:.4g} pixels long; expected 1"
                yield panel.line(name), text, f"length {name}"
        cosine = float(fs @ ss) / (long["fs"] * long["ss"])
        if abs(cosine) > ANGLE_ERROR:
            angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
            text = f"panel {panel.name}: fs and ss are at {angle:.1f}° to each other; expected 90°"
            yield panel.line("ss", "fs"), text, "angle"


def _handedness(geometry: Geometry, detector: Detector) -> Iterator[Finding]:
    """Panels that, seen from the sample, are mirror images of most others; no majority, nothing to say."""
    hand = np.sign(np.einsum("px,px->p", np.cross(detector.fs, detector.ss), detector.corner))
    right, left = np.count_nonzero(hand > 0), np.count_nonzero(hand < 0)
    if min(right, left) == 0 or right == left:
        return
    odd = -1 if right > left else 1
    for panel, side in zip(geometry.panels, hand, strict=True):
        if side == odd:
            text = f"panel {panel.name} is a mirror image of most others"
            yield panel.line("fs", "ss"), f"{text}; are fs and ss swapped, or is a sign wrong?", "mirrored"


def _shared_pixels(geometry: Geometry) -> Iterator[Finding]:
    """Panels that read the same pixels of the data: the layout has given them a copy of the array."""
    first: dict[tuple[str, tuple[str | int, ...]], int] = {}
    for array in geometry.arrays:
        key = (array.data, array.dims)
        if first.setdefault(key, array.row) == array.row:
            continue
        for panel in geometry.panels:
            if array.row <= panel.slab_y < array.row + array.shape[0]:
                text = f"panel {panel.name} reads pixels of '{panel.data}' that another panel reads, too"
                yield panel.line("min_fs", "min_ss"), text, "shared"


def _overlaps(geometry: Geometry, detector: Detector) -> Iterator[Finding]:
    found = overlaps(detector)
    if not found:
        return
    for overlap in found:
        one, two = geometry.panels[overlap.first], geometry.panels[overlap.second]
        text = (
            f"panels {one.name} and {two.name} overlap, {overlap.width:.3g} px wide, "
            f"{100 * overlap.share:.2g} % of {one.name}"
        )
        yield max(one.line("corner_x"), two.line("corner_x")), text, "overlap"
    if not overlaps(_swapped(geometry, detector)):
        line = min(geometry.panels[o.first].line("fs", "ss") for o in found)
        yield line, "no panels would overlap if fs and ss were exchanged; they seem to be swapped", "swapped"


def _swapped(geometry: Geometry, detector: Detector) -> Detector:
    """The detector with fs and ss of every panel exchanged."""
    matrix = np.stack([detector.corner, detector.ss, detector.fs], axis=2)
    return replace(detector, fs=detector.ss, ss=detector.fs, back=np.linalg.inv(matrix).astype(np.float64))


def _centre(geometry: Geometry, detector: Detector) -> Iterator[Finding]:
    centre = beam_centre(detector)
    if centre.outside == 0:
        return
    line = geometry.panels[max(0, centre.panel)].line("corner_x", "corner_y")
    if centre.panel < 0:
        yield line, "the beam meets no plane of any panel downstream of the sample", "centre"
    elif centre.outside > _size(geometry.panels[centre.panel], detector, centre):
        text = f"the beam passes all panels, {centre.outside:.0f} px from the nearest"
        yield (
            line,
            f"{text}, {geometry.panels[centre.panel].name}; is the origin of corner_x, corner_y right?",
            "centre",
        )


def _size(panel: Panel, detector: Detector, centre: BeamCentre) -> float:
    """Half of the detector's extent, px of a panel: the beam may well pass through a hole of that size."""
    place = corners(detector)[..., :2].reshape(-1, 2)
    return 0.25 * float(np.ptp(place, axis=0).min()) * panel.res
