# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each value of a frame will come from: the geometry file, a header, the data, or another file.

Files are looked for, not opened.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from gpuidx.geometry.detector import DataArray, Geometry, Lookup, Panel
from gpuidx.geometry.lookup import length_from, wavelength_from
from gpuidx.units import energy_of_wavelength

Row = tuple[str, str, int | None]
"""What, where from, and the line that says so."""

MOST_ROWS = 6
"""Rows of one kind that are shown."""


def origins(geometry: Geometry) -> list[Row]:
    """Rows for people, in the order in which a frame is read."""
    rows = [_wavelength(geometry), ("camera length", _length(geometry.clen, "mm"), geometry.clen.line)]
    rows += _offsets(geometry)
    for axis, shift in (("x", geometry.shift_x), ("y", geometry.shift_y)):
        if shift is not None:
            rows.append((f"shift {axis}", _length(shift, "m"), shift.line))
    rows += _shortened("image", [(_array(geometry, array), None) for array in geometry.arrays])
    rows += _shortened("mask", list(_masks(geometry)))
    rows += _shortened("saturation", list(_saturation(geometry)))
    rows += _shortened("bad pixels", list(_bad(geometry)))
    rows += _shortened("gain", _by_panels(geometry, _gain))
    rows.append(("bandwidth", f"{geometry.bandwidth:g}, relative", None))
    if geometry.peak_list is not None:
        rows.append(("peaks", f"'{geometry.peak_list}' of each frame, type {geometry.peak_list_type}", None))
    return rows


def missing_files(geometry: Geometry) -> list[Row]:
    """Files of masks and saturation maps that are not there: kind, name, line."""
    named: dict[str, Row] = {}
    for panel in geometry.panels:
        for mask in panel.masks if not panel.no_index else ():
            if mask.file is not None:
                named.setdefault(mask.file, ("mask", mask.file, mask.line))
        if panel.saturation_map is not None and panel.saturation_map_file is not None:
            file = panel.saturation_map_file
            named.setdefault(file, ("saturation map", file, panel.line("saturation_map_file")))
    return [row for row in named.values() if not _is_there(row[1])]


def _is_there(file: str) -> bool:
    try:
        return Path(file).exists()
    except (OSError, ValueError):  # a NUL in the name, or a name that is too long
        return False


def _wavelength(geometry: Geometry) -> Row:
    lookup, kind = geometry.wavelength, geometry.wavelength_kind
    name = kind.replace("_", " ")
    if lookup.value is None:
        unit = lookup.unit or ("eV" if kind == "photon_energy" else "")
        return name, f"header '{lookup.header}' of each frame, in {unit}", lookup.line
    wavelength = wavelength_from(kind, lookup.value, lookup.unit)
    text = f"{lookup.value:g} {lookup.unit or 'eV'} in the file, that is {wavelength:.5g} Å"
    if kind == "wavelength":
        text += f" or {energy_of_wavelength(wavelength):.6g} eV"
    return name, text, lookup.line


def _length(lookup: Lookup, unit_of_header: str) -> str:
    if lookup.value is None:
        unit = lookup.unit or f"{unit_of_header}, since no unit is given"
        return f"header '{lookup.header}' of each frame, in {unit}"
    return f"{length_from(lookup.value, lookup.unit):g} m in the file"


def _offsets(geometry: Geometry) -> list[Row]:
    offsets = [panel.coffset for panel in geometry.panels]
    least, largest = min(offsets), max(offsets)
    if least == largest == 0:
        return []
    line = next(panel.line("coffset") for panel in geometry.panels if panel.coffset != 0)
    text = f"{least:g} m" if least == largest else f"{least:g} to {largest:g} m, by panel"
    return [("+ coffset", f"{text}, in the file", line)]


def _array(geometry: Geometry, array: DataArray) -> str:
    last = array.row + array.shape[0]
    names = [panel.name for panel in geometry.panels if array.row <= panel.slab_y < last]
    shown = ", ".join(map(str, array.dims))
    return (
        f"'{array.data}' ({shown}), at least {array.shape[0]} × {array.shape[1]} (ss × fs), {_panels(names)}"
    )


