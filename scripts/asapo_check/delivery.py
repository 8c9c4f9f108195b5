# SPDX-License-Identifier: GPL-3.0-or-later
"""Large messages, each once: one run, three of a group, a run that was stopped, another group, a reset."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from asapo_check.setting import (
    GROUP,
    LARGE,
    STREAM,
    Outcome,
    Run,
    acknowledged,
    report,
    wait_for_acknowledged,
    what_is_wrong,
)
from gpuidx.simulation.asapo.server import StandIn

ACKS = "--asapo-acks"


def check(folder: Path, count: int) -> bool:
    """All of it, with *count* messages of 4 MB."""
    everything = range(1, count + 1)
    with StandIn() as server:
        LARGE.put(server, count)
        server.finish(STREAM)
        one = Run(folder / "one", server, ACKS, frames=LARGE, group="alone").wait()
        good = report("one run", one.wrong(everything), _rate(one, count))
        good &= _three(folder, server, count)
        good &= _stopped(folder, server, count)
        other = Run(folder / "other", server, frames=LARGE, group="another").wait()
        good &= report(
            "another group, without acknowledgements", other.wrong(everything), _rate(other, count)
        )
        good &= _reset(folder, server, count)
    return good


def _rate(done: Outcome, count: int) -> str:
    return f"{len(done.ids)} of {count} in {done.seconds:.1f} s "


def _three(folder: Path, server: StandIn, count: int) -> bool:
    runs = [Run(folder / f"three{n}", server, ACKS, "-j1", frames=LARGE, group="three") for n in range(3)]
    done = [run.wait() for run in runs]
    ids: Counter[int] = sum((one.ids for one in done), Counter())
    wrong = [*what_is_wrong(ids, range(1, count + 1)), *(w for one in done for w in one.wrong(set(one.ids)))]
    if acknowledged(server, "three") != set(range(1, count + 1)):
        wrong.append("not all acknowledged")
    return report("three runs of one group", wrong, " + ".join(str(len(one.ids)) for one in done), "")


def _stopped(folder: Path, server: StandIn, count: int) -> bool:
    run = Run(folder / "stopped", server, ACKS, "-j1", frames=LARGE)
    wait_for_acknowledged(server, count // 4)
    run.process.send_signal(signal.SIGINT)
    first = run.wait()
    wrong = first.wrong(set(first.ids))
    if acknowledged(server) != set(first.ids):
        wrong.append(f"{len(acknowledged(server))} acknowledged, {len(first.ids)} in the stream")
    second = Run(folder / "stopped", server, ACKS, frames=LARGE, output="next.stream").wait()
    wrong += second.wrong(set(second.ids)) + what_is_wrong(first.ids + second.ids, range(1, count + 1))
    row = f"{len(first.ids)} until Ctrl-C, then {len(second.ids)} "
    return report("a run that goes on behind another", wrong, row)


def _reset(folder: Path, server: StandIn, count: int) -> bool:
    service = [
        f"--asapo-endpoint={server.endpoint}", f"--asapo-beamtime={server.beamtime}",
        f"--asapo-source={server.source}", f"--asapo-group={GROUP}", f"--asapo-stream={STREAM}",
        f"--asapo-token={server.token}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "gpuidx", "asapo", "reset", *service, "--yes"]
    said = subprocess.run(command, capture_output=True, text=True)
    again = Run(folder / "reset", server, frames=LARGE).wait()
    wrong = again.wrong(range(1, count + 1)) + ([said.stderr] if said.returncode else [])
    return report("the same group after gpuidx asapo reset", wrong, _rate(again, count))
