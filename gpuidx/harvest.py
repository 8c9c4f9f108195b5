# SPDX-License-Identifier: GPL-3.0-or-later
"""The parameters of a run as JSON, for data bases: ``--harvest-file``.

Keys, units and order are those of CrystFEL 0.12; what is not set, or infinite, is null.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from gpuidx.cell import UnitCell
from gpuidx.errors import OptionError
from gpuidx.geometry import Detector, Geometry, length_from, wavelength_from
from gpuidx.integration.method import parse_method
from gpuidx.options import Options

OWN_ENGINE = "gpuidx"

FLAT = 10.0
"""Pixel widths along the beam within which CrystFEL takes a detector to be flat."""


def write_harvest(options: Options, geometry: Geometry, cell: UnitCell | None) -> None:
    """Write the file, if one is wanted; as CrystFEL not if ``--serial-start`` is above 1 (a job of several).

    Raises
    ------
    OptionError
        If it cannot be written.
    """
    if options.harvest_file is None or options.serial_start > 1:
        return
    text = json.dumps(harvest(options, geometry, cell), indent="\t") + "\n"
    try:
        Path(options.harvest_file).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OptionError(f"--harvest-file={options.harvest_file} cannot be written: {error}") from error


def harvest(options: Options, geometry: Geometry, cell: UnitCell | None) -> dict[str, Any]:
    """What the file says."""
    return {
        "input": {"highres": None if math.isinf(options.highres) else _number(1e10 / options.highres)},
        "peaksearch": _peak_search(options),
        "hitfinding": {"min_num_peaks": options.min_peaks},
        "indexing": _indexing(options, geometry, cell),
        "integration": _integration(options),
    }


def _peak_search(o: Options) -> dict[str, Any]:
    return {
        "method": o.peaks,
        "radii": _radii(o.peak_radius or o.int_radius),
        "noise_filter": o.filter_noise,
        "median_filter": o.median_filter,
        "threshold_adu": _number(o.threshold),
        "min_squared_gradient_adu2": _number(o.min_squared_gradient),
        "min_snr": _number(o.min_snr),
        "check_hdf5_snr": o.check_hdf5_snr,
        "peakfinder8_fast": o.peakfinder8_fast,
        "half_pixel_shift": o.half_pixel_shift,
        "min_res_px": o.min_res,
        "max_res_px": o.max_res,
        "min_pixel_count": o.min_pix_count,
        "max_pixel_count": o.max_pix_count,
        "local_bg_radius_px": o.local_bg_radius,
        "use_saturated": o.use_saturated,
        "revalidate_hdf5": o.revalidate,
        "min_snr_of_biggest_pixel": _number(o.min_snr_biggest_pix),
        "min_snr_of_peak_pixel": _number(o.min_snr_peak_pix),
        "min_sig_adu": _number(o.min_sig),
        "min_peak_over_neighbour_adu": _number(o.min_peak_over_neighbour),
    }


def _indexing(o: Options, geometry: Geometry, cell: UnitCell | None) -> dict[str, Any]:
    names = ("a_percent", "b_percent", "c_percent", "alpha_deg", "beta_deg", "gamma_deg")
    wavelength, clen = _fixed_values(geometry)
    return {
        "methods": [OWN_ENGINE if o.makes_trials else "file" if o.does_index else "none"],
        "target_cell": _cell(cell),
        "tolerances": dict(zip(names, map(_number, o.tolerance), strict=True)),
        "multi_lattice": o.multi,
        "refine": o.refine,
        "retry": o.retry,
        "check_peaks": o.check_peaks,
        "check_cell": o.check_cell,
        "wavelength_estimate_m": wavelength or _number(o.wavelength_estimate),
        "clen_estimate_m": clen or _number(o.camera_length_estimate),
    }


def _fixed_values(geometry: Geometry) -> tuple[float | None, float | None]:
    """Wavelength and camera length, m, where the geometry itself has them."""
    wavelength = clen = None
    at = geometry.wavelength
    if at.value is not None:
        wavelength = 1e-10 * wavelength_from(geometry.wavelength_kind, at.value, at.unit)
    if geometry.clen.value is not None:
        detector = geometry.detector(length_from(geometry.clen.value, geometry.clen.unit))
        clen = detector.clen if _is_flat(detector) else None
    return wavelength, clen


def _is_flat(detector: Detector) -> bool:
    """Whether the detector has one camera length: no panel is tilted, or apart from the others in z."""
    width, height = detector.rect[:, 2], detector.rect[:, 3]
    tilt = detector.fs[:, 2] * width + detector.ss[:, 2] * height
    place = detector.corner[:, 2] * detector.pitch
    apart = (place - place.mean()) / detector.pitch
    return bool(np.abs(tilt).max() <= FLAT and np.abs(apart).max() <= FLAT)


def _cell(cell: UnitCell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    names = ("a_Angstrom", "b_Angstrom", "c_Angstrom", "alpha_deg", "beta_deg", "gamma_deg")
    kind = {"lattice_type": cell.lattice_type, "centering": cell.centering, "unique_axis": cell.unique_axis}
    parameters = cell.parameters or (math.nan,) * 6
    return kind | dict(zip(names, map(_number, parameters), strict=True))


def _integration(o: Options) -> dict[str, Any]:
    method, words = parse_method(o.integration), ["none"]
    if method is not None:
        flags = {"sat": method.saturated, "cen": method.centre, "grad": method.gradient}
        words = ["prof2d" if method.profile else "rings", *(name for name, is_set in flags.items() if is_set)]
    return {
        "method": "-".join(words),
        "radii": _radii(o.int_radius),
        "push_res_invm": _number(1e9 * o.push_res),
        "fix_profile_radius_invm": _number(o.fix_profile_radius),
        "fix_divergence_rad": _number(o.fix_divergence or None),
        "overpredict": o.overpredict,
        "cell_parameters_only": o.cell_parameters_only,
    }


def _radii(radii: tuple[float, ...]) -> dict[str, float | None]:
    names = ("inner_px", "middle_px", "outer_px")
    return dict(zip(names, map(_number, radii), strict=True))


def _number(value: float | None) -> float | None:
    """A number that JSON can hold; whole ones without a fraction."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else value
