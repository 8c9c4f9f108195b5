# SPDX-License-Identifier: GPL-3.0-or-later
"""The things that travel through the run: Message, Frame, PeakList, Candidate, Crystal, Reflections.

Units: Å, Å⁻¹ (no 2π), eV, m, ADU, px.  Rows of a 3×3 matrix are vectors, lab frame x y z.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx.geometry.detector import Detector

PIXEL_TYPES = ("u2", "i2", "u4", "i4", "f4")
"""dtypes that kernels are made for; decoders convert u1 to u2, i1 to i2, and i8, u8, f8 to f4."""

BYTE_TYPES = ("u1", "i1")
"""dtypes that devices take too, as they were sent: half as much has to go over the bus."""

RECOGNISED = "messages recognised as "
"""How a worker's note begins that is no fault."""

PADDING = b"\xc1"
"""Up to 15 such bytes may stand in front of a message, so that its pixels are aligned in memory.

No format begins with this byte, and MsgPack never uses it.
"""

STREAMED = "ZMQdata"
"""Image filename of frames that came as messages without a name, as CrystFEL has it."""

NO_LIMITS = (-math.inf, math.inf)
"""`Packed.limits` where every value is one."""

HeaderValue = int | float | str

NO_BYTES = memoryview(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a source delivered, not decoded.

    Attributes
    ----------
    serial
        Number in this run, from ``--serial-start``, in order of arrival; the service's own if it has one.
    filename, event
        As the stream names the frame.
    number
        Of the frame in a message or a file with several, from 0.
    data
        The payload, perhaps behind `PADDING`; empty for a frame that is to be read from the file `filename`.
        Of a message in several parts the last.
    parts
        All parts where there is more than one.
    series
        Parts of the message that began the series of this frame (detector configuration, masks), the same
        objects for all frames of the series; empty where none came, or the format has none.
    stream
        Name of the stream at the service that numbered the message; else empty.
    values
        JSON object with values that the sender gave beside the payload; empty if there is none.
    is_alone
        Whether the message or file holds no other frame.
    """

    serial: int
    filename: str
    event: str
    data: memoryview
    number: int = 0
    parts: tuple[memoryview, ...] = ()
    series: tuple[memoryview, ...] = ()
    stream: str = ""
    values: memoryview = NO_BYTES
    is_alone: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeakList:
    """Peaks of one frame, in the order of the search (or as supplied).

    Attributes
    ----------
    fs, ss : (peak,) float64
        Position within the panel, px, 0.0 = corner of the first pixel.
    panel : (peak,) int32
        Index into the geometry's panels.
    intensity : (peak,) float64
        ADU, background subtracted.
    """

    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    panel: NDArray[np.int32]
    intensity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.fs)

    def select(self, index: NDArray[Any]) -> "PeakList":
        """The peaks that a mask or list of indices names, in its order."""
        return PeakList(
            fs=self.fs[index], ss=self.ss[index], panel=self.panel[index], intensity=self.intensity[index]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """Pixels of a slab by bitshuffle with LZ4, found and checked but not decoded: a device can do that.

    Attributes
    ----------
    data : (byte,) uint8
        As an HDF5 chunk is stored: head, blocks each behind its length, the last few pixels as they are.
    starts : (n_block + 1,) int32
        Where in `data` each block's length stands, and where the last block ends.
    dtype
        One of `PIXEL_TYPES` but f4, or of `BYTE_TYPES`; little-endian.
    block
        Pixels of a block; the last one may have fewer.
    masked : (ss, fs) bool
        Pixels of the slab that are bad in the whole series, by the sender's pixel mask; the same array object
        for the same mask.  None if there are none.
    limits
        Least and greatest value of a pixel that has one, float32 numbers; what the geometry's flags tell is
        left out.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int32]
    dtype: np.dtype[Any]
    block: int
    masked: NDArray[np.bool_] | None = None
    limits: tuple[float, float] = NO_LIMITS


