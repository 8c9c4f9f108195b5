# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry files (.geom): statements turned into a `Geometry`.

The grammar is that of CrystFEL 0.12 as its program reads it, which differs in places from
``crystfel_geometry(5)``.  What loads there loads here, with the same meaning, and what is refused there
is refused here; refused as well are files with which no frame could be used.

Fields of panels are in `gpuidx.geometry.fields`, bad regions and groups in `gpuidx.geometry.regions`.
"""

from pathlib import Path

from gpuidx.errors import GeometryError
from gpuidx.geometry.detector import Geometry, Lookup
from gpuidx.geometry.fields import Refused, quoted, set_field
from gpuidx.geometry.lexer import LINE_END, Remarks, Statement, literal, statements
from gpuidx.geometry.lookup import LENGTH_UNITS, WAVELENGTH_UNITS, length_from, parse_lookup, wavelength_from
from gpuidx.geometry.panels import PanelDraft, check_panel, lay_out, too_large
from gpuidx.geometry.regions import Groups, RegionDraft, finish_region

__all__ = ["length_from", "parse_geometry", "read_geometry", "wavelength_from"]

LARGEST_FILE = 64 * 2**20
"""Bytes; whatever is larger was named by mistake."""

STREAM_LINE = 1022
STREAM_GEOMETRY = 2**20
"""Bytes of a line, and of the whole geometry, that CrystFEL's readers of streams take."""

MOST_ERRORS = 20
"""Errors of a file that are shown."""

DEFAULT_BANDWIDTH = 1e-8


def read_geometry(path: str | Path) -> Geometry:
    """Read a geometry file.

    Bytes that are not UTF-8 are kept by ``surrogateescape``, so that the text can be written as it was.

    Raises
    ------
    GeometryError
        If it cannot be read or used; the text has all errors of the file.
    """
    try:
        if Path(path).stat().st_size > LARGEST_FILE:
            raise GeometryError(str(path), None, "is too large to be a geometry file; expected text")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise GeometryError(str(path), None, f"cannot be read: {reason}") from error
    return parse_geometry(data.decode("utf-8", "surrogateescape"), str(path))


def parse_geometry(text: str, file: str) -> Geometry:
    """Understand the text of a geometry file; *file* is its name in errors.

    Raises
    ------
    GeometryError
        If it cannot be used; the text has all errors of the file.
    """
    reader = _Reader()
    text = reader.until_nul(text)
    for statement in statements(text):
        reader.take(statement)
    return reader.finish(text, file)


