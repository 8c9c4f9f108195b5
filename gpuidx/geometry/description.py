# SPDX-License-Identifier: GPL-3.0-or-later
"""What a geometry file says of panels, masks, bad regions and data arrays, as plain data.

The whole of it is `Geometry` in `gpuidx.geometry.detector`, from where these names are imported.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Lookup:
    """A value that is either a number in the geometry file or a header of each frame.

    Attributes
    ----------
    value
        The literal, in the file's unit; None if it is looked up.
    header
        Name of the header (HDF5 path or message key); None for a literal.
    unit
        Unit as written: eV, keV, A, m, mm, V or kV; ``""`` if absent.
    line
        Line number in the geometry file.
    """

    value: float | None
    header: str | None
    unit: str
    line: int


@dataclass(frozen=True, slots=True)
class MaskSource:
    """Where one pixel mask is: ``maskN_data``, ``maskN_file``, and the bits that decide.

    A pixel is bad if ``(m & good) != good or (m & bad) != 0``.  `line` is that of the geometry file.
    """

    data: str
    file: str | None
    good_bits: int
    bad_bits: int
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class FlagRule:
    """``flag_equal`` / ``flag_lessthan`` / ``flag_morethan``: pixel values that mean "bad in this frame"."""

    kind: str  # "equal", "lessthan", "morethan"
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel as the file describes it.

    Attributes
    ----------
    name
        As in the file and in the stream.
    min_fs, max_fs, min_ss, max_ss
        Inclusive pixel range within the data array `data`.
    corner_x, corner_y
        Position of the outer corner of the first pixel, lab frame, in pixel widths.
    fs, ss : (xyz,)
        Steps of one pixel, lab frame, in pixel widths.
    res
        Pixels per metre.
    coffset
        m, added to the camera length.
    adu_per_photon, adu_per_ev
        Gain: exactly one of the two is set; per-eV is multiplied by the frame's photon energy.
    max_adu
        Saturation, ADU; inf if not given.
    data
        Data array (HDF5 path, may hold ``%``; or message key).
    dims
        For each dimension of that array: ``"ss"``, ``"fs"``, ``"%"`` (frame) or a fixed index.
    mask_edge_pixels
        Width of the border that is bad.
    masks, flags, saturation_map, saturation_map_file, no_index
        What makes pixels bad or saturated.
    slab_x, slab_y
        Where pixel (min_fs, min_ss) lies in the slab: the one 2-D array that holds all panels of a frame.
    lines
        Line in the file of each field that was given, ``"dims"`` and ``"gain"`` for theirs, ``""`` for the
        first line of the panel.
    """

    name: str
    min_fs: int
    max_fs: int
    min_ss: int
    max_ss: int
    corner_x: float
    corner_y: float
    fs: tuple[float, float, float]
    ss: tuple[float, float, float]
    res: float
    coffset: float
    adu_per_photon: float | None
    adu_per_ev: float | None
    max_adu: float
    data: str
    dims: tuple[str | int, ...]
    mask_edge_pixels: int
    masks: tuple[MaskSource, ...]
    flags: tuple[FlagRule, ...]
    saturation_map: str | None
    saturation_map_file: str | None
    no_index: bool
    slab_x: int
    slab_y: int
    lines: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def line(self, *fields: str) -> int:
        """Line of the first of *fields* that was given, else that where the panel begins."""
        return next((self.lines[name] for name in (*fields, "") if name in self.lines), 0)

    @property
    def width(self) -> int:
        """Pixels along fs."""
        return self.max_fs - self.min_fs + 1

    @property
    def height(self) -> int:
        """Pixels along ss."""
        return self.max_ss - self.min_ss + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRegion:
    """A rectangle of bad pixels: in fs/ss of one panel's data array (inclusive), or in lab x/y (strict).

    `is_fsss` tells which; the limits of x/y regions that were not given are NaN.
    """

    name: str
    is_fsss: bool
    panel: str | None
    min_fs: int = 0
    max_fs: int = 0
    min_ss: int = 0
    max_ss: int = 0
    min_x: float = np.nan
    max_x: float = np.nan
    min_y: float = np.nan
    max_y: float = np.nan
    line: int = 0


@dataclass(frozen=True, slots=True)
class DataArray:
    """One array of a message or file, and the rows of the slab that it fills.

    Attributes
    ----------
    data
        HDF5 path or message key.
    dims
        As in `Panel.dims`.
    row
        First row of the slab.
    shape : (ss, fs)
        Part of the array that the panels cover, from (0, 0).
    """

    data: str
    dims: tuple[str | int, ...]
    row: int
    shape: tuple[int, int]
