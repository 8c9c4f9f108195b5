# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/slurm under a real Slurm: one gpuidx is killed, then the job step, then the job is requeued.

The frames come from the stand-in ASAP::O server, which keeps what is not acknowledged; so each must be in the
merged stream exactly once.  A second job is ended by ``scancel --signal=TERM`` while frames flow: what was
received must be in the stream, and nothing else, and nothing is started again.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from asapo_check.crystfel import read_by_crystfel
from asapo_check.setting import (
    GEOMETRY,
    GROUP,
    NO_ANALYSIS,
    NO_DATA,
    PATIENCE,
    RESEND,
    SMALL,
    STREAM,
    TIMEOUT_MS,
    acknowledged,
    read_ids,
    report,
    wait_for_acknowledged,
    what_is_wrong,
)
from many_check.slurm import Slurm

from gpuidx.flow.accounts import DUPLICATE, HIT, STATES
from gpuidx.simulation.asapo.server import StandIn

SCRIPT = Path(__file__).parent / "slurm" / "gpuidx.sbatch"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
PLENTY = 10
"""Times the frames that are waited for before a job is ended."""

AGAIN = "starting it again"
ACCOUNT = re.compile(r"(?m)^ *(\d+)  (received|  \S.*)$")
"""A line of the table at the end of a run: received, or a state in which frames have ended."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--ranks", type=int, default=4)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(SCRIPT.parents[2])  # the job runs this program, installed or not
    os.environ["GPUIDX"] = f"{sys.executable} -m gpuidx"
    with tempfile.TemporaryDirectory(prefix="check-slurm-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Slurm's programs look into it
        with Slurm(folder, asked.ranks) as slurm:
            good = True
            for check in (disturbed, ended):
                own = folder / check.__name__
                own.mkdir()
                with StandIn() as server:
                    job = Job(own, slurm, server, asked.ranks)
                    good &= check(job, server, asked.frames)
    print("all is well" if good else "FAILED")
    return 0 if good else 1


class Job:
    """A job that reads from a server, in a folder of its own."""

    def __init__(self, folder: Path, slurm: Slurm, server: StandIn, n_rank: int) -> None:
        SMALL.put(server, 1)
        server.group(STREAM, GROUP)
        self.slurm, self.n_rank, self.merged = slurm, n_rank, folder / "out.stream"
        self._log = folder / "job.log"
        self.number = slurm.submit(
            f"--ntasks={n_rank}", f"--output={self._log}", str(SCRIPT), *words(folder, server)
        )

    def ask(self, *words: str) -> None:
        """Have one of Slurm's programs do something."""
        print(f"{' '.join(words)}: {self.slurm.ask(*words).strip() or 'done'}", flush=True)

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def has_completed(self) -> bool:
        """Wait for its end; whether it ended well, and has written the stream."""
        end = time.monotonic() + PATIENCE
        while (state := self.slurm.state(self.number)) not in ENDED and time.monotonic() < end:
            time.sleep(0.5)
        if state == "COMPLETED" and self.merged.exists():
            return True
        print(self.log())
        return report(f"job {self.number}", [f"it is {state}"])


