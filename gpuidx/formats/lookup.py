# SPDX-License-Identifier: GPL-3.0-or-later
"""Header values of a frame: wavelength, camera length, detector shift, and those to be copied.

The format gives a function from name to value; here values are checked and put into our units.
"""

import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from gpuidx.errors import Rejected
from gpuidx.geometry import Detector, Geometry, Lookup
from gpuidx.geometry.lookup import length_from, wavelength_from
from gpuidx.model import HeaderValue
from gpuidx.options import IndexOptions
from gpuidx.units import ANGSTROM, energy_of_wavelength

ReadValue = Callable[[str], HeaderValue]
"""Gives a header value by its name; raises `Rejected` if there is none or it is no number or text."""

WAVELENGTHS = (1e-3, 1e3)
"""Å; from electrons of 10 MeV to extreme ultraviolet.  Beyond that a header is wrong, not the beam."""

LONGEST_CAMERA = 1e3
"""m."""

NEAREST_PANEL = 1e-6
"""m from the sample to the plane of a panel; nearer there is no diffraction geometry."""

ESTIMATE_TOLERANCE = 0.1
"""Greatest relative difference between a frame and ``--wavelength-estimate`` and its like."""

LONGEST_TEXT = 16384
"""Characters of a text value, as in CrystFEL 0.12."""

_MOST_NAMES, _NAMES_SHOWN, _LONGEST_NAME = 200, 12, 60
_ALIKE = 0.5  # of difflib's ratio: `photon_energy` and `beam_energy` have 0.58


def what_there_is(wanted: str, names: Iterable[str]) -> str:
    """The first of *names*, for the text about a missing one, and which of them may have been meant."""
    known = [one[:_LONGEST_NAME] for one in islice(names, _MOST_NAMES)]
    shown = ", ".join(f"{one!r:.{_LONGEST_NAME}}" for one in known[:_NAMES_SHOWN]) + (
        ", …" if len(known) > _NAMES_SHOWN else ""
    )
    meant = most_alike(wanted, known)
    return (shown or "nothing") + (f"; did you mean {meant!r}?" if meant else "")


def most_alike(name: str, names: Iterable[str]) -> str:
    """The one of *names* that is most like a name, by the last part of paths; ``""`` if none is."""
    last = {one.rpartition("/")[2].lower(): one for one in names}
    found = difflib.get_close_matches(name.rpartition("/")[2].lower(), last, 1, _ALIKE)
    return last[found[0]] if found else ""


@dataclass(frozen=True, slots=True)
class FrameValues:
    """What the headers of one frame say.

    Attributes
    ----------
    wavelength, photon_energy
        Å, eV.
    detector
        At this frame's camera length and shift.
    headers
        Looked-up values by name, in the order of CrystFEL: wavelength, camera length, shifts, copied ones.
    """

    wavelength: float
    photon_energy: float
    detector: Detector
    headers: dict[str, HeaderValue]


