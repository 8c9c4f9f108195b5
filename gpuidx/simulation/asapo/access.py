# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients must have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """The token and the beamtime that are right."""

    token: str
    beamtime: str
