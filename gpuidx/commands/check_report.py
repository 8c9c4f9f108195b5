# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``gpuidx check`` says: a section for each step that was reached, with figures and causes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from gpuidx.commands import check_causes as causes
from gpuidx.commands.check_record import (
    Arrival,
    CellRow,
    Decoded,
    HeaderRow,
    Indexed,
    Integrated,
    MaskShare,
    PeakSummary,
    Record,
    Times,
)

GOOD, NOTHING, SKIPPED = "ok", "NOTHING", "-"
"""States of a step: it gave something, it gave nothing, it was not asked for."""

STEPS = ("connected", "decoded", "header values", "masks", "peaks", "indexed", "integrated", "time")

WIDTH = max(map(len, STEPS)) + 2

SHORTEST = 5e-5
"""Seconds of a stage that is told."""

LINE = 120
"""Characters of a line."""


@dataclass(frozen=True)
class Section:
    """What is said of a step; the causes only if it gave nothing."""

    step: str
    state: str
    lines: Sequence[str]
    causes: Sequence[str] = ()

    def text(self) -> str:
        """For the terminal."""
        lines = [*self.lines, *(f"likely cause: {cause}" for cause in self.causes)]
        head = f"{self.state:<9}{self.step:<{WIDTH}}"
        indent = " " * len(head)
        wrap = textwrap.TextWrapper(
            LINE, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
        )
        wrapped = [wrap.fill(line) for line in lines]
        return head + "\n".join(wrapped)[len(head) :]


def sections(record: Record) -> list[Section]:
    """What is to be said of all steps that were reached, in their order."""
    said = [_connected(record.arrival)]
    if record.decoded is not None:
        said.append(_decoded(record.decoded, record.headers or ()))
    if record.headers:
        said.append(_headers(record.headers))
    if record.masks is not None:
        said.append(_masks(record.masks))
    if record.peaks is not None:
        said.append(_peaks(record.peaks))
    if record.indexed is not None:
        said.append(_indexed(record.indexed))
    if record.integrated is not None:
        said.append(_integrated(record.integrated))
    if record.times is not None:
        said.append(_times(record.times))
    return said


def conclusion(said: Sequence[Section]) -> str:
    """The last line."""
    empty = [section.step for section in said if section.state == NOTHING]
    if empty:
        reached = {section.step for section in said}
        rest = [step for step in STEPS if step not in reached]
        return f"nothing at: {', '.join(empty)}" + (f"; not reached: {', '.join(rest)}" if rest else "")
    return "all steps gave something"


def _state(good: bool, wanted: bool = True) -> str:
    return SKIPPED if not wanted else GOOD if good else NOTHING


def _section(step: str, good: bool, lines: Sequence[str], why: Sequence[str]) -> Section:
    return Section(step, _state(good), lines, () if good else why)


def _connected(a: Arrival) -> Section:
    asks = f", {a.asks}" if a.asks else ""
    socket = "" if a.kind == "ASAP::O" else " socket"
    lines = [a.source if a.kind == "files" else f"{a.source}: {a.kind}{socket}{asks}"]
    if a.kind != "files":
        made = "no connection" if a.connected is None else f"connected after {a.connected:.2f} s"
        came = (
            f"no message in {a.waited:.0f} s" if a.first is None else f"first message after {a.first:.2f} s"
        )
        lines.append(f"{made}, {came}")
    if a.n_frame:
        size = f", {a.size / 1e6:.3g} MB" if a.size else ""
        lines.append(f"{_some(a.n_frame, 'frame')}{size}")
    return _section("connected", a.n_frame > 0, lines, causes.no_frame(a) if not a.n_frame else ())


def _decoded(d: Decoded, headers: tuple[HeaderRow, ...]) -> Section:
    lines = [d.format + (f", the first of {d.n_frame} frames" if d.n_frame > 1 else "")]
    if d.rejected is not None:
        told = any(row.problem for row in headers)
        lines.append(f"rejected: {d.rejected[0]}" + ("" if told else f": {d.rejected[1]}"))
    elif d.pixels is None:
        lines.append("no image (--no-image-data)")
    if d.pixels is not None:
        p = d.pixels
        lines.append(f"{' × '.join(map(str, p.shape))} pixels (ss × fs), {p.dtype}")
        lines.append(f"usable ones: least {p.least:g}, median {p.median:g}, greatest {p.greatest:g} ADU")
        top = f"; {p.n_top} at the type's greatest value {p.top:.0f}" if p.top is not None else ""
        lines.append(f"saturated (above max_adu): {p.n_saturated}{top}")
    return _section("decoded", d.rejected is None, lines, causes.not_decoded(d, headers))


