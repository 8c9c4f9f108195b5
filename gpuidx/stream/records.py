# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stream says of a frame and its crystals, as data; `reader` makes them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpuidx.model import HeaderValue

PEAK_FIELDS = ("fs", "ss", "inv_d", "intensity")
REFLECTION_FIELDS = ("h", "k", "l", "intensity", "sigma", "peak", "background", "fs", "ss")


@dataclass(eq=False)
class StreamCrystal:
    """One crystal of a chunk.

    Attributes
    ----------
    recip : (abc*, xyz)
        Å⁻¹; None if the chunk does not give all three.
    cell
        a, b, c in Å, alpha, beta, gamma in degrees, as printed; None if they are not.
    lattice_type, centering, unique_axis
        As printed.
    profile_radius, resolution_limit
        Å⁻¹; None if they are not given.
    shift
        Of the detector, m.
    n_reflections, n_saturated, n_implausible
        As printed; None if they are not.
    notes
        All other lines ``NAME = VALUE``, as text.
    reflections
        Structured array with `REFLECTION_FIELDS` and ``panel``; None without a table.
    """

    recip: NDArray[np.float64] | None = None
    cell: tuple[float, ...] | None = None
    lattice_type: str = "triclinic"
    centering: str = "P"
    unique_axis: str = "*"
    profile_radius: float | None = None
    resolution_limit: float | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    n_reflections: int | None = None
    n_saturated: int | None = None
    n_implausible: int | None = None
    notes: dict[str, str] = field(default_factory=dict)
    reflections: NDArray[np.void] | None = None


@dataclass(eq=False)
class StreamChunk:
    """One frame of a stream.

    Attributes
    ----------
    line
        Number of its first line.
    filename, event, serial, hit, indexed_by, n_tries
        As printed; an event of ``""`` and a serial of None if there is none.
    photon_energy, divergence, bandwidth, camera_length
        eV, rad, relative, m.
    headers
        Copied header values by name, of the type that the stream says.
    n_peaks
        As printed.
    peak_resolution
        Å⁻¹.
    peaks
        Structured array with `PEAK_FIELDS` and ``panel``; None without a table.
    crystals
        In order.
    notes
        All other lines ``NAME = VALUE``, as text.
    """

    line: int
    filename: str = ""
    event: str = ""
    serial: int | None = None
    hit: bool = False
    indexed_by: str = "none"
    n_tries: int = 0
    photon_energy: float | None = None
    divergence: float = 0.0
    bandwidth: float = 0.0
    camera_length: float | None = None
    headers: dict[str, HeaderValue] = field(default_factory=dict)
    n_peaks: int = 0
    peak_resolution: float = 0.0
    peaks: NDArray[np.void] | None = None
    crystals: list[StreamCrystal] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
