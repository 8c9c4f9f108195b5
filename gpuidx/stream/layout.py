# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixed lines of a CrystFEL stream, format 2.3, and the limits of its readers."""

FORMAT_LINE = "CrystFEL stream format 2.3"
GEOMETRY_BEGIN = "----- Begin geometry file -----"
GEOMETRY_END = "----- End geometry file -----"
CELL_BEGIN = "----- Begin unit cell -----"
CELL_END = "----- End unit cell -----"
CHUNK_BEGIN = "----- Begin chunk -----"
CHUNK_END = "----- End chunk -----"
PEAKS_BEGIN = "Peaks from peak search"
PEAKS_HEAD = "  fs/px   ss/px (1/d)/nm^-1   Intensity  Panel"
PEAKS_END = "End of peak list"
CRYSTAL_BEGIN = "--- Begin crystal"
CRYSTAL_END = "--- End crystal"
REFLECTIONS_BEGIN = "Reflections measured after indexing"
REFLECTIONS_HEAD = "   h    k    l          I   sigma(I)       peak background  fs/px  ss/px panel"
REFLECTIONS_END = "End of reflections"
NO_REFLECTIONS = "No integrated reflections."

FILENAME = "Image filename: "
EVENT = "Event: "
SERIAL = "Image serial number: "
STREAM_NAME = "gpuidx/asapo_stream"
"""Of the line with the stream at ASAP::O that a frame came from; its serial number is the message's."""

SOURCE_ID = "gpuidx/source_id"
"""Of the line with series and number under which a detector knows the image, ``SERIES/NUMBER``."""

LOST = "gpuidx/lost"
"""Of the line that says why nothing became of a frame."""

AUDIT_LIMIT = 4090
"""Bytes before the geometry."""

LINE_LIMIT = 1022
"""Bytes of a line."""

GEOMETRY_LIMIT = 1 << 20
"""Bytes of the geometry."""

PER_NM = 10.0
"""Å⁻¹ to nm⁻¹."""

NM = 0.1
"""Å to nm."""


def one_line(text: str) -> str:
    """Text that cannot break a line of the stream, nor be too long for its readers."""
    text = " ".join(text.splitlines()) if not text.isprintable() else text
    longest = LINE_LIMIT - 100  # leaves room for what stands before it
    if len(text) <= longest // 4:
        return text
    return text.encode("utf-8", "surrogateescape")[:longest].decode("utf-8", "ignore")
