# SPDX-License-Identifier: GPL-3.0-or-later
"""A message in the pipeline, for ``gpuidx check``: its format, its header values, the time of each step."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gpuidx.cell import UnitCell
from gpuidx.commands.check_image import Image
from gpuidx.commands.check_record import Decoded, HeaderRow
from gpuidx.errors import Rejected
from gpuidx.formats import FORMATS, Decoder, detect, without_padding
from gpuidx.formats.frame import widened
from gpuidx.formats.lookup import FrameValues, HeaderLookup, ReadValue
from gpuidx.geometry import Geometry, Lookup
from gpuidx.model import Frame, HeaderValue, Message
from gpuidx.options import Options
from gpuidx.pipeline import Pipeline

Seen = Mapping[str, HeaderValue | Rejected]
"""Header values, or why there is none, by name."""


class Watched(HeaderLookup):
    """Notes each header value, also those behind one that is missing."""

    seen: Seen = {}  # noqa: RUF012  (never written to)

    def read(self, value_of: ReadValue) -> FrameValues:
        """As in `HeaderLookup`, after a look at all values."""
        seen: dict[str, HeaderValue | Rejected] = {}
        lookups = [lookup for _, lookup, _ in wanted_values(self.geometry)]
        for name in (*(one.header for one in lookups if one.header is not None), *self.copy_header):
            try:
                seen[name] = value_of(name)
            except Rejected as rejected:
                seen[name] = rejected
        self.seen = seen
        return super().read(value_of)


def wanted_values(geometry: Geometry) -> list[tuple[str, Lookup, str]]:
    """The values of a frame that a geometry asks for: what, where from, and the unit if none is given."""
    kind = geometry.wavelength_kind
    values = [
        (kind.replace("_", " "), geometry.wavelength, "eV" if kind == "photon_energy" else ""),
        ("camera length", geometry.clen, "m" if geometry.clen.header is None else "mm"),
    ]
    shifts = (("shift x", geometry.shift_x, "m"), ("shift y", geometry.shift_y, "m"))
    return values + [(what, lookup, unit) for what, lookup, unit in shifts if lookup is not None]


def header_rows(geometry: Geometry, options: Options, seen: Seen, frame: Frame | None) -> list[HeaderRow]:
    """What became of each value that geometry and ``--copy-header`` ask for."""
    results = ["", "", "", ""]
    if frame is not None:
        clen, shift_x, shift_y = frame.detector.given
        panels = (
            "" if frame.detector.clen == clen else f"; mean of the panels {1e3 * frame.detector.clen:.6g} mm"
        )
        results = [
            f"{frame.photon_energy:.6g} eV, {frame.wavelength:.5g} Å",
            f"{1e3 * clen:.6g} mm{panels}",
            f"{1e3 * shift_x:.6g} mm",
            f"{1e3 * shift_y:.6g} mm",
        ]
    rows = []
    for (what, lookup, unit), result in zip(wanted_values(geometry), results, strict=False):
        value = lookup.value if lookup.header is None else seen.get(lookup.header, "")
        rows.append(_row(what, lookup.header, value, lookup.unit or unit, result))
    return rows + [
        _row("copied", name, seen.get(name, ""), "", "", needed=False) for name in options.copy_header
    ]


def _row(
    what: str,
    name: str | None,
    value: HeaderValue | Rejected | None,
    unit: str,
    result: str,
    needed: bool = True,
) -> HeaderRow:
    if isinstance(value, Rejected):
        return HeaderRow(what=what, name=name, problem=value.detail, needed=needed)
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return HeaderRow(what=what, name=name, value=f"{text} {unit}".strip(), result=result, needed=needed)


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time until the end of the context for *stage*."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun


class Examiner:
    """Decodes frames with the options of a run, and times them.

    Parameters
    ----------
    options, geometry, cell
        Of the run.

    Attributes
    ----------
    pipeline
        Of the run, on the CPU.
    """

    def __init__(self, options: Options, geometry: Geometry, cell: UnitCell | None) -> None:
        self.options, self.geometry = options, geometry
        self.pipeline = Pipeline(options, geometry, cell)
        self.pipeline.decoder = Decoder(geometry, options, self.pipeline.masks, Watched)

    def decode(self, message: Message) -> tuple[Decoded, tuple[HeaderRow, ...], Frame | None]:
        """What was found out about a message, its header values, and the frame with peaks as sent."""
        decoder = self.pipeline.decoder
        name, n_frame, frame, rejected = self._format(message), 1, None, None
        try:
            n_frame = decoder.frame_count(message)
            frame = widened(decoder.decode(message))
        except Rejected as why:
            rejected = why.reason, why.detail
        image = self.image(frame) if frame is not None else None
        pixels = image.pixels() if image is not None else None
        assert isinstance(decoder.headers, Watched)
        seen = decoder.headers.seen
        rows = tuple(header_rows(self.geometry, self.options, seen, frame)) if seen or frame else ()
        return Decoded(format=name, n_frame=n_frame, rejected=rejected, pixels=pixels), rows, frame

    def _format(self, message: Message) -> str:
        if not message.data:
            return f"file {message.filename}, event {message.event}"
        if self.options.data_format != "auto":
            return f"{FORMATS[self.options.data_format].text}, as asked for"
        known = without_padding(message)
        return f"{FORMATS[detect(known.parts or (known.data,))].text}, recognised"

    def image(self, frame: Frame) -> Image | None:
        """The pixels of a frame."""
        if frame.image is None:
            return None
        return Image(frame, self.geometry, self.options, self.pipeline.masks)

    def timed(self, message: Message, place: memoryview) -> dict[str, float]:
        """Seconds of each step, once all is compiled; *place* is for the text of the chunk."""
        pipeline = self.pipeline
        clock = pipeline.clock = Stopwatch()
        with clock("decode"):
            frame = widened(pipeline.decode(message))
        batch = pipeline.backend.upload([frame])
        with clock("peaks"):
            pipeline.backend.find_peaks(batch)
        with clock("trials"):
            pipeline.backend.index(batch)
        (found,) = pipeline.backend.results(batch)
        result = pipeline.finish(frame, found)
        with clock("write"):
            pipeline.write(result, place)
        return clock.seconds