def disturbed(job: Job, server: StandIn, n_frame: int) -> bool:
    """Have frames done by a job that is disturbed thrice."""
    disturbances: list[tuple[str, Callable[[], object]]] = [
        ("kill -9 of rank 1", lambda: os.kill(process_of(job.number, 1), signal.SIGKILL)),
        ("a killed step", lambda: job.ask("scancel", "--signal=KILL", f"{job.number}.0")),
        ("a requeue", lambda: job.ask("scontrol", "requeue", job.number)),
        ("the end", lambda: server.finish(STREAM)),
    ]
    quarter = n_frame // len(disturbances)
    for number, (what, disturb) in enumerate(disturbances):
        SMALL.put(server, (number + 1) * quarter - server.store.size(server.source, STREAM))
        if not are_done(job, server, number * quarter + quarter // 2, what):
            return False
        disturb()
    if not job.has_completed():
        return False
    ids, mixed = read_ids(job.merged)
    wrong = what_is_wrong(ids, range(1, quarter * len(disturbances) + 1))
    wrong += [f"{mixed} chunks with another frame's data"] if mixed else []
    restarts = job.log().count(AGAIN)
    wrong += ["nothing was started again"] if restarts < 2 else []
    said = next((line for line in job.log().splitlines() if "left out" in line), "")
    print(said.partition(": ")[2])
    row = f"{sum(ids.values())} frames, {restarts} restarts, 1 requeue "
    good = report(f"{job.n_rank} ranks, disturbed", wrong, row)
    return read_by_crystfel(job.merged, sum(ids.values())) and good


def ended(job: Job, server: StandIn, n_frame: int) -> bool:
    """Have a job ended by a signal while frames flow."""
    SMALL.put(server, PLENTY * n_frame)
    if not are_done(job, server, n_frame, "a signal"):
        return False
    job.ask("scancel", "--signal=TERM", job.number)
    if not job.has_completed():
        return False
    ids, mixed = read_ids(job.merged)
    done = acknowledged(server)
    accounts: Counter[str] = Counter()
    for number, state in ACCOUNT.findall(job.log()):
        accounts[state.strip()] += int(number)
    received, hits = accounts["received"] - accounts[STATES[DUPLICATE]], accounts[STATES[HIT]]
    wrong = what_is_wrong(ids, done)
    wrong += [f"{mixed} chunks with another frame's data"] if mixed else []
    wrong += [f"{len(done)} frames done, {accounts}"] if not received == hits == len(done) else []
    wrong += ["it was not stopped, all were done"] if len(done) > PLENTY * n_frame else []
    wrong += ["something was started again"] if AGAIN in job.log() else []
    good = report(f"{job.n_rank} ranks, ended by SIGTERM", wrong, f"{received} received, all in the stream ")
    return read_by_crystfel(job.merged, sum(ids.values())) and good


def are_done(job: Job, server: StandIn, n_frame: int, what: str) -> bool:
    """Wait until so many frames are acknowledged, and say what comes then."""
    if wait_for_acknowledged(server, n_frame):
        print(f"{len(acknowledged(server)):6} frames acknowledged: {what}", flush=True)
        return True
    print(job.log())
    return report(what, [f"{len(acknowledged(server))} frames done, then no more"])


def words(folder: Path, server: StandIn) -> list[str]:
    """The stream, and the options of the ranks."""
    geometry, token = folder / "check.geom", folder / "token"
    geometry.write_text(GEOMETRY.format(last=SMALL.side - 1, half=SMALL.side / 2))
    token.write_text(server.token)
    return [
        str(folder / "out.stream"), f"--asapo-endpoint={server.endpoint}", f"--asapo-token-file={token}",
        f"--asapo-beamtime={server.beamtime}", f"--asapo-source={server.source}", f"--asapo-group={GROUP}",
        f"--asapo-stream={STREAM}", "--asapo-acks", f"--asapo-resend-after={RESEND}",
        f"--asapo-consumer-timeout={TIMEOUT_MS}", f"--no-data-timeout={3 * NO_DATA}", "-g", str(geometry),
        "--copy-header=frame_number", *NO_ANALYSIS,
    ]  # fmt: skip


def process_of(job: str, rank: int) -> int:
    """The main process of the gpuidx of a rank: the one that a shell has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            said = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            shell = Path(f"/proc/{parent}/comm").read_text()
        except OSError:
            continue
        wanted = {f"SLURM_PROCID={rank}".encode(), f"SLURM_JOB_ID={job}".encode()}
        if wanted <= set(variables) and b"--resume" in said and b"gpuidx" in said and shell == "bash\n":
            return int(folder.name)
    raise RuntimeError(f"no gpuidx of rank {rank}")


if __name__ == "__main__":
    sys.exit(main())
