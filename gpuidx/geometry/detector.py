# SPDX-License-Identifier: GPL-3.0-or-later
"""A geometry file as a whole, and the detector of one frame as arrays.

Nothing here reads files (`parser`) or rasters masks (`masks`).
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.description import BadRegion, DataArray, FlagRule, Lookup, MaskSource, Panel

__all__ = ["BadRegion", "DataArray", "Detector", "FlagRule", "Geometry", "Lookup", "MaskSource", "Panel"]

NEAREST = 0.01
"""Pixel widths from the sample to the plane of a panel; any nearer and the geometry is wrong."""

FARTHEST = 1e9
"""Pixel widths from the sample along any axis; any farther and the geometry is wrong."""


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
    given
        Camera length and shifts along x and y that `Geometry.detector` was asked for, m.
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
    given: tuple[float, float, float]

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
        if not len(panel):
            return np.empty((0, 3))
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
        """Panels at a camera length and shift (m), cached by value.

        Raises
        ------
        ValueError
            If a panel lies in a plane with the sample, where rays have no position, or numbers are absurd.
            A camera length of 0 or below is legal for panels that are tilted or have an offset.
        """
        return _detector(self, clen, shift_x, shift_y)


@lru_cache(maxsize=64)
def _detector(geometry: Geometry, clen: float, shift_x: float, shift_y: float) -> Detector:
    if not (math.isfinite(clen) and math.isfinite(shift_x) and math.isfinite(shift_y)):
        raise ValueError(f"camera length {clen:g} m, shift {shift_x:g}, {shift_y:g} m are not all finite")
    panels = geometry.panels
    with np.errstate(all="ignore"):
        # Divided by the pitch and not multiplied by its inverse, as in CrystFEL: the same bits in ring radii.
        pitch = 1.0 / np.array([p.res for p in panels])
        corner = np.array([(p.corner_x, p.corner_y, 0.0) for p in panels])
        coffset = np.array([p.coffset for p in panels])
        corner[:, :2] += np.array([shift_x, shift_y]) / pitch[:, None]
        corner[:, 2] = (clen + coffset) / pitch
        fs = np.array([p.fs for p in panels], float)
        ss = np.array([p.ss for p in panels], float)
        size = np.array([(p.width, p.height) for p in panels], float)
        _check_distance(geometry, corner, fs, ss)
        back = np.linalg.inv(np.stack([corner, fs, ss], axis=2))
        max_q = _largest_q(corner, fs, ss, size)
    if not np.isfinite(back).all():
        raise ValueError("directions of panels are too small to be right")
    return Detector(
        rect=np.array([(p.slab_x, p.slab_y, p.width, p.height) for p in panels], np.int32),
        origin=np.array([(p.min_fs, p.min_ss) for p in panels], float),
        corner=corner,
        fs=fs,
        ss=ss,
        pitch=pitch,
        back=back,
        clen=float(np.mean(clen + coffset)),
        max_q=max_q,
        given=(clen, shift_x, shift_y),
    )


def _check_distance(
    geometry: Geometry, corner: NDArray[np.float64], fs: NDArray[np.float64], ss: NDArray[np.float64]
) -> None:
    normal = np.cross(fs, ss)
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    distance = np.abs(np.sum(normal * corner, axis=1))
    nearest = int(np.argmin(distance))
    if not distance[nearest] >= NEAREST:
        panel = geometry.panels[nearest]
        raise ValueError(
            f"the plane of panel {panel.name} passes {distance[nearest] / panel.res:g} m from the sample; "
            "camera length or coffset is wrong"
        )


def _largest_q(
    corner: NDArray[np.float64],
    fs: NDArray[np.float64],
    ss: NDArray[np.float64],
    size: NDArray[np.float64],
) -> float:
    """Largest |q| of all panel corners for a wavelength of 1 Å.

    Raises
    ------
    ValueError
        If a corner is absurdly far away.
    """
    largest = 0.0
    for along_fs in (0, 1):
        for along_ss in (0, 1):
            ray = corner + along_fs * size[:, :1] * fs + along_ss * size[:, 1:] * ss
            if not (np.abs(ray) < FARTHEST).all():
                raise ValueError("positions of panels are too large to be right")
            q = ray / np.linalg.norm(ray, axis=1)[:, None] - (0.0, 0.0, 1.0)
            largest = max(largest, float(np.linalg.norm(q, axis=1).max()))
    return largest
