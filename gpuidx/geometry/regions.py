# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad regions and panel groups of a geometry file.

How regions become masks is in `gpuidx.geometry.masks`; groups are kept for refinement of the geometry.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuidx.geometry.description import BadRegion
from gpuidx.geometry.fields import Refused, number, pixel_index, quoted
from gpuidx.geometry.lexer import Remarks, Statement
from gpuidx.geometry.panels import PanelDraft

MOST_GROUPS = 512
MOST_MEMBERS = 64
MOST_GROUP_LINES = 1024
"""Limits of CrystFEL; panels count as groups."""

_PIXEL_FIELDS = ("min_fs", "max_fs", "min_ss", "max_ss")
_LAB_FIELDS = ("min_x", "max_x", "min_y", "max_y")


@dataclass
class RegionDraft:
    """A bad region as far as it has been read."""

    name: str
    line: int
    pixels: dict[str, int] = field(default_factory=dict)
    lab: dict[str, float] = field(default_factory=dict)
    panel: str | None = None
    is_fsss: bool | None = None

    def set_field(self, statement: Statement, warnings: Remarks) -> None:
        """Do what the statement says; an unknown field is a warning.

        Raises
        ------
        Refused
            If the file is to be refused.
        """
        key = statement.key
        if key in _PIXEL_FIELDS:
            self._decide(statement, is_fsss=True)
            self.pixels[key] = pixel_index(statement, warnings)
        elif key in _LAB_FIELDS:
            self._decide(statement, is_fsss=False)
            self.lab[key] = number(statement, warnings)
        elif key == "panel":
            self.panel = statement.value
        else:
            warnings.add(statement.line, f"unknown field '{key:.60}' has no effect", f"unknown {key}")

    def _decide(self, statement: Statement, *, is_fsss: bool) -> None:
        if self.is_fsss is None:
            self.is_fsss = is_fsss
        elif self.is_fsss != is_fsss:
            raise Refused(f"{quoted(statement)}: a bad region is in x and y or in fs and ss, not in both")


def finish_region(
    region: RegionDraft, panels: Mapping[str, PanelDraft], errors: Remarks, warnings: Remarks
) -> BadRegion | None:
    """The region with its panel, checked; None if it cannot be used."""
    if region.is_fsss is None:
        errors.add(region.line, f"bad region {region.name} has no limits; give min_fs and so on, or min_x")
        return None
    if not region.is_fsss:
        absent = [name for name in _LAB_FIELDS if name not in region.lab]
        if absent:
            text = f"bad region {region.name} has no {', '.join(absent)} and so masks nothing"
            warnings.add(region.line, text)
        min_x, max_x, min_y, max_y = (region.lab.get(name, math.nan) for name in _LAB_FIELDS)
        return BadRegion(
            name=region.name,
            is_fsss=False,
            panel=None,
            min_x=min_x,
            max_x=max_x,
            min_y=min_y,
            max_y=max_y,
            line=region.line,
        )
    absent = [name for name in _PIXEL_FIELDS if name not in region.pixels]
    if absent:
        text = f"bad region {region.name} has no {', '.join(absent)}; taken as 0"
        warnings.add(region.line, text)
    if region.panel is None:
        return _on_the_only_panel(region, panels, errors, warnings)
    if region.panel not in panels:
        errors.add(
            region.line,
            f"bad region {region.name} is on panel '{region.panel}', which does not exist",
            f"no panel {region.panel}",
        )
        return None
    panel, limits = panels[region.panel], _limits(region)
    if _is_outside(limits, panel):
        errors.add(region.line, f"{_described(region, limits)} {_bounds(panel)}")
        return None
    return BadRegion(name=region.name, is_fsss=True, panel=panel.name, line=region.line, **limits)