class _Reader:
    """What has been read so far, and what is to be said about it.

    What is missing is said of the last line: up to there it was looked for.
    """

    def __init__(self) -> None:
        self.errors, self.warnings = Remarks(), Remarks()
        self.defaults = PanelDraft()
        self.panels: dict[str, PanelDraft] = {}
        self.regions: dict[str, RegionDraft] = {}
        self.groups = Groups()
        self.lookups: dict[str, Lookup] = {}
        self.given: set[str] = set()
        self.wavelength_kind = ""
        self.bandwidth = DEFAULT_BANDWIDTH
        self.peak_list: str | None = None
        self.peak_list_type = "auto"
        self.unused_defaults: list[Statement] = []
        self.last_line = 1

    def until_nul(self, text: str) -> str:
        """The text up to a NUL, where C's strings end; warns of what readers of streams cannot take."""
        text, nul, _ = text.partition("\0")
        lines = LINE_END.split(text)
        self.last_line = max(1, len(lines) - (not lines[-1]))
        if nul:
            self.warnings.add(len(lines), "the file is read up to the NUL byte in this line")
        for number, line in enumerate(lines, 1):
            if _size(line) > STREAM_LINE:
                long = f"the line has over {STREAM_LINE} bytes; CrystFEL cannot read streams that hold it"
                self.warnings.add(number, long)
        if _size(text) > STREAM_GEOMETRY:
            self.warnings.add(None, "the file is over 1 MiB; CrystFEL cannot read streams that hold it")
        return text

    def take(self, statement: Statement) -> None:
        """Understand one statement."""
        try:
            if statement.value is None:
                raise Refused(f"{statement.key!r:.80} has no '='; expected key = value")
            if statement.owner is None:
                self._top_level(statement)
            elif statement.owner.startswith("bad"):
                name = statement.owner
                region = self.regions.setdefault(name, RegionDraft(name, statement.line))
                region.set_field(statement, self.warnings)
            else:
                set_field(self._panel(statement.owner, statement.line), statement, self.warnings)
        except (Refused, ValueError) as problem:
            self.errors.add(statement.line, str(problem))

    def _panel(self, name: str, line: int) -> PanelDraft:
        if name not in self.panels:
            self.panels[name] = self.defaults.named(name, line)
            self.groups.add_panel(name)
            self.unused_defaults.clear()
            if not name or name != name.strip(" \t"):
                text = f"panel name '{name}' is empty or has blanks at its ends, which count"
                self.warnings.add(line, text)
        return self.panels[name]

    def _top_level(self, statement: Statement) -> None:
        key, value = statement.key, statement.value or ""
        if key in WAVELENGTH_UNITS:
            self.wavelength_kind = key
            self._look_up("wavelength", statement, WAVELENGTH_UNITS[key])
        elif key in ("clen", "detector_shift_x", "detector_shift_y"):
            self._look_up(key, statement, ("", *LENGTH_UNITS))
        elif key == "peak_list":
            self.peak_list = value
        elif key == "peak_list_type":
            if value not in ("auto", "cxi", "list3"):
                raise Refused(f"{quoted(statement)} is not known; expected auto, cxi or list3")
            self.peak_list_type = value
        elif key == "bandwidth":
            self._bandwidth(statement, value)
        elif key.startswith("rigid_group"):
            pass  # as in CrystFEL, which has groups instead
        elif key.startswith("group_"):
            self.groups.keep(statement, self.warnings)
        else:
            set_field(self.defaults, statement, self.warnings)
            self.unused_defaults.append(statement)

    def _look_up(self, name: str, statement: Statement, units: tuple[str, ...]) -> None:
        self.given.add(name)
        try:
            self.lookups[name] = parse_lookup(statement, units)
        except ValueError as error:
            raise Refused(f"{statement.key} = {error}") from None

    def _bandwidth(self, statement: Statement, value: str) -> None:
        bandwidth = literal(value)
        if value and bandwidth is not None and 0 <= bandwidth < 1:
            self.bandwidth = bandwidth
        else:
            self.warnings.add(
                statement.line, f"{quoted(statement)} has no effect; expected a number from 0 to 1"
            )

    def finish(self, text: str, file: str) -> Geometry:
        """Check what belongs together, and make the geometry."""
        if not self.panels:
            self.errors.add(self.last_line, "no panels; expected lines such as p0/min_fs = 0")
        for panel in self.panels.values():
            check_panel(panel, self.errors, self.warnings)
        regions = [finish_region(r, self.panels, self.errors, self.warnings) for r in self.regions.values()]
        groups = self.groups.finish(self.errors)
        self._check_top_level()
        if self.errors:
            raise _gathered(file, self.errors)
        panels, arrays, slab_shape = lay_out(tuple(self.panels.values()))
        if too_large(slab_shape):
            self.errors.add(
                self.last_line, f"all panels together need an image of {slab_shape}, too many pixels"
            )
            raise _gathered(file, self.errors)
        geometry = Geometry(
            file=file,
            text=text,
            panels=panels,
            bad_regions=tuple(region for region in regions if region is not None),
            groups=groups,
            wavelength=self.lookups["wavelength"],
            wavelength_kind=self.wavelength_kind,
            clen=self.lookups["clen"],
            shift_x=self.lookups.get("detector_shift_x"),
            shift_y=self.lookups.get("detector_shift_y"),
            bandwidth=self.bandwidth,
            peak_list=self.peak_list,
            peak_list_type=self.peak_list_type,
            arrays=arrays,
            slab_shape=slab_shape,
            warnings=tuple(
                f"{file}:{line}: {said}" if line else f"{file}: {said}"
                for line, said in self.warnings.shown()
            ),
        )
        _check_literals(geometry)
        return geometry

    def _check_top_level(self) -> None:
        if "wavelength" not in self.given:
            self.errors.add(
                self.last_line, "no wavelength; give photon_energy, wavelength or electron_voltage"
            )
        if "clen" not in self.given:
            self.errors.add(self.last_line, "no camera length; give clen, for instance clen = 0.08 m")
        if self.unused_defaults:
            first = self.unused_defaults[0]
            text = f"{quoted(first)} stands after the last panel and has no effect; move it before the panels"
            for _ in self.unused_defaults:
                self.errors.add(first.line, text)
        if "detector_shift_x" in self.lookups and "detector_shift_y" not in self.given:
            line = self.lookups["detector_shift_x"].line
            self.errors.add(line, "detector_shift_x without detector_shift_y; give both")
        if "detector_shift_y" in self.lookups and "detector_shift_x" not in self.given:
            lookup = self.lookups.pop("detector_shift_y")
            self.warnings.add(lookup.line, "detector_shift_y without detector_shift_x has no effect")


def _size(text: str) -> int:
    """Bytes of the text; one for each that is not UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _gathered(file: str, errors: Remarks) -> GeometryError:
    """The first error, its text followed by the others, one a line."""
    (line, text), *others = errors.shown()
    shown = [text]
    shown += [f"{file}:{n}: {t}" if n is not None else f"{file}: {t}" for n, t in others[: MOST_ERRORS - 1]]
    if len(others) >= MOST_ERRORS:
        shown.append(f"and {len(others) - MOST_ERRORS + 1} more errors")
    return GeometryError(file, line, "\n".join(shown))


def _check_literals(geometry: Geometry) -> None:
    """See whether frames can be used at the values that stand in the file itself.

    Raises
    ------
    GeometryError
        If a value makes no sense, or a panel lies in a plane with the sample.
    """
    wavelength, lengths = geometry.wavelength, dict[str, float]()
    name, line = "", wavelength.line
    try:
        if wavelength.value is not None:
            wavelength_from(geometry.wavelength_kind, wavelength.value, wavelength.unit)
        for name, lookup in (
            ("detector_shift_x", geometry.shift_x),
            ("detector_shift_y", geometry.shift_y),
            ("clen", geometry.clen),
        ):
            if lookup is not None and lookup.value is not None:
                line = lookup.line
                lengths[name] = length_from(lookup.value, lookup.unit)
        if "clen" in lengths:
            shifts = [lengths.get(f"detector_shift_{axis}", 0.0) for axis in "xy"]
            geometry.detector(lengths["clen"], *shifts)
    except ValueError as error:
        raise GeometryError(geometry.file, line, f"{name}: {error}" if name else str(error)) from error
