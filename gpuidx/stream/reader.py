# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads CrystFEL streams, ours and CrystFEL's, chunk by chunk.

Numbers come in gpuidx's units (Å, Å⁻¹, eV, m) except positions, which are those of the stream: in the
data array, so with the panel's min_fs and min_ss.  Nothing here needs the geometry.
"""

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from gpuidx.errors import StreamError
from gpuidx.stream.layout import (
    CELL_BEGIN,
    CELL_END,
    CHUNK_BEGIN,
    CHUNK_END,
    CRYSTAL_BEGIN,
    CRYSTAL_END,
    FORMAT_LINE,
    GEOMETRY_BEGIN,
    GEOMETRY_END,
    NM,
    NO_REFLECTIONS,
    PEAKS_BEGIN,
    PEAKS_END,
    PER_NM,
    REFLECTIONS_BEGIN,
    REFLECTIONS_END,
)
from gpuidx.stream.lines import Lines, Truncated
from gpuidx.stream.records import PEAK_FIELDS, REFLECTION_FIELDS, StreamChunk, StreamCrystal

_AXIS = re.compile(r"([abc])star = (\S+) (\S+) (\S+) nm\^-1$")
_SHIFT = re.compile(r"predict_refine/det_shift x = (\S+) y = (\S+) mm$")
_CELL = re.compile(r"Cell parameters (\S+) +(\S+) +(\S+) nm, +(\S+) +(\S+) +(\S+) deg$")
_PEAK_TYPES = [(name, np.float64) for name in PEAK_FIELDS]
_REFLECTION_TYPES = [(name, np.int32 if name in "hkl" else np.float64) for name in REFLECTION_FIELDS]


class StreamFile:
    """A stream that is being read; a context manager.

    Attributes
    ----------
    name
        Of the file.
    audit
        Lines of the head outside geometry and cell: format, version, command line and others.
    geometry, cell
        Text of the geometry and of the target cell; ``""`` if there is none.
    truncated
        After `chunks` has ended: number of the line on which a chunk begins that has no end, else None.
    """

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name = name
        self.geometry = self.cell = ""
        self.truncated: int | None = None
        self._file = file
        self._lines = Lines(name, file)
        self._at_chunk = False
        try:
            self.audit = tuple(self._head())
        except StreamError:
            self.close()
            raise

    def __enter__(self) -> "StreamFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def chunks(self) -> Iterator[StreamChunk]:
        """The whole chunks that have not been read yet; the file is closed behind the last one.

        Raises
        ------
        StreamError
            If a line cannot be understood, with its number.
        """
        while self._at_chunk:
            begin = self._lines.number
            try:
                chunk = _read_chunk(self._lines)
            except Truncated:
                self.truncated = begin
                break
            self._at_chunk = self._lines.skip_to(CHUNK_BEGIN)
            yield chunk
        self.close()

    def _head(self) -> Iterator[str]:
        first = self._lines.next()
        if first is None or not first.startswith(FORMAT_LINE):
            raise self._lines.wrong(f"not a stream; the first line of one is {FORMAT_LINE!r}")
        yield first
        while (line := self._lines.next()) is not None and line != CHUNK_BEGIN:
            if line == GEOMETRY_BEGIN:
                self.geometry = self._lines.block(GEOMETRY_END)
            elif line == CELL_BEGIN:
                self.cell = self._lines.block(CELL_END)
            else:
                yield line
        self._at_chunk = line is not None


def read_stream(source: str | Path | IO[bytes]) -> StreamFile:
    """Open a stream and read its head.

    Parameters
    ----------
    source
        Path, compressed by gzip if it ends in ``.gz``, or a file opened for reading bytes.

    Raises
    ------
    StreamError
        If it cannot be opened or is no stream.
    """
    if not isinstance(source, (str, Path)):
        return StreamFile(getattr(source, "name", "stream"), source)
    path = Path(source)
    try:
        file: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    except OSError as error:
        raise StreamError(f"{path}: cannot be opened: {error.strerror}") from error
    return StreamFile(str(path), file)


def _read_chunk(lines: Lines) -> StreamChunk:
    """The chunk whose first line was just read."""
    chunk = StreamChunk(line=lines.number)
    while (line := lines.within()) != CHUNK_END:
        try:
            if line == PEAKS_BEGIN:
                chunk.peaks = lines.table(PEAKS_END, _PEAK_TYPES)
                chunk.peaks["inv_d"] /= PER_NM
            elif line == CRYSTAL_BEGIN:
                chunk.crystals.append(_read_crystal(lines))
            elif line == CHUNK_BEGIN:
                raise lines.wrong("a chunk begins before the last one has ended")
            else:
                _chunk_line(chunk, line)
        except (ValueError, IndexError, OverflowError) as error:
            raise lines.wrong(f"{line!r} is not understood: {error}") from error
    if not chunk.filename or chunk.photon_energy is None:
        raise lines.wrong("a chunk without Image filename or photon_energy_eV")
    return chunk


_NAMED = {"Image filename": "filename", "Event": "event"}


def _chunk_line(chunk: StreamChunk, line: str) -> None:
    name, mark, value = line.partition(": ")
    if mark and name in _NAMED:
        setattr(chunk, _NAMED[name], value)
        return
    if mark and name == "Image serial number":
        chunk.serial = int(value)
        return
    name, mark, value = line.partition(" = ")
    if not mark:
        return
    if name.startswith("header/"):
        _, kind, name = name.split("/", 2)
        chunk.headers[name] = {"int": int, "float": float}.get(kind, str)(value)
    elif name in _CHUNK_VALUES:
        attribute, convert = _CHUNK_VALUES[name]
        setattr(chunk, attribute, convert(value))
    else:
        chunk.notes[name] = value


def _first(value: str) -> float:
    return float(value.split()[0])


def _per_nm(value: str) -> float:
    return _first(value) / PER_NM


_CHUNK_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "hit": ("hit", lambda value: bool(int(value))),
    "indexed_by": ("indexed_by", str),
    "n_indexing_tries": ("n_tries", int),
    "photon_energy_eV": ("photon_energy", float),
    "beam_divergence": ("divergence", _first),
    "beam_bandwidth": ("bandwidth", _first),
    "average_camera_length": ("camera_length", _first),
    "num_peaks": ("n_peaks", int),
    "peak_resolution": ("peak_resolution", _per_nm),
}

_CRYSTAL_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "lattice_type": ("lattice_type", str),
    "centering": ("centering", str),
    "unique_axis": ("unique_axis", str),
    "profile_radius": ("profile_radius", _per_nm),
    "diffraction_resolution_limit": ("resolution_limit", _per_nm),
    "num_reflections": ("n_reflections", int),
    "num_saturated_reflections": ("n_saturated", int),
    "num_implausible_reflections": ("n_implausible", int),
}


def _read_crystal(lines: Lines) -> StreamCrystal:
    crystal = StreamCrystal()
    axes: dict[str, list[float]] = {}
    while (line := lines.within()) != CRYSTAL_END:
        if line == REFLECTIONS_BEGIN:
            crystal.reflections = lines.table(REFLECTIONS_END, _REFLECTION_TYPES)
        elif line == CHUNK_END:
            raise lines.wrong("a chunk ends before its crystal has ended")
        elif match := _AXIS.match(line):
            axes[match[1]] = [float(x) / PER_NM for x in match.groups()[1:]]
        elif match := _CELL.match(line):
            a, b, c, *angles = map(float, match.groups())
            crystal.cell = (a / NM, b / NM, c / NM, *angles)
        elif match := _SHIFT.match(line):
            crystal.shift = (float(match[1]) / 1e3, float(match[2]) / 1e3)
        elif line != NO_REFLECTIONS:
            name, mark, value = line.partition(" = ")
            if name in _CRYSTAL_VALUES:
                attribute, convert = _CRYSTAL_VALUES[name]
                setattr(crystal, attribute, convert(value))
            elif mark:
                crystal.notes[name] = value
    if len(axes) == 3:
        crystal.recip = np.array([axes[name] for name in "abc"])
    return crystal
