# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``gpuidx bench`` says: a table of stages, what limits, what a rate needs."""

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gpuidx.measure.bench import STAGES, Alone, predicted
from gpuidx.measure.live import LiveRun
from gpuidx.measure.model import (
    BUS,
    CORES,
    HEADROOM,
    KERNELS,
    NETWORK,
    RECEIVING,
    Costs,
    Needs,
    limits,
    needs,
    slowest,
)
from gpuidx.measure.subject import Subject

NAMES = {
    RECEIVING: "the thread that receives and writes",
    NETWORK: "the thread of the network",
    CORES: "the cores",
    BUS: "the bus to the GPU",
    KERNELS: "the GPU's kernels",
}
"""What may limit, in words."""

_ROW = "{:38s} {:>12s} {:>12s} {:>14s}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was measured, and what follows.

    Attributes
    ----------
    subject, compression
        What was measured, and the compression that was asked for.
    alone, run, costs
        From `gpuidx.measure.bench`.
    note
        What did the array work, and why.
    wanted, hits
        Frames per second, 0 if nobody asks, and the share of hits.
    n_core, n_gpu, jobs
        Of the machine, and workers of the run that was measured.
    """

    subject: Subject
    compression: str
    alone: Alone
    run: LiveRun
    costs: Costs
    note: str
    wanted: float
    hits: float
    n_core: int
    n_gpu: int
    jobs: int

    @property
    def limits(self) -> dict[str, float]:
        """Frames per second that each resource of this machine allows, if frames come from elsewhere."""
        return limits(self.costs, self.hits, self.n_core, self.n_gpu)

    @property
    def needs(self) -> Needs | None:
        """What the wanted rate takes."""
        return needs(self.costs, self.hits, self.wanted) if self.wanted else None

    def values(self) -> dict[str, Any]:
        """For scripts; times in seconds of a frame, rates in frames per second."""
        limit, rate = slowest(self.limits)
        return {
            "frames": {
                "pixels": self.subject.n_pixel, "dtype": self.subject.dtype, "format": self.subject.format,
                "bytes": self.subject.n_byte, "hit_fraction": self.hits,
            },
            "machine": {
                "cores": self.n_core, "gpus": self.n_gpu, "load": os.getloadavg()[0], "note": self.note,
            },
            "alone": asdict(self.alone), "costs": asdict(self.costs),
            "run": {**asdict(self.run), "rate": self.run.rate, "cores": self.run.cores},
            "predicted_run": predicted(self.costs, self.run)[1],
            "limits": {name: value for name, value in self.limits.items() if math.isfinite(value)},
            "limit": limit, "rate": rate, "wanted": self.wanted or None,
            "needs": asdict(self.needs) if self.needs else None,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        return [*self._head(), "", *self._table(), "", *self._run(), "", *self._verdict()]

    def _head(self) -> Iterator[str]:
        s = self.subject
        compression = f", {self.compression}" if self.compression else ""
        yield (
            f"{s.n_pixel / 1e6:.1f} million pixels {s.dtype}, {s.format}{compression}: "
            f"{s.n_byte / 1e6:.2f} MB a message; {self.hits:.0%} hits"
        )
        yield f"{self.n_core} cores, load average {os.getloadavg()[0]:.1f}; {self.note}"

    def _table(self) -> Iterator[str]:
        yield _ROW.format("stage, on one core", "blank, ms", "hit, ms", "frames/s, mean")
        for stage in STAGES:
            blank, hit = self.alone.blank[stage], self.alone.hit[stage]
            yield _row(stage, blank, hit, (1 - self.hits) * blank + self.hits * hit)
        c = self.costs
        for what, seconds in (
            ("copy into a slot", c.copy),
            ("rest of the main thread, writing included", c.receive),
            ("thread of the network", c.network),
        ):
            yield _row(what, seconds, seconds, seconds)
        if c.device is not None:
            yield _row("GPU: upload", c.device.upload, c.device.upload, c.device.upload)
            hit = c.device.search + c.device.trials
            yield _row("GPU: kernels", c.device.search, hit, c.device.search + self.hits * c.device.trials)

    def _run(self) -> Iterator[str]:
        run = self.run
        limit, rate = predicted(self.costs, run)
        yield (
            f"a whole run, -j {self.jobs}, {run.seconds:.0f} s: {run.rate:.1f} frames/s to the file, "
            f"{run.hits:.0%} hits, {run.indexed:.0%} indexed; with the sender on the same machine it had "
            f"{run.cores:.1f} cores"
        )
        yield (
            f"CPU time of a frame: main thread {1e3 * run.main:.2f} ms, network {1e3 * run.network:.2f}, "
            f"workers {1e3 * run.workers:.2f}, sender {1e3 * run.source:.2f}"
        )
        if self.costs.device is None:
            yield f"the stages alone let expect {rate:.1f} frames/s of it (limit: {NAMES[limit]})"

    def _verdict(self) -> Iterator[str]:
        allowed = ", ".join(
            f"{NAMES[name]} {rate:.0f}" for name, rate in self.limits.items() if math.isfinite(rate)
        )
        yield f"frames/s that each allows, with the sender elsewhere: {allowed}"
        limit, rate = slowest(self.limits)
        yield f"This machine: {rate:.0f} frames/s; {NAMES[limit]} limit."
        if self.needs is not None:
            n = self.needs
            gpus = f", {n.gpus} GPUs" if n.gpus else ""
            shared = "programs that share the source out" if n.programs > 1 else "program"
            yield (
                f"{self.wanted:g} frames/s, at {HEADROOM:.0%} load, need: {n.cores} cores (-j {n.workers}), "
                f"{n.programs} {shared}{gpus}."
            )
            if self.wanted <= HEADROOM * rate:
                yield "This machine keeps up with it."
            else:
                yield f"This machine does not: it keeps up with {HEADROOM * rate:.0f} frames/s."


def _row(what: str, blank: float, hit: float, mean: float) -> str:
    rate = f"{1 / mean:.0f}" if mean > 0 else "-"
    return _ROW.format(what, f"{1e3 * blank:.3f}", f"{1e3 * hit:.3f}", rate)