def _on_the_only_panel(
    region: RegionDraft, panels: Mapping[str, PanelDraft], errors: Remarks, warnings: Remarks
) -> BadRegion | None:
    """A region without panel: CrystFEL counts its pixels from the panel's corner, and may ignore it."""
    if len(panels) != 1:
        text = "names no panel; give its panel, since there are several"
        errors.add(region.line, f"bad region {region.name} {text}", text)
        return None
    (panel,) = panels.values()
    shift = {"fs": panel.min_fs, "ss": panel.min_ss}
    limits = {name: value + shift[name[-2:]] for name, value in _limits(region).items()}
    text = f"bad region {region.name} names no panel; taken to be on '{panel.name}', from its corner"
    warnings.add(region.line, text)
    if _is_outside(limits, panel):
        warnings.add(region.line, f"{_described(region, limits)} {_bounds(panel)}; it has no effect")
        return None
    return BadRegion(name=region.name, is_fsss=True, panel=panel.name, line=region.line, **limits)


def _limits(region: RegionDraft) -> dict[str, int]:
    return {name: region.pixels.get(name, 0) for name in _PIXEL_FIELDS}


def _is_outside(limits: Mapping[str, int], panel: PanelDraft) -> bool:
    return (
        limits["min_fs"] < panel.min_fs
        or limits["min_ss"] < panel.min_ss
        or limits["max_fs"] > panel.max_fs
        or limits["max_ss"] > panel.max_ss
    )


def _described(region: RegionDraft, limits: Mapping[str, int]) -> str:
    return (
        f"bad region {region.name}, fs {limits['min_fs']} to {limits['max_fs']}, "
        f"ss {limits['min_ss']} to {limits['max_ss']}, is not within"
    )


def _bounds(panel: PanelDraft) -> str:
    return (
        f"panel {panel.name}, fs {panel.min_fs} to {panel.max_fs}, ss {panel.min_ss} to {panel.max_ss} "
        "of its data array"
    )


class Groups:
    """Panel groups: read when all panels are known, lowest level first."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._n_panels = 0
        self._later: list[Statement] = []

    def add_panel(self, name: str) -> None:
        """Every panel is a group of its own name, as long as there is room."""
        self._n_panels += 1
        if len(self._known) < MOST_GROUPS:
            self._known[name] = ()

    def keep(self, statement: Statement, warnings: Remarks) -> None:
        """Keep a ``group_`` line for later."""
        if len(self._later) < MOST_GROUP_LINES:
            self._later.append(statement)
        else:
            text = f"more than {MOST_GROUP_LINES} group lines; these have no effect"
            warnings.add(statement.line, text, text)

    def finish(self, errors: Remarks) -> dict[str, tuple[str, ...]]:
        """Members of each group but the panels; one of all panels if there is no other."""
        for statement in self._later:
            try:
                self._define(statement)
            except Refused as refused:
                errors.add(statement.line, str(refused))
        panels = tuple(self._known)
        if len(panels) == self._n_panels <= MOST_MEMBERS and "all" not in self._known:
            self._known["all"] = panels
        return {name: members for name, members in self._known.items() if members}

    def _define(self, statement: Statement) -> None:
        name = statement.key.removeprefix("group_")
        members = tuple(word for word in (statement.value or "").split(",") if word)
        if not members:
            raise Refused(f"group {name} has no members; expected names separated by commas")
        if len(members) > MOST_MEMBERS:
            raise Refused(f"group {name} has {len(members)} members; at most {MOST_MEMBERS} are allowed")
        if len(set(members)) < len(members):
            raise Refused(f"group {name} names a member twice")
        if name in self._known:
            raise Refused(f"group {name} is defined twice, or is also a panel")
        if len(self._known) >= MOST_GROUPS:
            raise Refused(f"group {name} is one too many; {MOST_GROUPS} are allowed, panels included")
        unknown = [member for member in members if member not in self._known]
        self._known[name] = members
        if unknown:
            hint = "; blanks after a comma count" if unknown[0] != unknown[0].strip() else ""
            raise Refused(
                f"group {name} has the unknown member '{unknown[0]}'{hint}; define the lowest level first"
            )
