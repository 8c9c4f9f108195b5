# SPDX-License-Identifier: GPL-3.0-or-later
"""The chunk of a frame that could not be processed and must not be missing."""

from gpuidx.stream.layout import CHUNK_BEGIN, CHUNK_END, EVENT, FILENAME, LOST, SERIAL, STREAM_NAME, one_line


def lost_chunk(filename: str, event: str, serial: int, stream: str, why: str) -> bytes:
    """A chunk without peaks and crystals that says why; readers take it for a blank frame."""
    lines = [
        CHUNK_BEGIN,
        f"{FILENAME}{one_line(filename)}",
        f"{EVENT}{one_line(event)}",
        f"{SERIAL}{serial}",
        "hit = 0",
        "indexed_by = none",
        *([f"{STREAM_NAME} = {one_line(stream)}"] if stream else []),
        f"{LOST} = {one_line(why)}",
        "photon_energy_eV = 0.000000",
        "num_peaks = 0",
        CHUNK_END,
        "",
    ]
    return "\n".join(lines).encode("utf-8", "surrogateescape")
