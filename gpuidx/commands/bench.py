# SPDX-License-Identifier: GPL-3.0-or-later
"""``gpuidx bench``: what this machine reaches with a user's detector, what limits, what a rate needs."""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from gpuidx.arguments import option, parse
from gpuidx.commands.bench_report import Report
from gpuidx.errors import OptionError
from gpuidx.flow.platform import usable_cpus
from gpuidx.measure.bench import costs_of, live, stages_alone
from gpuidx.measure.model import DeviceCosts
from gpuidx.measure.subject import Subject
from gpuidx.options import RunOptions
from gpuidx.selection import decide
from gpuidx.simulation.detector import check_size
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FRAMES, FrameSettings, check_settings
from gpuidx.start import devices_for, patience

DESCRIPTION = """Measure this machine, in two minutes, with simulated frames of a detector: what each stage
reaches, which one limits, and what a rate needs.  Without -g and -p: a detector of 4 megapixels, and
lysozyme.  Best with nothing else running."""

BENCH = "Measurement"

SLOW = "this takes a moment; the first time, everything is compiled for this machine (a minute or two)"

ROUNDS = 5
"""Times that each frame is taken through the stages."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions(EncodeSettings, FrameSettings):
    """Frames as ``gpuidx simulate`` makes them, and how they are measured."""

    geometry: Optional[str] = option(  # noqa: UP045
        None, "-g", "--geometry", group=FRAMES, metavar="FILE", help="geometry file (.geom)"
    )
    pdb: Optional[str] = option(  # noqa: UP045
        None, "-p", "--pdb", group=FRAMES, metavar="FILE", help="unit cell, as .cell or PDB file"
    )
    size: int = option(2048, group=FRAMES, metavar="N", help="pixels along a side, without a geometry file")
    hit_fraction: float = option(0.2, group=FRAMES, metavar="F", help="share of frames with a crystal")
    rate: float = option(
        0.0, group=BENCH, metavar="HZ", help="of the detector: what it needs is said; 0: of this machine only"
    )
    run: str = option(
        "", group=BENCH, metavar="WORDS",
        help="more options of the run, such as '--peaks=zaef --min-snr=4', in one word",
    )  # fmt: skip
    jobs: int = option(0, "-j", "--jobs", group=BENCH, metavar="N", help="workers; 0: one for each core")
    seconds: float = option(20.0, group=BENCH, metavar="S", help="time that a whole run is looked at")
    backend: str = option(
        "auto", group=BENCH, metavar="NAME", choices=("auto", "cpu", "cuda"), help="as of a run"
    )
    json: bool = option(False, group=BENCH, help="print one JSON object, for scripts")

    def __post_init__(self) -> None:
        for name, least in (("rate", 0.0), ("jobs", 0), ("seconds", 0.1)):
            if not least <= getattr(self, name) < math.inf:
                limits = f"at least {least:g}, and finite"
                raise OptionError(f"--{name} is {getattr(self, name):g}; it must be {limits}")
        check_size(self.size)
        check_settings(self)


def main(argv: Sequence[str]) -> int:
    """Measure, and print the table and the verdict; gives the exit code.

    Raises
    ------
    GpuidxError
        If options or files are wrong, or a run does not work.
    """
    options = parse(BenchOptions, argv, "gpuidx bench", DESCRIPTION)
    n_core = len(usable_cpus() or ()) or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="gpuidx-") as name:
        report = _measure(options, Path(name), n_core)
    print(json.dumps(report.values(), indent=2) if options.json else "\n".join(report.lines()))
    return 0


def _measure(options: BenchOptions, folder: Path, n_core: int) -> Report:
    choice = decide(RunOptions(backend=options.backend))
    words = f"{options.run} --backend={choice.name}"
    subject = Subject(folder, options, options, options, words=words)
    run_options = subject.options()
    if run_options.zmq_receivers:
        raise OptionError("--run: receivers (--zmq-receivers) are not measured here; scripts/bench rate does")
    devices = devices_for(run_options, choice)
    with patience(SLOW):
        alone = stages_alone(subject, ROUNDS, for_device=bool(devices))
    device = _device(subject, devices[0]) if devices else None
    idle = "the CUDA device has nothing to do with these options" if choice.devices and not devices else ""
    jobs = options.jobs or n_core
    run = live(subject, options.hit_fraction, jobs, options.seconds, folder / "log")
    return Report(
        subject=subject, compression=options.compression, alone=alone, run=run,
        costs=costs_of(alone, run, device), note=idle or choice.line, wanted=options.rate,
        hits=options.hit_fraction, n_core=n_core, n_gpu=len(devices), jobs=jobs,
    )  # fmt: skip


def _device(subject: Subject, number: int) -> DeviceCosts:
    from gpuidx.measure.device_costs import device_costs

    return device_costs(subject, number)
