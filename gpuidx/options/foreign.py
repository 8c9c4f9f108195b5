# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of indexamajig that mean nothing here, or are not here."""

from collections.abc import Sequence

from gpuidx.errors import OptionError
from gpuidx.options.every import EveryOption, flag

ENGINES = (
    "asdf", "dirax", "felix", "ffbidx", "file", "mosflm", "pinkIndexer", "smallcell", "taketwo", "xds",
    "xgandalf",
)  # fmt: skip
"""Indexing methods of CrystFEL; named on a command line all but `FILE` mean gpuidx's own engine."""

FILE = "file"
"""The method that takes crystals from a file."""


REMOVED = {
    "hdf5_peaks": "put 'peak_list = PATH' into the geometry",
    "no_cell_combinations": "cells are not combined",
    "fix_bandwidth": "put 'bandwidth = BW' into the geometry",
}
"""Options that indexamajig has given up and still takes; why they are not needed, or what to do."""


def notices(o: EveryOption) -> list[str]:
    """What is said of options that were given and have no effect."""
    given = [name for name in REMOVED if getattr(o, name)]
    return [f"{flag(name)} has no effect, as in CrystFEL: {REMOVED[name]}" for name in given]


NOT_BUILT_IN = (
    "asapo-endpoint", "asapo-token", "asapo-beamtime", "asapo-source", "asapo-group", "asapo-stream",
    "asapo-output-stream", "asapo-wait-for-stream", "asapo-consumer-timeout", "asapo-acks", "prefix",
    "basename", "no-check-prefix", "temp-dir", "wait-for-file", "cpu-pin", "int-diag", "spectrum-file",
)  # fmt: skip
"""Options of indexamajig that this version does not have."""


def explain_unknown(argv: Sequence[str]) -> None:
    """Say of indexamajig's options that are missing here that they are missing, not misspelt.

    Raises
    ------
    OptionError
        For the first such option.
    """
    engines = tuple(name.lower() + "-" for name in ENGINES)
    for word in argv:
        name = word[2:].split("=")[0] if word.startswith("--") else "prefix" if word[:2] == "-x" else ""
        if name in NOT_BUILT_IN:
            raise OptionError(
                f"{word.split('=')[0]} is an option of indexamajig that gpuidx does not have yet"
            )
        if name.lower().startswith(engines):
            raise OptionError(
                f"--{name} belongs to an indexing engine of CrystFEL; gpuidx has its own: leave it out"
            )
