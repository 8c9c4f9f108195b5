# SPDX-License-Identifier: GPL-3.0-or-later
"""One chunk of a stream: CrystFEL's lines, order and digits, from a `Result`.

The only place, with `head` and `reader`, that knows the stream's units: nm⁻¹, nm, mm, degrees.  Lines of ours
begin with ``gpuidx/``; readers of streams pass over what they do not know.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuidx import __version__
from gpuidx.cell import cell_parameters
from gpuidx.errors import Rejected
from gpuidx.geometry.detector import Geometry
from gpuidx.model import Crystal, HeaderValue, Result
from gpuidx.options import OutputOptions
from gpuidx.peaks import stream_position
from gpuidx.stream.layout import (
    CHUNK_BEGIN,
    CHUNK_END,
    CRYSTAL_BEGIN,
    CRYSTAL_END,
    EVENT,
    FILENAME,
    NM,
    NO_REFLECTIONS,
    PEAKS_BEGIN,
    PEAKS_END,
    PEAKS_HEAD,
    PER_NM,
    REFLECTIONS_BEGIN,
    REFLECTIONS_END,
    REFLECTIONS_HEAD,
    SERIAL,
    SOURCE_ID,
    STREAM_NAME,
    one_line,
)
from gpuidx.stream.text import (
    REFUSED,
    NameTable,
    peak_lines,
    peak_text,
    reflection_lines,
    reflection_text,
)

INDEXED_BY = "file"
"""CrystFEL's name for results from elsewhere; its readers complain about unknown names."""

INDEXER_LINE = f"gpuidx/indexer = gpuidx {__version__}"
NO_IMAGE_LINE = "gpuidx/image_data = not read"


class ChunkWriter:
    """Writes chunks; made once per worker.

    Parameters
    ----------
    geometry, options
        Of the run.
    divergence
        Of the beam, rad; only for the line that names it.
    """

    def __init__(self, geometry: Geometry, options: OutputOptions, divergence: float = 0.0) -> None:
        self._options = options
        self._names = NameTable([panel.name for panel in geometry.panels])
        self._beam = (
            f"beam_divergence = {divergence:.2e} rad",
            f"beam_bandwidth = {geometry.bandwidth:.2e} (fraction)",
        )

    def write(self, result: Result, into: memoryview) -> int:
        """Write a chunk; the number of bytes.

        The image is not looked at, and peaks are copied first, so both may lie in *into* itself;
        reflections may not.

        Parameters
        ----------
        result
            Any; one of no hit is written as well.
        into : (byte,)
            Writable.  What stands behind the chunk may be overwritten.

        Raises
        ------
        Rejected
            If the chunk does not fit; what *into* holds is then no chunk.
        """
        out = _Out(into)
        peaks = self._peak_table(result) if self._options.peaks_in_stream else None
        out.lines(self._head(result))
        if peaks is not None:
            panel = result.peaks.panel
            out.lines((PEAKS_BEGIN, PEAKS_HEAD))
            out.table(peak_lines, peak_text, self._names, peaks, panel)
            out.lines((PEAKS_END,))
        origin = result.frame.detector.origin
        for crystal in result.crystals:
            self._crystal(crystal, origin, out)
        out.lines((CHUNK_END,))
        return out.at

    def _head(self, result: Result) -> Iterator[str]:
        frame = result.frame
        yield CHUNK_BEGIN
        yield f"{FILENAME}{one_line(frame.filename)}"
        yield f"{EVENT}{one_line(frame.event)}"
        yield f"{SERIAL}{frame.serial}"
        yield f"hit = {int(result.hit)}"
        yield f"indexed_by = {INDEXED_BY if result.crystals else 'none'}"
        if result.crystals:
            yield f"n_indexing_tries = {result.n_tries}"
        if any(crystal.score is not None for crystal in result.crystals):
            yield INDEXER_LINE
        if frame.stream:
            yield f"{STREAM_NAME} = {one_line(frame.stream)}"
        if frame.source_id:
            yield f"{SOURCE_ID} = {one_line(frame.source_id)}"
        if frame.image is None and frame.packed is None:
            yield NO_IMAGE_LINE
        yield f"photon_energy_eV = {frame.photon_energy:f}"
        yield from self._beam
        yield from header_lines(frame.headers)
        yield f"average_camera_length = {frame.detector.clen:f} m"
        yield f"num_peaks = {len(result.peaks)}"
        limit = result.peak_resolution
        yield f"peak_resolution = {limit * PER_NM:f} nm^-1 or {_inverse(limit):f} A"

    def _peak_table(self, result: Result) -> NDArray[np.float64]:
        """What the peak list shows: position in the data array, 1/d in nm⁻¹, intensity; (peak, 4)."""
        peaks = result.peaks
        table = np.empty((len(peaks), 4))
        table[:, 0], table[:, 1] = stream_position(peaks, result.frame.detector)
        table[:, 2] = result.inv_d * PER_NM
        table[:, 3] = peaks.intensity
        return table

    def _crystal(self, crystal: Crystal, origin: NDArray[np.float64], out: "_Out") -> None:
        out.lines(crystal_lines(crystal))
        reflections = crystal.reflections if self._options.refls_in_stream else None
        if reflections is None:
            out.lines((NO_REFLECTIONS, CRYSTAL_END))
            return
        limit = crystal.resolution_limit
        out.lines(
            (
                f"diffraction_resolution_limit = {limit * PER_NM:.2f} nm^-1 or {_inverse(limit):.2f} A",
                f"num_reflections = {len(reflections)}",
                f"num_saturated_reflections = {reflections.n_saturated}",
                f"num_implausible_reflections = {reflections.n_implausible}",
                REFLECTIONS_BEGIN,
                REFLECTIONS_HEAD,
            )
        )
        table = np.empty((len(reflections), 6))
        table[:, 0] = reflections.intensity
        table[:, 1] = reflections.sigma
        table[:, 2] = reflections.peak
        table[:, 3] = reflections.background
        table[:, 4] = reflections.fs + origin[reflections.panel, 0]
        table[:, 5] = reflections.ss + origin[reflections.panel, 1]
        hkl = np.ascontiguousarray(reflections.hkl, np.int32)
        out.table(reflection_lines, reflection_text, self._names, hkl, table, reflections.panel)
        out.lines((REFLECTIONS_END, CRYSTAL_END))