def _headers(rows: tuple[HeaderRow, ...]) -> Section:
    width = max(len(row.what) for row in rows)
    lines = []
    for row in rows:
        where = f"'{row.name}'" if row.name is not None else "in the geometry"
        gives = f", that is {row.result}" if row.result else ""
        found = f"missing: {row.problem}" if row.problem else f"{row.value}{gives}"
        lines.append(f"{row.what:<{width}}  {where}: {found}")
    return _section(
        "header values", not any(row.problem and row.needed for row in rows), lines, causes.no_headers(rows)
    )


def _masks(m: MaskShare) -> Section:
    lines = [f"{m.n_bad} of {m.n_pixel} pixels are bad, {_percent(m.n_bad, m.n_pixel)}"]
    lines += [f"{what}: {n}, {_percent(n, m.n_pixel)}" for what, n in m.causes]
    return _section("masks", m.n_bad < m.n_pixel, lines, causes.all_masked(m))


def _percent(n: int, of: int) -> str:
    return f"{100 * n / max(of, 1):.3g} %"


def _peaks(p: PeakSummary) -> Section:
    sent = f" of {p.n_sent} that were sent" if p.n_sent is not None else ""
    lines = [f"{_some(p.n_peak, 'peak')}{sent} (--peaks={p.method}); a hit has --min-peaks={p.least}"]
    if p.resolution is not None:
        lines.append(f"from {p.resolution[0]:.4g} to {p.resolution[1]:.4g} Å")
    if p.snr is not None:
        low, middle, high = p.snr
        lines.append(f"signal to noise: median {middle:.3g}, 5 % below {low:.3g}, 5 % above {high:.3g}")
    if not p.enough and p.highest is not None and p.n_sent is None:
        value, place, resolution = p.highest
        if p.threshold is not None:
            lines.append(f"{p.n_above} usable pixels are above --threshold={p.threshold:g}")
        lines.append(f"highest usable pixel: {value:g} ADU, {place}, {resolution:.3g} Å")
    return _section("peaks", p.enough, lines, causes.no_peaks(p))


def _indexed(i: Indexed) -> Section:
    if not i.wanted:
        return Section("indexed", SKIPPED, ["--indexing=none"])
    target = "with the target cell" if i.has_target else "without a target cell"
    n = len(i.crystals)
    lines = [f"{_some(i.n_tries, 'attempt')} {target}: {_some(i.n_candidate, 'lattice')} found, {n} accepted"]
    for row in i.crystals:
        lines += _cell(row)
    if not n and i.free is not None and i.free.cell is not None:
        lines += ["without the target cell:", *_cell(i.free.cell)]
    return _section("indexed", n > 0, lines, causes.not_indexed(i) if not n else ())


def _some(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _cell(row: CellRow) -> list[str]:
    a, b, c, al, be, ga = row.parameters
    lines = [
        f"cell {a:.2f} {b:.2f} {c:.2f} Å, {al:.2f} {be:.2f} {ga:.2f}°, "
        f"explains {100 * row.explained:.0f} % of the peaks"
    ]
    if row.differences is not None:
        axes = " ".join(f"{d:+.2f}" for d in row.differences[:3])
        angles = " ".join(f"{d:+.2f}" for d in row.differences[3:])
        lines.append(f"against the target: {axes} %, {angles}°")
    return lines


def _integrated(i: Integrated) -> Section:
    if not i.wanted:
        return Section("integrated", SKIPPED, ["no integration by the options, or no image"])
    lines = [
        f"{i.n_reflection} reflections, left out: {i.n_saturated} saturated, {i.n_implausible} implausible"
    ]
    if i.n_reflection:
        lines.append(
            f"median I/sigma {i.i_over_sigma:.2g}, resolution limit {i.resolution:.3g} Å, "
            f"profile radius {i.profile_radius:.2g} Å⁻¹"
        )
    return _section("integrated", i.n_reflection > 0, lines, causes.no_reflections(i))


def _times(t: Times) -> Section:
    total = sum(t.seconds.values())
    rate = t.jobs / total if total else 0.0
    stages = [f"{name} {1e3 * s:.1f} ms" for name, s in t.seconds.items() if s >= SHORTEST]
    lines = [
        ", ".join(stages),
        f"{1e3 * total:.1f} ms on one core; -j {t.jobs} gives {rate:.3g} such frames/s at most",
        f"in a run: {t.backend}",
    ]
    return Section("time", GOOD, lines)
