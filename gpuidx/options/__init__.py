# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a run, its default and its help; a stage takes the base class that it depends on.

Names, spellings and defaults are indexamajig's where it has the option.  argparse-dataclass reads the
field types at run time, so there is no `from __future__ import annotations` in this package.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from gpuidx.errors import OptionError
from gpuidx.options.checks import check_least, check_links, check_sources, check_support, check_values
from gpuidx.options.every import OPTIONAL_PARTS, OWN, PARTS_VARIABLE, EveryOption
from gpuidx.options.indexing import IndexOptions
from gpuidx.options.integration import IntegrationOptions
from gpuidx.options.notices import notices
from gpuidx.options.output import OutputOptions
from gpuidx.options.peaks import PEAKS_SENT, PeakOptions
from gpuidx.options.rank import RANK, rank_of
from gpuidx.options.running import USUAL_BATCH, RunOptions
from gpuidx.options.source import InputOptions, LinkOptions, SourceOptions
from gpuidx.secret import read_token

__all__ = [
    "OPTIONAL_PARTS", "OWN", "PARTS_VARIABLE", "PEAKS_SENT", "USUAL_BATCH", "IndexOptions", "InputOptions",
    "IntegrationOptions", "LinkOptions", "Options", "OutputOptions", "PeakOptions", "RunOptions",
    "SourceOptions", "check_least", "check_links", "notices", "with_rank", "with_token",
]  # fmt: skip


WRITTEN = ("output", "harvest_file", "mille_dir", "save_cell")
"""Options with the name of something that is written."""

AnyOptions = TypeVar("AnyOptions", bound="Options")


@dataclass(frozen=True, kw_only=True)
class Options(EveryOption):
    """All options of a run, checked against each other."""

    def __post_init__(self) -> None:
        check_sources(self)
        check_values(self)
        check_support(self)


def with_token(options: AnyOptions) -> AnyOptions:
    """The options with the token in place of where it is to be read; a pipe can be read only once.

    Raises
    ------
    OptionError
        If there is a file for it that holds none.
    """
    if options.asapo_endpoint is None:
        return options
    token = read_token(options.asapo_token, options.asapo_token_file)
    return replace(options, asapo_token=token, asapo_token_file=None)


def with_rank(options: AnyOptions) -> AnyOptions:
    """The options with the rank of this process in the names of the files that it writes.

    Raises
    ------
    OptionError
        If a name asks for it, and there is none; or it was given, and no name asks for it.
    """
    written = {name: getattr(options, name) for name in WRITTEN}
    ranked = {name: text for name, text in written.items() if text is not None and RANK in text}
    if not ranked and options.rank is not None:
        raise OptionError(f"--rank={options.rank} is for file names with {RANK}, as in -o out.{RANK}.stream")
    if not ranked:
        return options
    rank = str(rank_of(options.rank))
    return replace(options, **{name: text.replace(RANK, rank) for name, text in ranked.items()})
