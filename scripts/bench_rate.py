# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time that each process spends on a frame where a device searches, with a stand-in for the device.

Compressed frames (HDF5, bitshuffle-LZ4) come over ZeroMQ from this process; the stand-in (`rate_run`) answers
at once with what the CPU finds in them.  So what is measured is all that surrounds a device.
With ``--alone`` workers and receivers are stand-ins too, and the main process can go as fast as it can.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rate_run import ALONE, FINDINGS, mark

from gpuidx.measure.live import Sender, StreamCount
from gpuidx.measure.processes import cpu_seconds, thread_seconds, workers
from gpuidx.measure.subject import BuiltIn, Subject
from gpuidx.pipeline import Pipeline
from gpuidx.simulation.formats import EncodeSettings
from gpuidx.simulation.settings import FrameSettings

RATE = 5000
"""Frames a second that a detector of 4 megapixels may give."""

WARM = 200
"""Frames before the measurement begins."""


def compressed_subject(folder: Path, size: int, words: str) -> Subject:
    """Frames of 16 bit that bitshuffle-LZ4 makes about seven times smaller."""
    frames = FrameSettings(dtype="u2", background=(0.4, 2.0))
    return Subject(
        folder, BuiltIn(size), frames, EncodeSettings(format="hdf5", compression="bslz4"), words=words
    )


def write_findings(subject: Subject, file: Path) -> None:
    """What the CPU finds in each message, for the stand-in."""
    pipeline = Pipeline(subject.options(), subject.geometry, subject.cell)
    findings = {}
    for message, *_ in subject.received([*subject.blanks, *subject.hits]):
        (findings[mark(message.data)],) = pipeline.search([pipeline.decode(message)])
    if len(findings) < len(subject.blanks) + len(subject.hits):
        raise SystemExit("two messages look alike: another MARK is needed")
    file.write_bytes(pickle.dumps(findings))


def spent(pid: int, jobs: int) -> dict[str, float]:
    """CPU seconds so far; the children of the run are started in this order."""
    first, *others = thread_seconds(pid) or [0.0]
    children = sorted(workers(pid))
    return {
        "main process, its thread": first,
        "main process, libzmq": sum(others),
        "workers": sum(map(cpu_seconds, children[:jobs])),
        "stand-in": sum(map(cpu_seconds, children[jobs : jobs + 1])),
        "receivers": sum(map(cpu_seconds, children[jobs + 1 :])),
    }


def watched(
    subject: Subject, jobs: int, how: str, n_frame: int, alone: bool = False
) -> tuple[dict[str, float], float]:
    """CPU ms a frame, and frames/s, of a run with the stand-in, or with nothing else."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "rate_run.py"), *subject.command(jobs, how)]
    environment = os.environ | {
        FINDINGS: str(subject.folder / "findings"),
        "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]),
    }
    if alone:
        environment[ALONE] = str(subject.n_byte)
    subject.stream.unlink(missing_ok=True)
    count, log = StreamCount(subject.stream), subject.folder / "log"
    with log.open("wb") as said, subprocess.Popen(command, stderr=said, stdout=said, env=environment) as run:

        def wait(is_over: Callable[[], bool]) -> None:
            while not is_over():
                if run.poll() is not None:
                    raise SystemExit(f"the run ended: {log.read_text()[-2000:]}")
                time.sleep(0.02)

        try:
            wait(lambda: count.look() >= WARM)
            first, begun, before = count.look(), time.monotonic(), spent(run.pid, jobs)
            wait(lambda: count.look() >= first + n_frame)
            n, seconds, after = count.look() - first, time.monotonic() - begun, spent(run.pid, jobs)
        finally:
            run.terminate()
    if "frames done on the CPU" in (said_so := log.read_text()):
        raise SystemExit(f"the stand-in did not do all: {said_so[-3000:]}")
    return {name: 1e3 * (after[name] - before[name]) / n for name in before}, n / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--hits", type=float, nargs="*", default=[0.0, 0.2])
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--receivers", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--serve", choices=("rep", "push"), default="rep")
    parser.add_argument("--alone", action="store_true", help="stand-ins for workers and receivers, too")
    given = parser.parse_args()
    if given.alone and 0 in given.receivers:
        parser.error("--alone has stand-ins for receivers: give --receivers=1 or more")
    how = "--zmq-pull" if given.serve == "push" else "--zmq-request=next"
    with tempfile.TemporaryDirectory() as name:
        for n_receiver in given.receivers:
            subject = compressed_subject(Path(name), given.size, f"--zmq-receivers={n_receiver}")
            write_findings(subject, subject.folder / "findings")
            for hits in [0.0] if given.alone else given.hits:
                with Sender(subject.series(hits), given.serve, subject.address):
                    costs, rate = watched(subject, given.j, how, given.frames, given.alone)
                kind = f"{given.size}², {subject.n_byte / 1e6:.2f} MB a message ({given.serve})"
                load = f"load {os.getloadavg()[0]:.1f}"
                print(f"{kind}, {hits:.0%} hits, {n_receiver} receivers, {rate:.0f} frames/s, {load}")
                for process, ms in costs.items():
                    if ms:
                        need = 1e-3 * ms * RATE
                        print(f"  {process:26s} {ms:7.3f} ms a frame; {need:5.2f} cores at {RATE}/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
