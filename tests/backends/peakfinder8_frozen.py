# SPDX-License-Identifier: GPL-3.0-or-later
"""Peak lists as CrystFEL 0.12 printed them, and ours in the same words."""

import gzip
from pathlib import Path

from gpuidx.geometry.detector import Geometry
from gpuidx.model import Frame, PeakList
from gpuidx.peaks import one_over_d, peak_resolution, stream_position

DATA = Path(__file__).parent.parent / "data"


def read_frozen(name: str) -> dict[int, list[str]]:
    """For each case the line of the peak resolution and the lines of the peak table."""
    cases: dict[int, list[str]] = {}
    with gzip.open(DATA / name, "rt") as file:
        for line in file.read().splitlines():
            if line.startswith("case "):
                lines = cases.setdefault(int(line[5:]), [])
            else:
                lines.append(line)
    return cases


def printed(geometry: Geometry, frame: Frame, peaks: PeakList) -> list[str]:
    """The same lines from a list of peaks."""
    inv_d = 10 * one_over_d(peaks, frame)
    limit = 10 * peak_resolution(inv_d / 10)
    fs, ss = stream_position(peaks, frame.detector)
    rows = zip(fs, ss, inv_d, peaks.intensity, peaks.panel, strict=True)
    head = f"peak_resolution = {limit:f} nm^-1 or {10 / limit if limit else float('inf'):f} A"
    return [
        head,
        *(f"{x:7.2f} {y:7.2f} {r:10.2f}  {i:10.2f}   {geometry.panels[p].name}" for x, y, r, i, p in rows),
    ]