def _panels(names: list[str]) -> str:
    return f"panel {names[0]}" if len(names) == 1 else f"{len(names)} panels"


def _masks(geometry: Geometry) -> Iterator[tuple[str, int | None]]:
    count = Counter(mask for panel in geometry.panels for mask in panel.masks)
    for mask, n in count.items():
        if mask.file is None:
            where = f"'{mask.data}' in the file of each frame"
        else:
            where = f"'{mask.data}' in '{mask.file}' ({'there' if _is_there(mask.file) else 'MISSING'})"
        bits = f"good bits {mask.good_bits:#x}, bad bits {mask.bad_bits:#x}"
        yield f"{where}, {bits}, {n} panel{'s' if n > 1 else ''}", mask.line


def _saturation(geometry: Geometry) -> Iterator[tuple[str, int | None]]:
    def limit(panel: Panel) -> tuple[str, int | None] | None:
        if panel.max_adu == float("inf"):
            return None
        return f"max_adu {panel.max_adu:g} ADU", panel.line("max_adu")

    def image(panel: Panel) -> tuple[str, int | None] | None:
        if panel.saturation_map is None:
            return None
        file, line = panel.saturation_map_file, panel.line("saturation_map")
        if file is None:
            return f"map '{panel.saturation_map}' in the file of each frame", line
        there = "there" if _is_there(file) else "MISSING"
        return f"map '{panel.saturation_map}' in '{file}' ({there})", line

    yield from _by_panels(geometry, limit)
    yield from _by_panels(geometry, image)


def _bad(geometry: Geometry) -> Iterator[tuple[str, int | None]]:
    for region in geometry.bad_regions:
        if region.is_fsss:
            text = f"fs {region.min_fs} to {region.max_fs}, ss {region.min_ss} to {region.max_ss}"
            yield f"region {region.name}: {text} of panel {region.panel}", region.line
        else:
            text = f"x {region.min_x:g} to {region.max_x:g}, y {region.min_y:g} to {region.max_y:g}"
            yield f"region {region.name}: {text} px of the laboratory", region.line
    yield from _by_panels(
        geometry, lambda p: ("no_index: all pixels", p.line("no_index")) if p.no_index else None
    )
    yield from _by_panels(
        geometry,
        lambda p: (
            (f"edges: {p.mask_edge_pixels} px", p.line("mask_edge_pixels"))
            if p.mask_edge_pixels > 0
            else None
        ),
    )
    words = {"lessthan": "below", "morethan": "above", "equal": "equal to"}
    yield from _by_panels(
        geometry,
        lambda p: (
            ("values " + ", ".join(f"{words[f.kind]} {f.value:g}" for f in p.flags), p.line("flags"))
            if p.flags
            else None
        ),
    )


def _gain(panel: Panel) -> tuple[str, int | None]:
    if panel.adu_per_photon is not None:
        return f"{panel.adu_per_photon:g} ADU per photon", panel.line("gain")
    return f"{panel.adu_per_ev:g} ADU per eV, by the photon energy of each frame", panel.line("gain")


def _by_panels(
    geometry: Geometry, say: Callable[[Panel], tuple[str, int | None] | None]
) -> list[tuple[str, int | None]]:
    """What is to be said of panels, those of which the same is said together."""
    said: dict[str, tuple[int | None, list[str]]] = {}
    for panel in geometry.panels:
        found = say(panel)
        if found is not None:
            said.setdefault(found[0], (found[1], []))[1].append(panel.name)
    n_panel = len(geometry.panels)
    return [
        (f"{text}, {'all panels' if len(names) == n_panel > 1 else _panels(names)}", line)
        for text, (line, names) in said.items()
    ]


def _shortened(what: str, found: list[tuple[str, int | None]]) -> list[Row]:
    rows: list[Row] = [(what, text, line) for text, line in found[:MOST_ROWS]]
    if len(found) > MOST_ROWS:
        rows.append((what, f"and {len(found) - MOST_ROWS} more", None))
    return rows
