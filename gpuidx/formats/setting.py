# SPDX-License-Identifier: GPL-3.0-or-later
"""What every decoder of a run works with."""

from collections import Counter
from dataclasses import dataclass

from gpuidx.formats.frame import Buffers
from gpuidx.formats.lookup import HeaderLookup
from gpuidx.geometry import Geometry
from gpuidx.geometry.masks import Masks
from gpuidx.options import Options


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """Of one run, and the same for all its decoders.

    Attributes
    ----------
    geometry, options
        Of the run.
    masks
        Tells pixels that are bad in single frames; None: all pixels are taken as they are.
    headers
        Looks up header values.
    buffers
        Slabs to copy pixels to where they cannot stay where they are.
    notes
        Counts what was ignored without harm.
    """

    geometry: Geometry
    options: Options
    masks: Masks | None
    headers: HeaderLookup
    buffers: Buffers
    notes: Counter[str]

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        options: Options,
        masks: Masks | None = None,
        header_lookup: type[HeaderLookup] = HeaderLookup,
    ) -> "Setting":
        """That of a run, with header values read by an object of the class *header_lookup*."""
        notes: Counter[str] = Counter()
        headers = header_lookup(geometry, options.copy_header, notes, options)
        return cls(geometry, options, masks, headers, Buffers(geometry.arrays), notes)
