# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx geom check``: what is understood of a geometry file, what is odd in it, and a picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpuidx.cell import UnitCell, read_cell
from gpuidx.commands.geom_report import View, figures, table
from gpuidx.commands.picture_errors import drawing
from gpuidx.errors import GeometryError, OptionError
from gpuidx.geometry import (
    Detector,
    Geometry,
    length_from,
    read_geometry,
    streaming_problems,
    wavelength_from,
)
from gpuidx.geometry.lint import suspicions
from gpuidx.geometry.masks import Masks
from gpuidx.geometry.origins import missing_files, origins
from gpuidx.units import wavelength_of_energy

DESCRIPTION = """Read a geometry file as a run would, print what is understood and where each value of a
frame will come from, warn of what is odd, and draw the panels.  Ends with 1 if a run could not use it."""

ASSUMED_DISTANCE = 0.1
"""m, mean distance of the panels where the camera length is a header and nobody says how long it is."""

MOST_PIXELS = 200_000_000
"""Pixels of which bad ones are counted; more need too much memory."""


def main(argv: Sequence[str]) -> int:
    """Print the report and write the picture; gives the exit code."""
    options = _parser().parse_args(argv)
    geometry = read_geometry(options.file)
    cell = read_cell(options.pdb) if options.pdb is not None else None
    errors = [
        f"{geometry.file}:{line}: {kind} file '{file}' does not exist; names are relative to this folder"
        for kind, file, line in missing_files(geometry)
    ]
    view = _view(geometry, options.photon_energy, options.camera_length, errors)
    print("\n".join(_report(view, cell, errors)))
    if options.picture != "":
        _picture(view, options.picture or f"{Path(options.file).name}.png")
    return 1 if errors else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuidx geom", description="Work with geometry files.")
    check = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "check", help="what is understood of a geometry file", description=DESCRIPTION
    )
    check.add_argument("file", metavar="FILE", help="geometry file (.geom)")
    check.add_argument("-p", "--pdb", metavar="FILE", help="unit cell: how far apart its spots are")
    check.add_argument(
        "--photon-energy", type=float, metavar="EV", help="eV, where the geometry looks it up in a header"
    )
    check.add_argument(
        "--camera-length",
        type=float,
        metavar="M",
        help="clen in m, where the geometry looks it up in a header",
    )
    check.add_argument(
        "--picture", metavar="FILE", help="file of the picture (default: FILE.png, in this folder)"
    )
    check.add_argument("--no-picture", dest="picture", action="store_const", const="", help="draw nothing")
    return parser


def _view(
    geometry: Geometry, photon_energy: float | None, camera_length: float | None, errors: list[str]
) -> View:
    wavelength, clen = _wavelength(geometry, photon_energy), _clen(geometry, camera_length)
    shift = [
        length_from(s.value, s.unit) if s is not None and s.value is not None else 0.0
        for s in (geometry.shift_x, geometry.shift_y)
    ]
    likely = ASSUMED_DISTANCE - float(np.mean([panel.coffset for panel in geometry.panels]))
    try:
        detector = geometry.detector(likely if clen is None else clen, *shift)
    except ValueError as error:
        raise GeometryError(geometry.file, geometry.clen.line, f"clen: {error}") from error
    return View(geometry, detector, wavelength, clen, _bad_pixels(geometry, detector, errors))


def _wavelength(geometry: Geometry, photon_energy: float | None) -> float | None:
    lookup = geometry.wavelength
    if lookup.value is not None:
        if photon_energy is not None:
            raise OptionError(f"--photon-energy: {geometry.file}:{lookup.line} gives it already")
        return wavelength_from(geometry.wavelength_kind, lookup.value, lookup.unit)
    if photon_energy is None:
        return None
    if not 0 < photon_energy < np.inf:
        raise OptionError(f"--photon-energy={photon_energy:g}; expected eV, above 0")
    return wavelength_of_energy(photon_energy)


def _clen(geometry: Geometry, camera_length: float | None) -> float | None:
    lookup = geometry.clen
    if lookup.value is None:
        return camera_length
    if camera_length is not None:
        raise OptionError(f"--camera-length: {geometry.file}:{lookup.line} gives it already")
    return length_from(lookup.value, lookup.unit)


def _bad_pixels(geometry: Geometry, detector: Detector, errors: list[str]) -> NDArray[np.bool_] | None:
    """Bad pixels; without the mask files if one of them cannot be used, which is then an error."""
    if geometry.slab_shape[0] * geometry.slab_shape[1] > MOST_PIXELS:
        return None
    known = len(errors)
    for read_masks in (known == 0, False):
        try:
            return Masks(geometry, read_masks=read_masks).at(detector, 1.0)
        except GeometryError as error:
            if len(errors) == known == 0:
                errors.append(str(error))
    return None


def _report(view: View, cell: UnitCell | None, errors: Sequence[str]) -> list[str]:
    """The whole text."""
    geometry = view.geometry
    found, warnings = figures(view, cell)
    lines = table([(what, text, line) for what, text, line in origins(geometry)])
    lines += ["", *table(found), ""]
    said = [
        f"{geometry.file}:{line}: {text}" if line else f"{geometry.file}: {text}"
        for line, text in suspicions(geometry, view.detector)
    ]
    said += [f"{geometry.file}: {text}" for text in warnings]
    lines += [f"warning: {text}" for text in (*geometry.warnings, *said)]
    lines += [f"only from files, or HDF5 messages: {text}" for text in streaming_problems(geometry)]
    lines += [f"error: {text}" for text in errors]
    lines.append(_verdict(len(geometry.warnings) + len(said), len(errors)))
    return lines


def _verdict(n_warning: int, n_error: int) -> str:
    said = [
        f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((n_error, "error"), (n_warning, "warning")) if n
    ]
    return f"{' and '.join(said)}" if said else "no warnings"


def _picture(view: View, file: str) -> None:
    with drawing(file):
        from gpuidx.commands.geom_picture import draw

        draw(view, file)
