# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of all stages in one class."""

from dataclasses import dataclass

from gpuidx.arguments import option
from gpuidx.options.foreign import FOREIGN
from gpuidx.options.indexing import IndexOptions
from gpuidx.options.integration import IntegrationOptions
from gpuidx.options.output import OutputOptions
from gpuidx.options.peaks import PeakOptions
from gpuidx.options.running import RunOptions
from gpuidx.options.source import SourceOptions
from gpuidx.options.values import BASIC

OPTIONAL_PARTS = ("zaef", "peakfinder9", "filters", "no cell", "prof2d")
"""What is compiled only for runs that need it."""

PARTS_VARIABLE = "GPUIDX_PARTS"
"""Tells the forkserver, which has no options, which of these to compile; without it all."""

OWN = (
    "advise_after", "asapo_follow", "asapo_readers", "asapo_resend_after", "asapo_token_file",
    "axis_range", "backend", "consensus_cell", "debug", "gpu_batch", "gpu_devices", "gpu_max_latency",
    "gpu_memory", "max_frames", "rank", "refine_shift", "resume", "save_cell", "slot_size", "slots",
    "status_interval", "task_limit", "zmq_bind", "zmq_own_key", "zmq_pull", "zmq_receivers", "zmq_requests",
    "zmq_server_key", "zmq_timeout",
)  # fmt: skip
"""Options that indexamajig does not have."""


@dataclass(frozen=True, kw_only=True)
class EveryOption(RunOptions, OutputOptions, IntegrationOptions, IndexOptions, PeakOptions, SourceOptions):
    """All options of a run.

    Attributes
    ----------
    without_effect
        Spellings of options of indexamajig that were given and do nothing.
    """

    without_effect: tuple[str, ...] = option((), group=BASIC, help="", foreign=FOREIGN)

    @property
    def engine_names(self) -> tuple[str, ...]:
        """Methods of CrystFEL that ``--indexing`` names."""
        return tuple(n for n in (self.indexing or "").split(",") if n and n != "none")

    def optional_parts(self, has_cell: bool) -> list[str]:
        """Those of `OPTIONAL_PARTS` that this run needs, with or without a target cell."""
        needed = {
            self.peaks,
            "filters" if self.filters else "",
            "no cell" if self.makes_trials and not has_cell else "",
            "prof2d" if "prof2d" in self.integration else "",
        }
        return [part for part in OPTIONAL_PARTS if part in needed]

    @property
    def does_index(self) -> bool:
        """Whether frames are to be indexed at all."""
        return self.indexing is None or bool(self.engine_names)

    @property
    def makes_trials(self) -> bool:
        """Whether lattices are to be looked for, not taken from a file."""
        return self.does_index and self.fromfile_input_file is None


def flag(name: str) -> str:
    """The word of the command line for a field."""
    return "-j" if name == "jobs" else "--" + name.replace("_", "-")
