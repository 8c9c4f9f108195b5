# SPDX-License-Identifier: GPL-3.0-or-later
"""What a geometry file says, as data, and the detector of one frame as arrays.

Nothing here reads files (`parser`) or rasters masks (`masks`).
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


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
        Unit as written (``"eV"``, ``"keV"``, ``"A"``, ``"m"``, ``"mm"``, ``"V"``, ``"kV"``), ``""`` if absent.
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

    A pixel is bad if ``(m & good) != good or (m & bad) != 0``.
    """

    data: str
    file: str | None
    good_bits: int
    bad_bits: int


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


@dataclass(frozen=True, eq=False)
class Detector:
    """The panels of one frame as arrays: camera length and shifts are those of the frame.

    A panel's lengths are in its own pixel widths; lab frame x y z, z along the beam.

    Attributes
    ----------
    rect : (panel, 4) int32
        x0, y0, width, height in the slab.
    origin : (panel, 2) float64
        min_fs, min_ss: added to a position within the panel when it is written to the stream.
    corner : (panel, xyz) float64
        Position of the outer corner of the first pixel, px; z = (clen + coffset) / pitch.
    fs, ss : (panel, xyz) float64
        Steps of one pixel, px.
    pitch : (panel,) float64
        Pixel width, m.
    back : (panel, 3, 3) float64
        Inverse of the matrix with columns (corner, fs, ss): ``back @ ray = (mu, mu fs, mu ss)``.
    clen
        Mean over panels of clen + coffset, m.
    max_q
        Largest |q| at any panel corner for a wavelength of 1 Å, so divide by the wavelength; 1.
    """

    rect: NDArray[np.int32]
    origin: NDArray[np.float64]
    corner: NDArray[np.float64]
    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    pitch: NDArray[np.float64]
    back: NDArray[np.float64]
    clen: float
    max_q: float

    def q(
        self, panel: NDArray[np.intp], fs: NDArray[np.float64], ss: NDArray[np.float64], wavelength: float
    ) -> NDArray[np.float64]:
        """Scattering vectors of positions on panels.

        Parameters
        ----------
        panel, fs, ss : (peak,)
            Panel number and position within the panel, px, 0.0 = corner of the first pixel.
        wavelength
            Å.

        Returns
        -------
        q : (peak, xyz)
            Å⁻¹, no 2π; ``crystfel_geometry(5)``.
        """
        ray = self.corner[panel] + fs[:, None] * self.fs[panel] + ss[:, None] * self.ss[panel]
        ray /= np.linalg.norm(ray, axis=1)[:, None]
        ray[:, 2] -= 1.0
        return ray / wavelength


@dataclass(frozen=True, eq=False)
class Geometry:
    """A geometry file, understood.

    Attributes
    ----------
    file, text
        Name as given; the file verbatim, for the head of the stream.
    panels
        In the order of the file.
    bad_regions, groups
        As in the file; groups are kept for later refinement of the geometry.
    wavelength
        The last of ``photon_energy``, ``wavelength``, ``electron_voltage``; `wavelength_kind` says which.
    clen, shift_x, shift_y
        Camera length and detector shift.
    bandwidth
        δE/E, Gaussian sigma.
    peak_list, peak_list_type
        Where peaks are in a message or file.
    arrays, slab_shape
        The data arrays that fill the slab; its (ss, fs) shape.
    warnings
        What was read but has no effect, one line each, with line numbers.
    """

    file: str
    text: str
    panels: tuple[Panel, ...]
    bad_regions: tuple[BadRegion, ...]
    groups: dict[str, tuple[str, ...]]
    wavelength: Lookup
    wavelength_kind: str
    clen: Lookup
    shift_x: Lookup | None
    shift_y: Lookup | None
    bandwidth: float
    peak_list: str | None
    peak_list_type: str
    arrays: tuple[DataArray, ...]
    slab_shape: tuple[int, int]
    warnings: tuple[str, ...] = field(default=())

    def gain(self, photon_energy: float) -> NDArray[np.float64]:
        """ADU per photon of each panel at a photon energy (eV); (panel,)."""
        return np.array(
            [
                p.adu_per_photon if p.adu_per_photon is not None else (p.adu_per_ev or 0.0) * photon_energy
                for p in self.panels
            ]
        )

    def detector(self, clen: float, shift_x: float = 0.0, shift_y: float = 0.0) -> Detector:
        """Panels at a camera length and shift (m), cached by value."""
        return _detector(self, clen, shift_x, shift_y)


@lru_cache(maxsize=64)
def _detector(geometry: Geometry, clen: float, shift_x: float, shift_y: float) -> Detector:
    panels = geometry.panels
    res = np.array([p.res for p in panels])
    corner = np.array(
        [
            (p.corner_x + shift_x * p.res, p.corner_y + shift_y * p.res, (clen + p.coffset) * p.res)
            for p in panels
        ]
    )
    fs = np.array([p.fs for p in panels], float)
    ss = np.array([p.ss for p in panels], float)
    size = np.array([(p.width, p.height) for p in panels], float)
    largest = 0.0
    for along_fs in (0, 1):
        for along_ss in (0, 1):
            ray = corner + along_fs * size[:, :1] * fs + along_ss * size[:, 1:] * ss
            q = ray / np.linalg.norm(ray, axis=1)[:, None] - (0.0, 0.0, 1.0)
            largest = max(largest, float(np.linalg.norm(q, axis=1).max()))
    return Detector(
        rect=np.array([(p.slab_x, p.slab_y, p.width, p.height) for p in panels], np.int32),
        origin=np.array([(p.min_fs, p.min_ss) for p in panels], float),
        corner=corner,
        fs=fs,
        ss=ss,
        pitch=1.0 / res,
        back=np.linalg.inv(np.stack([corner, fs, ss], axis=2)),
        clen=float(np.mean([clen + p.coffset for p in panels])),
        max_q=largest,
    )
