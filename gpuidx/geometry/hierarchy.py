# SPDX-License-Identifier: GPL-3.0-or-later
"""Panel groups as a tree below the group ``all``: what alignment of the detector moves, and its numbers.

CrystFEL 0.12, behaviour of its group serials: the top is 0, and the n-th member (from 1) of a group at depth
d adds n·100^(d+1); labels of Millepede are a serial and 1 to 6 for the six movements.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpuidx.errors import GeometryError
from gpuidx.geometry.detector import Detector, Geometry

TOP = "all"
MOST_LEVELS = 8
"""Groups that one panel may move with, as in CrystFEL."""

MOST_LABEL = 2**31 - 1
"""Millepede's labels have 32 bits."""

_STEP = 100
_MOVEMENTS = 6


class Hierarchy:
    """The groups that each panel moves with, down to a depth.

    Parameters
    ----------
    geometry
        With its groups.
    deepest
        Depth of the smallest groups wanted; 0 for the whole detector alone.

    Attributes
    ----------
    chain : (panel, level)
        Numbers of the groups that a panel moves with, the smallest first; -1 where there are no more.
    serial : (group,)
        CrystFEL's serial of each group.

    Raises
    ------
    GeometryError
        If there is no group ``all``, a panel does not belong to it, or there are too many levels.
    """

    def __init__(self, geometry: Geometry, deepest: int) -> None:
        self._geometry, self._deepest = geometry, deepest
        if TOP not in geometry.groups:
            raise self._wrong(
                f"has no group '{TOP}' of all panels, which --mille needs; add group_{TOP} = ..."
            )
        self._number = {panel.name: number for number, panel in enumerate(geometry.panels)}
        self._serials: list[int] = []
        self._shares: list[NDArray[np.float64]] = []
        chains: list[list[int]] = [[] for _ in geometry.panels]
        for panel, chain in self._walk(TOP, 0, []):
            chains[panel] = chain[::-1]
        for chain, described in zip(chains, geometry.panels, strict=True):
            if not chain:
                raise self._wrong(f"panel {described.name} is in no group below '{TOP}', which --mille needs")
        levels = max(map(len, chains))
        self.chain = np.array([chain + [-1] * (levels - len(chain)) for chain in chains])
        self.serial = np.array(self._serials)
        self._share = np.array(self._shares)

    def _walk(self, name: str, serial: int, above: list[int]) -> Iterator[tuple[int, list[int]]]:
        """Number the groups from the top; gives each panel with the groups that it moves with."""
        depth, chain = len(above), above
        if depth <= self._deepest:
            if depth >= MOST_LEVELS or serial + _MOVEMENTS > MOST_LABEL:
                text = (
                    f"group '{name}' is too deep to be numbered; --max-mille-level={depth - 1} leaves it out"
                )
                raise self._wrong(text)
            chain = [*above, len(self._serials)]
            self._serials.append(serial)
            self._shares.append(self._center_shares(name))
        members = self._geometry.groups.get(name)
        if members is None:
            yield self._number[name], chain
            return
        for place, member in enumerate(members, 1):
            yield from self._walk(member, serial + place * _STEP ** (depth + 1), chain)

    def _center_shares(self, name: str) -> NDArray[np.float64]:
        """Share of each panel in the centre of a group, (panel,): each member counts alike."""
        members = self._geometry.groups.get(name)
        if members is None:
            own: NDArray[np.float64] = np.eye(len(self._number))[self._number[name]]
            return own
        shares: NDArray[np.float64] = np.mean([self._center_shares(member) for member in members], axis=0)
        return shares

    def _wrong(self, text: str) -> GeometryError:
        return GeometryError(self._geometry.file, None, text)

    def centers(self, detector: Detector) -> NDArray[np.float64]:
        """Centres of the groups, m, (group, xyz)."""
        size = detector.rect[:, 2:] / 2.0
        middle = detector.corner + size[:, :1] * detector.fs + size[:, 1:] * detector.ss
        centers: NDArray[np.float64] = self._share @ (middle * detector.pitch[:, None])
        return centers
