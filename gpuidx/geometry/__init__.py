# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry files and detectors; `gpuidx.geometry.masks` and `ewald` are imported by those who need them."""

from gpuidx.geometry.detector import (
    BadRegion,
    DataArray,
    Detector,
    FlagRule,
    Geometry,
    Lookup,
    MaskSource,
    Panel,
)
from gpuidx.geometry.parser import length_from, parse_geometry, read_geometry, wavelength_from
from gpuidx.geometry.streaming import streaming_problems

__all__ = [
    "BadRegion",
    "DataArray",
    "Detector",
    "FlagRule",
    "Geometry",
    "Lookup",
    "MaskSource",
    "Panel",
    "length_from",
    "parse_geometry",
    "read_geometry",
    "streaming_problems",
    "wavelength_from",
]