def check_value(name: str, value: object) -> HeaderValue:
    """A header value that may stand in a stream.

    Raises
    ------
    Rejected
        If it is no integer, float or text of one line.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Rejected("bad header value", f"'{name}' is {value!r:.60}; expected a number or text")
    if isinstance(value, str):
        if not 0 < len(value) <= LONGEST_TEXT:
            raise Rejected("bad header value", f"'{name}' is text of {len(value)} characters")
        if not value.isprintable():
            raise Rejected("bad header value", f"'{name}' is {value!r:.60}; expected text of one line")
    return value


def number(name: str, value: HeaderValue) -> float:
    """A header value as a finite number; text counts if all of it is a number.

    Raises
    ------
    Rejected
        If it is not.
    """
    try:
        found = float(value) if not (isinstance(value, str) and "_" in value) else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Rejected("bad header value", f"'{name}' is {value!r:.60}; expected a finite number")
    return found


def _either(first: ReadValue, second: ReadValue) -> ReadValue:
    """Gives what *first* gives, or else *second*; if neither has it, what *first* says of it."""

    def value_of(name: str) -> HeaderValue:
        try:
            return first(name)
        except Rejected as missing:
            try:
                return second(name)
            except Rejected:
                raise missing from None

    return value_of


class HeaderLookup:
    """Reads the headers that the geometry names, and those of ``--copy-header``.

    Parameters
    ----------
    geometry
        Says what is looked up, and in which unit.
    copy_header
        Names of values to be copied to the stream; the frame goes on without one that is missing.
    notes
        Counts copied values that were left out, and frames that differ from the estimates.
    estimates
        ``--wavelength-estimate`` and ``--camera-length-estimate``.

    Attributes
    ----------
    beside
        Gives values that came beside the message, for those that are not in it; None if there are none.
    """

    def __init__(
        self,
        geometry: Geometry,
        copy_header: Sequence[str],
        notes: Counter[str],
        estimates: IndexOptions | None = None,
    ) -> None:
        self.geometry, self.copy_header, self.notes = geometry, tuple(copy_header), notes
        self.estimates = estimates
        self.beside: ReadValue | None = None
        self._good: Detector | None = None

    def read(self, value_of: ReadValue) -> FrameValues:
        """All header values of a frame.

        Raises
        ------
        Rejected
            If one that the geometry needs is missing or absurd.
        """
        geometry, headers = self.geometry, dict[str, HeaderValue]()
        if self.beside is not None:
            value_of = _either(value_of, self.beside)
        wavelength = self._wavelength(value_of, headers)
        clen = self._length("clen", geometry.clen, value_of, headers, "mm")
        shift = [0.0, 0.0]
        if geometry.shift_x is not None and geometry.shift_y is not None:
            shift = [
                self._length("detector_shift_x", geometry.shift_x, value_of, headers, "m"),
                self._length("detector_shift_y", geometry.shift_y, value_of, headers, "m"),
            ]
        detector = self._detector(clen, shift[0], shift[1])
        if self.estimates is not None:
            self._compare("wavelength", wavelength * ANGSTROM, self.estimates.wavelength_estimate)
            self._compare("camera length", detector.clen, self.estimates.camera_length_estimate)
        self._copy(value_of, headers)
        return FrameValues(wavelength, energy_of_wavelength(wavelength), detector, headers)

    def _number(self, lookup: Lookup, value_of: ReadValue, headers: dict[str, HeaderValue]) -> float:
        if lookup.header is None:
            assert lookup.value is not None
            return lookup.value
        headers[lookup.header] = value = value_of(lookup.header)
        return number(lookup.header, value)

    def _wavelength(self, value_of: ReadValue, headers: dict[str, HeaderValue]) -> float:
        lookup, kind = self.geometry.wavelength, self.geometry.wavelength_kind
        value = self._number(lookup, value_of, headers)
        usable = math.isfinite(value) and value > 0
        wavelength = wavelength_from(kind, value, lookup.unit) if usable else math.nan
        least, greatest = WAVELENGTHS
        if not least <= wavelength <= greatest:
            raise Rejected(
                "absurd wavelength",
                f"{kind} '{lookup.header or 'in the geometry'}' is {value:g} {lookup.unit}; "
                f"expected a wavelength of {least:g} to {greatest:g} Å",
            )
        return wavelength

    def _length(
        self,
        kind: str,
        lookup: Lookup,
        value_of: ReadValue,
        headers: dict[str, HeaderValue],
        default_unit: str,
    ) -> float:
        value = self._number(lookup, value_of, headers)
        unit = lookup.unit or (default_unit if lookup.header is not None else "m")
        length = length_from(value, unit) if math.isfinite(value) else value
        if not abs(length) <= LONGEST_CAMERA:
            raise Rejected(
                "absurd camera length",
                f"{kind} '{lookup.header or 'in the geometry'}' is {length:g} m; "
                f"expected at most {LONGEST_CAMERA:g} m",
            )
        return length

    def _detector(self, clen: float, shift_x: float, shift_y: float) -> Detector:
        """Panels at this length; one in whose plane the sample lies is refused.

        A camera length of zero or below is legal where panels have an offset or are tilted.
        """
        try:
            with np.errstate(all="ignore"):
                detector = self.geometry.detector(clen, shift_x, shift_y)
        except ValueError as error:  # LinAlgError is one
            raise Rejected("absurd camera length", f"at {clen:g} m a panel has no distance") from error
        if detector is not self._good:
            normal = np.cross(detector.fs, detector.ss)
            length = np.linalg.norm(normal, axis=1)
            distance = abs(np.einsum("ij,ij->i", normal, detector.corner)) * detector.pitch / length
            if not np.all(distance >= NEAREST_PANEL):
                raise Rejected(
                    "absurd camera length",
                    f"at {clen:g} m a panel is {np.nanmin(distance):g} m from the sample",
                )
            self._good = detector
        return detector

    def _compare(self, what: str, value: float, estimate: float | None) -> None:
        """Count a frame that differs from an estimate; both in m."""
        if estimate is not None and not abs(value - estimate) <= ESTIMATE_TOLERANCE * estimate:
            option = f"--{what.replace(' ', '-')}-estimate={estimate:g}"
            self.notes[f"frames whose {what} differs from {option} by more than 10 %"] += 1

    def _copy(self, value_of: ReadValue, headers: dict[str, HeaderValue]) -> None:
        for name in self.copy_header:
            if name in headers:
                continue
            try:
                headers[name] = value_of(name)
            except Rejected as missing:
                self.notes[f"--copy-header={name} left out: {missing.reason}"] += 1