def block_count(n_pixel: int, block: int) -> int:
    """Blocks of `Packed` pixels; the last few pixels, fewer than eight, are in none."""
    return -(-(n_pixel // 8 * 8) // block)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One exposure as sent: decoded, not corrected, in host memory.

    Attributes
    ----------
    serial, filename, event, stream
        As in `Message`.
    image : (ss, fs)
        The slab: all panels in one array, C-contiguous, writable, dtype one of `PIXEL_TYPES`; on the way
        to a device and back also one of `BYTE_TYPES`.
        A pixel that is bad in this frame only, and not by its value alone, is NaN (dtype f4 then).
        None with ``--no-image-data``, and where there is `packed`.
    packed
        The image, not decoded, on the way to a device that does it; else None.
    wavelength
        Å.
    photon_energy
        eV.
    detector
        The panels at this frame's camera length and shift.
    headers
        Values read from the message, by the name they were looked up under, in that order.
    peaks
        Sent along with the frame (``--peaks=msgpack``), else None.
    saturation : (ss, fs) float32
        Saturation of each pixel, ADU, where a map of it lies in the frame's file; else None.
    source_id
        Series and number under which the detector knows the image, `source_id_of`; empty without them.
    """

    serial: int
    filename: str
    event: str
    image: NDArray[Any] | None
    packed: Packed | None = None
    wavelength: float
    photon_energy: float
    detector: Detector
    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    peaks: PeakList | None = None
    saturation: NDArray[np.float32] | None = None
    stream: str = ""
    source_id: str = ""


def source_id_of(series: object, number: object) -> str:
    """One name for series and number of an image; empty if the sender does not tell both."""
    known = isinstance(series, int | str) and series != "" and isinstance(number, int)
    return f"{series}/{number}" if known else ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A lattice that the indexing trials accepted; not refined against positions, not checked.

    Attributes
    ----------
    axes : (abc, xyz)
        Real-space axes in Å of the reduced primitive cell, right-handed.
    shift : (xy,)
        Common shift of all q that fits best (an error of the beam centre), Å⁻¹.
    score
        Log-likelihood ratio; facts in docs/indexing.md.
    """

    axes: NDArray[np.float64]
    shift: NDArray[np.float64]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a backend found in one frame.

    Attributes
    ----------
    peaks
        From the search, or those that came with the frame.
    candidates
        Strongest first; empty if the frame is no hit or nothing was accepted.  None if no trials were made
        where the peaks were found: they are left to a worker.
    n_tries
        Trials made: 1 for one attempt series, more with retry and several lattices; 0 if none was made.
    axes : (try, kind, axis, xyz and score) float32
        Vectors that may be of the lattice, for trials without a cell that are left to a worker: for the first
        tries, of both kinds, best first, Å; score 0 behind the last.  None if they were not looked for.
    """

    peaks: PeakList
    candidates: tuple[Candidate, ...] | None
    n_tries: int
    axes: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reflections:
    """Integrated reflections of one crystal, sorted by h, k, l.

    Attributes
    ----------
    hkl : (reflection, 3) int32
    intensity, sigma, peak, background : (reflection,) float64
        ADU.
    fs, ss : (reflection,) float64
        Predicted position within the panel, px.
    panel : (reflection,) int32
    n_saturated, n_implausible
        Left out because of a saturated pixel, or because I < −5σ.
    """

    hkl: NDArray[np.int32]
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    peak: NDArray[np.float64]
    background: NDArray[np.float64]
    fs: NDArray[np.float64]
    ss: NDArray[np.float64]
    panel: NDArray[np.int32]
    n_saturated: int
    n_implausible: int

    def __len__(self) -> int:
        return len(self.hkl)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crystal:
    """A lattice that passed refinement and checks.

    Attributes
    ----------
    recip : (abc*, xyz)
        Reciprocal axes a*, b*, c*, Å⁻¹, in the target's setting.
    lattice_type, centering, unique_axis
        As in a unit-cell file.
    score
        Of the candidate it came from; None if it was given from outside.
    shift : (xy,)
        Fitted detector shift, m; zero unless ``--refine-shift``.
    profile_radius
        Å⁻¹.
    resolution_limit
        Å⁻¹; diffraction_resolution_limit of the stream.
    residuals
        ``predict_refine/...`` notes by name: total and its excitation-error, fs and ss parts.
    reflections
        None if they were not integrated.
    alignment
        Record of Millepede-II for alignment of the detector (``--mille``); else empty.
    """

    recip: NDArray[np.float64]
    lattice_type: str
    centering: str
    unique_axis: str
    score: float | None
    shift: tuple[float, float]
    profile_radius: float
    resolution_limit: float
    residuals: Mapping[str, tuple[float, float, float, float]]
    reflections: Reflections | None = None
    alignment: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """Everything that one chunk of the stream says.

    Attributes
    ----------
    frame, peaks
        The frame and its peaks.
    hit
        At least ``--min-peaks`` peaks.
    inv_d : (peak,) float64
        1/d of each peak, Å⁻¹.
    peak_resolution
        Å⁻¹.
    n_tries
        As in `Found`.
    crystals
        Those that passed all checks.
    """

    frame: Frame
    peaks: PeakList
    hit: bool
    inv_d: NDArray[np.float64]
    peak_resolution: float
    n_tries: int
    crystals: tuple[Crystal, ...]