def header_lines(headers: Mapping[str, HeaderValue]) -> Iterator[str]:
    """The values that were read from the message, each by its type."""
    for name, value in headers.items():
        shown = "_".join(name.split())  # readers split at the blanks about "="
        if isinstance(value, str):
            yield f"header/str/{shown} = {one_line(value)}"
        elif isinstance(value, (int, np.integer)):
            yield f"header/int/{shown} = {int(value)}"
        else:
            yield f"header/float/{shown} = {value:f}"


def crystal_lines(crystal: Crystal) -> Iterator[str]:
    """A crystal's lines down to the detector shift."""
    cell = cell_parameters(np.asarray(np.linalg.inv(crystal.recip).T, np.float64))
    yield CRYSTAL_BEGIN
    yield "Cell parameters {:7.5f} {:7.5f} {:7.5f} nm, {:7.5f} {:7.5f} {:7.5f} deg".format(
        *(NM * length for length in cell[:3]), *cell[3:]
    )
    for name, axis in zip("abc", crystal.recip * PER_NM, strict=True):
        yield "{}star = {:+9.7f} {:+9.7f} {:+9.7f} nm^-1".format(name, *axis)
    yield f"lattice_type = {crystal.lattice_type}"
    yield f"centering = {crystal.centering}"
    yield f"unique_axis = {crystal.unique_axis}"
    yield f"profile_radius = {crystal.profile_radius * PER_NM:.5f} nm^-1"
    for note, residual in crystal.residuals.items():
        name = note if "/" in note else f"predict_refine/{note}"
        yield "{} = {:f} ({:f} {:f} {:f})".format(name, *residual)
    x, y = (1e3 * shift + 0.0 for shift in crystal.shift)  # + 0.0: no minus before a zero
    yield f"predict_refine/det_shift x = {x:.3f} y = {y:.3f} mm"
    if crystal.score is not None:
        yield f"gpuidx/score = {crystal.score:.3f}"


def _inverse(inv_d: float) -> float:
    return 1.0 / inv_d if inv_d != 0.0 else np.inf


class _Out:
    """A buffer that is filled from its beginning."""

    def __init__(self, into: memoryview) -> None:
        self._bytes = np.frombuffer(into, np.uint8)
        self.at = 0

    def lines(self, lines: Any) -> None:
        """Add lines of text."""
        self._add("\n".join((*lines, "")))

    def table(
        self, kernel: Callable[..., int], text: Callable[..., str], names: NameTable, *columns: NDArray[Any]
    ) -> None:
        """Add a table by its kernel, or by Python's formatting where the kernel refuses."""
        *most, panel = columns
        panel = np.ascontiguousarray(panel, np.int32)
        at = kernel(*most, panel, names.names, names.start, self._bytes, self.at)
        if at == REFUSED:
            self._add(text(*most, panel, names))
        else:
            self.at = at

    def _add(self, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        end = self.at + len(data)
        if end > len(self._bytes):
            raise Rejected(
                "chunk larger than its slot", f"more than {len(self._bytes)} bytes; raise --slot-size"
            )
        self._bytes[self.at : end] = np.frombuffer(data, np.uint8)
        self.at = end
