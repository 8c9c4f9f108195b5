# SPDX-License-Identifier: GPL-3.0-or-later
"""gpuidx and indexamajig on the same frames in turns: frames/s to the file, all cores, CPU path.

MsgPack messages over ZeroMQ (ipc, REP) from this process, which sends as fast as it is asked, on the same
cores.  One line for each run, then medians and the ratio, which is taken turn by turn.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from gpuidx.flow.platform import usable_cpus
from gpuidx.measure.bench import costs_of, predicted, stages_alone
from gpuidx.measure.live import LiveRun, Sender, watch
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings

PROGRAMS = {
    "gpuidx": ["--backend=cpu"],
    "asdf": ["--indexing=asdf"],
    "xgandalf": ["--indexing=xgandalf", "--xgandalf-fast-execution"],
}
"""Words of each that reads the frames."""

HITS = {"blank": 0.0, "20 % hits": 0.2, "all hits": 1.0}
SIZES = {1024: "1M", 2048: "4M"}
ROUNDS, WARM = 3, 4
"""Of the stages alone, and frames of each run that come before it is looked at."""


class Race:
    """The programs on frames of one size."""

    def __init__(self, folder: Path, size: int, seconds: float, jobs: int) -> None:
        self._seconds, self._jobs, self._log = seconds, jobs, folder / "log"
        self.subject = Subject(folder, BuiltIn(size), FrameSettings(), EncodeSettings())
        self.alone = stages_alone(self.subject, ROUNDS)

    def run(self, name: str) -> LiveRun:
        """One program for a while."""
        words = [*self.subject.command(self._jobs, "--zmq-request=next"), *PROGRAMS[name]]
        if name == "gpuidx":
            program = [sys.executable, "-m", "gpuidx"]
        else:
            program = [shutil.which("indexamajig") or "indexamajig"]
            words.append(f"--temp-dir={self.subject.folder}")
        return watch([*program, *words], self.subject.stream, self._seconds, self._log, WARM)

    def turns(self, what: str, names: list[str], n_turn: int) -> dict[str, list[LiveRun]]:
        """All programs in turn, several times."""
        runs: dict[str, list[LiveRun]] = {name: [] for name in names}
        frames = self.subject.series(HITS[what])
        with Sender(frames, "rep", self.subject.address):
            for _ in range(n_turn):
                for name in names:
                    runs[name].append(run := self.run(name))
                    print(
                        f"    {name:9s} {run.rate:8.1f} frames/s, {1e3 * run.everything:7.2f} ms of CPU a "
                        f"frame, {run.n_frame} frames, {run.hits:.2f} hits, {run.indexed:.2f} crystals a "
                        f"frame, {run.cores:.2f} cores, load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
        return runs


def summary(case: str, runs: dict[str, list[LiveRun]], race: Race) -> dict[str, float | str]:
    ours, row = runs["gpuidx"], {"case": case}
    for name, each in runs.items():
        row[name] = statistics.median(run.rate for run in each)
        row[f"{name} CPU ms"] = statistics.median(1e3 * run.everything for run in each)
        if name != "gpuidx":
            pairs = list(zip(ours, each, strict=True))
            row[f"over {name}"] = statistics.median(our.rate / their.rate for our, their in pairs)
            row[f"CPU over {name}"] = statistics.median(t.everything / o.everything for o, t in pairs)
    expected = [predicted(costs_of(race.alone, run), run)[1] / run.rate for run in ours]
    row["predicted over measured"] = statistics.median(expected)
    row["cores"] = statistics.median(run.cores for run in ours)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="that each run is looked at")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(usable_cpus() or (0,)))
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    options = parser.parse_args()
    names = [name for name in PROGRAMS if name == "gpuidx" or shutil.which("indexamajig")]
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            race = Race(Path(folder), size, options.seconds, options.jobs)
            for what in HITS:
                case = f"{SIZES.get(size, f'{size}x{size}')}, {what}"
                print(f"{case}, -j {options.jobs}", flush=True)
                rows.append(summary(case, race.turns(what, names, options.turns), race))
                print(json.dumps(rows[-1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
