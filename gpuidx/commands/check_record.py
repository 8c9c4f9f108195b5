# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``gpuidx check`` found at each step, as plain data.

The words are in `check_report` and `check_causes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuidx.sources.knock import Neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How frames came.

    Attributes
    ----------
    source
        Addresses, or the list of files.
    kind
        ``"REQ"``, ``"SUB"``, ``"PULL"``, ``"ASAP::O"`` or ``"files"``.
    asks
        Request that is sent, or tags that are subscribed to, in words.
    bound, encrypted
        Whether the senders connect to us, and whether keys were given.
    connected, first
        Seconds until a connection and until the first message; None if there was none.
    waited
        Seconds altogether.
    n_frame
        Frames received.
    size
        Bytes of the frame that is looked at.
    refused
        Reason and detail of the last message that was no frame.
    neighbours
        Who is at each address, if nothing came.
    heard
        Beginning of a message that was published under another tag.
    streams
        Names of the streams that the ASAP::O source has, and how many messages are in each.
    """

    source: str
    kind: str
    asks: str = ""
    bound: bool = False
    encrypted: bool = False
    connected: float | None = None
    first: float | None = None
    waited: float = 0.0
    n_frame: int = 0
    size: int = 0
    refused: tuple[str, str] | None = None
    neighbours: tuple[tuple[str, Neighbour], ...] = ()
    heard: bytes | None = None
    streams: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRow:
    """A value that the geometry asks for.

    Attributes
    ----------
    what
        In words.
    name
        Of the header; None for a number in the geometry.
    value
        As sent, with its unit; ``""`` if it is missing.
    result
        In our units.
    problem
        Why there is none.
    needed
        Whether a frame without it is rejected.
    """

    what: str
    name: str | None
    value: str = ""
    result: str = ""
    problem: str = ""
    needed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The image of a frame; counts and values of usable pixels, ADU.

    Attributes
    ----------
    shape, dtype
        (ss, fs); as the pixels are used.
    n_usable
        Number of them.
    least, median, greatest
        Of their values.
    n_saturated
        Above ``max_adu`` or the saturation map.
    top, n_top
        Largest value of the type, and how many have it, usable or not.
    """

    shape: tuple[int, ...]
    dtype: str
    n_usable: int
    least: float
    median: float
    greatest: float
    n_saturated: int
    top: float | None
    n_top: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What became of the bytes.

    Attributes
    ----------
    format
        That was recognised, in words.
    n_frame
        Frames of the message.
    rejected
        Reason and detail if there is no frame.
    pixels
        None without an image.
    """

    format: str
    n_frame: int = 1
    rejected: tuple[str, str] | None = None
    pixels: Pixels | None = None


@dataclass(frozen=True, slots=True)
class MaskShare:
    """How many of *n_pixel* pixels are bad, altogether and by each cause; one may have several."""

    n_pixel: int
    n_bad: int
    causes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakSummary:
    """The peaks of a frame.

    Attributes
    ----------
    method, least
        ``--peaks`` and ``--min-peaks``.
    n_peak
        After all checks.
    n_sent
        That came with the frame; None if they were searched.
    resolution
        Of the first and the last, Å.
    snr
        5, 50 and 95 % of the peaks have less than this.
    threshold, n_above
        ``--threshold``, if the search has one, and the number of usable pixels above it.
    highest
        Value of the highest usable pixel, ADU, where it is, and at which resolution, Å.
    remedies
        Options that give enough peaks, and how many.
    """

    method: str
    least: int
    n_peak: int
    n_sent: int | None = None
    resolution: tuple[float, float] | None = None
    snr: tuple[float, float, float] | None = None
    threshold: float | None = None
    n_above: int = 0
    highest: tuple[float, str, float] | None = None
    remedies: tuple[tuple[str, int], ...] = ()

    @property
    def enough(self) -> bool:
        """Whether the frame is a hit, with any peak at all."""
        return self.n_peak >= max(1, self.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """A lattice.

    Attributes
    ----------
    parameters
        Å and degrees.
    differences
        From the target: percent and degrees; None without target.
    explained
        Share of the peaks that belong to it.
    """

    parameters: tuple[float, ...]
    differences: tuple[float, ...] | None
    explained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """What is found where the target is not.

    Attributes
    ----------
    cell
        Of the lattice that is found without target; None if there is none.
    clen, photon_energy
        m and eV; mean camera length of the panels.
    better_clen
        The same at which the frame is indexed with the target; None if none was found.
    """

    cell: CellRow | None = None
    clen: float = 0.0
    photon_energy: float = 0.0
    better_clen: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What the trials gave.

    Attributes
    ----------
    wanted
        Whether frames are indexed at all.
    has_target
        Whether there is a target cell.
    n_tries, n_candidate
        Attempts, and lattices before the checks.
    crystals
        Those that passed them.
    remedies
        Options with which there is a crystal.
    free
        Looked for if there is none with the target cell.
    """

    wanted: bool
    has_target: bool
    n_tries: int = 0
    n_candidate: int = 0
    crystals: tuple[CellRow, ...] = ()
    remedies: tuple[str, ...] = ()
    free: Free | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrated:
    """Reflections of all crystals.

    Attributes
    ----------
    wanted
        Whether there is anything to integrate by the options.
    n_reflection, n_saturated, n_implausible
        Integrated, and left out.
    i_over_sigma
        Median.
    resolution, profile_radius
        Å and Å⁻¹, of the first crystal; infinite where there is no limit.
    """

    wanted: bool
    n_reflection: int = 0
    n_saturated: int = 0
    n_implausible: int = 0
    i_over_sigma: float = 0.0
    resolution: float = 0.0
    profile_radius: float = 0.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each step for this frame, worker processes, and what does the array work in a run."""

    seconds: Mapping[str, float]
    jobs: int
    backend: str


@dataclass(slots=True)
class Record:
    """All steps; those that were not reached are None."""

    arrival: Arrival
    headers: tuple[HeaderRow, ...] | None = None
    decoded: Decoded | None = None
    masks: MaskShare | None = None
    peaks: PeakSummary | None = None
    indexed: Indexed | None = None
    integrated: Integrated | None = None
    times: Times | None = None
